"""Strands sessions in one local SQLite file.

`SQLiteSessionManager` replaces Strands' `S3SessionManager` or `FileSessionManager`. `SQLiteSessionRepository` works on
the file as a whole: list, search, fork, delete, back up. `SQLiteStorage` replaces Strands' `S3Storage` or
`LocalFileStorage`, for snapshots, offloaded context and memory.

The package's layers, from the top; each uses only those below it:

- `cli`: the command `strands-sqlite`
- `manager`, `repository`, `storage`: the classes above, in terms of the layers below
- `transfer`: JSON Lines, and copies between this store and others
- `sessions`: one module for each operation on sessions
- `context`: what an agent holds, kept exactly
- `blobs`: bytes under keys, in shared blocks
- `database`: one SQLite file: schema, connections, transactions
- `errors`: every exception

`README.md` in this folder is the long version for contributors.

Public names are imported on first use, and so is `errors`: importing `strands` takes most of a second, and most
commands that only read the file do without it.
"""

import sys
from importlib import import_module
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .errors import DatabaseLockedException, SessionExistsException, SessionNotFoundException, StaleSessionException
    from .manager import SQLiteSessionManager
    from .repository import SQLiteSessionRepository
    from .sessions.listing import SessionSummary
    from .sessions.search import MessageMatch
    from .sessions.usage import UsageSummary
    from .storage import SQLiteStorage
    from .transfer.copy import copy_session
    from .transfer.snapshots import SnapshotRepository
    from .transfer.stores import FileSessionRepository, S3SessionRepository

__all__ = [
    "DatabaseLockedException",
    "FileSessionRepository",
    "MessageMatch",
    "S3SessionRepository",
    "SQLiteSessionManager",
    "SQLiteSessionRepository",
    "SQLiteStorage",
    "SessionExistsException",
    "SessionNotFoundException",
    "SessionSummary",
    "SnapshotRepository",
    "StaleSessionException",
    "UsageSummary",
    "copy_session",
]
__version__ = "0.1.0"

_MODULES = {
    "DatabaseLockedException": "errors",
    "FileSessionRepository": "transfer.stores",
    "MessageMatch": "sessions.search",
    "S3SessionRepository": "transfer.stores",
    "SQLiteSessionManager": "manager",
    "SQLiteSessionRepository": "repository",
    "SQLiteStorage": "storage",
    "SessionExistsException": "errors",
    "SessionNotFoundException": "errors",
    "SessionSummary": "sessions.listing",
    "SnapshotRepository": "transfer.snapshots",
    "StaleSessionException": "errors",
    "UsageSummary": "sessions.usage",
    "copy_session": "transfer.copy",
}


def _load_on_first_use(name: str) -> Any:
    spec = find_spec(f"{__name__}.{name}")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    errors = _load_on_first_use("errors")


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether or not they were imported yet."""
    return sorted({*globals(), *__all__})
