"""Strands sessions in one local SQLite file.

`SQLiteSessionManager` takes the place of Strands' `S3SessionManager` or `FileSessionManager`;
`SQLiteSessionRepository` is the database as a whole.

The names are imported when they are first used: importing `strands` takes most of a second, and
whoever only reads the file does not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalog import SessionSummary
    from .copying import copy_session
    from .exceptions import StaleSessionException
    from .manager import SQLiteSessionManager
    from .repository import SQLiteSessionRepository
    from .search import MessageMatch
    from .stores import FileSessionRepository, S3SessionRepository

__all__ = [
    "FileSessionRepository",
    "MessageMatch",
    "S3SessionRepository",
    "SQLiteSessionManager",
    "SQLiteSessionRepository",
    "SessionSummary",
    "StaleSessionException",
    "copy_session",
]
__version__ = "0.1.0"

_MODULES = {
    "FileSessionRepository": "stores",
    "MessageMatch": "search",
    "S3SessionRepository": "stores",
    "SessionSummary": "catalog",
    "SQLiteSessionManager": "manager",
    "SQLiteSessionRepository": "repository",
    "StaleSessionException": "exceptions",
    "copy_session": "copying",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported yet or not."""
    return sorted({*globals(), *__all__})
