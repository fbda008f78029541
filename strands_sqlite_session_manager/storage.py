"""SQLiteStorage: Strands' `Storage` on a SQLite file."""

import builtins
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .blobs import values
from .blobs.keys import check_storable, normalize_key, normalize_prefix
from .blobs.recent import Recent
from .blobs.search import search
from .context.strands_private import ephemeral_mark, namespaced_mark
from .database import files
from .database.database import Database
from .database.event_loops import in_thread, result_of
from .database.writers import Write

try:
    import strands.storage  # noqa: F401
    from strands.types.exceptions import SessionException, StorageError
except ImportError as error:
    raise ImportError(
        f"SQLiteStorage needs strands-agents 1.48 or newer, and this is {version('strands-agents')}:"
        " pip install -U 'strands-agents>=1.48'"
    ) from error

if TYPE_CHECKING:
    from strands.storage.search import StorageSearchResult

_Self = TypeVar("_Self", bound="SQLiteStorage")
_T = TypeVar("_T")
_QUICK = 65536  # bytes that are cut into blocks in less time than a thread takes to start


class SQLiteStorage:
    """A Strands `Storage` on one SQLite file: snapshots, offloaded context, memory.

    The file can be that of a `SQLiteSessionManager`: its backups have everything, and writers commit together. If a
    value resembles the last one under its key, or any other, only the difference is written.

    You can use it from any thread and any event loop, pickle and copy it, and need not close it. An event loop never
    waits for the file.

    Example:
        ```python
        storage = SQLiteStorage("sessions.db")
        agent = Agent(session_manager=SnapshotSessionManager("my-session", storage=storage))
        ```
    """

    _namespaced: object
    _ephemeral: object

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
        connect: Callable[[str], sqlite3.Connection] | None = None,
    ) -> None:
        """Open a database file, creating or upgrading it as needed.

        Args:
            db_path: The file. `~` is expanded, and missing folders are created. None uses the environment variable
                `STRANDS_SQLITE_DB_PATH`, or `./sessions.db` if it is not set. `:memory:` is a database in memory,
                private to this object.
            synchronous: With FULL, what was stored survives a power failure. NORMAL is faster; a power failure can undo
                the latest writes, but never damages the file.
            timeout: Seconds to wait for other writers, more than 0.
            connect: Opens a connection to a path, for a driver that encrypts, such as `sqlcipher3`; None uses
                `sqlite3`. It returns what `sqlite3.connect(path, check_same_thread=False)` would, with the key set.
                Everything in a process that uses a file at the same time must pass the same function.

        Raises:
            TypeError: If the path is not text, or `connect` is not a function that returns a connection.
            ValueError: If the path is empty or names a folder, or a setting is unsupported.
            StorageError: If the file cannot be opened, is not a database of this package, was written by a newer
                version of it, or has a second name (a hard link); or if it was locked for `timeout` seconds.
        """
        try:
            self._database = Database(db_path, synchronous=synchronous, timeout=timeout, connect=connect)
        except SessionException as error:
            raise StorageError(str(error)) from error
        self._recent = Recent()
        self._prefix = ""
        if self._database.path == files.MEMORY:
            self._ephemeral = ephemeral_mark()

    def close(self) -> None:
        """Stop using the file, in all namespaces; its connections are closed once nothing in the process uses them."""
        self._database.close()

    def __enter__(self: _Self) -> _Self:
        """Return the object itself; the end of the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe how to open the same file again, for `pickle` and `copy`.

        Raises:
            TypeError: If the database is in memory, or was opened with a `connect` function.
        """
        return _reopen, (type(self), self._database.arguments(), self._prefix, hasattr(self, "_namespaced"))

    async def write(self, key: str, data: bytes) -> None:
        """Store a value under a key, replacing any value there. It is stored completely or not at all.

        Args:
            key: The key. Runs of `/` count as one, and those at its ends as none.
            data: The value.

        Raises:
            StorageError: If the key is empty, holds a backslash, a part `..` or a lone surrogate; if the value is not
                made of bytes; or if it cannot be written.
        """
        with _as_storage_errors():
            stored_key = self._prefix + normalize_key(key)
            check_storable(stored_key)
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f"data=<{type(data).__name__}> | must be bytes")
            value = bytes(data)
            cut = self._recent.cut
            blocks = cut(stored_key, value) if len(value) <= _QUICK else await in_thread(cut, stored_key, value)
            await self._do(lambda connection: values.write(connection, stored_key, blocks))

    async def read(self, key: str) -> bytes | None:
        """Return the value under a key, or None if there is none.

        Args:
            key: The key.

        Raises:
            StorageError: If the key is empty, or holds a backslash or a part `..`; or if the value cannot be read.
        """
        with _as_storage_errors():
            stored_key = self._prefix + normalize_key(key)
            return await self._look(self._recent.read, stored_key)

    async def delete(self, key: str) -> None:
        """Delete a key with its value; do nothing if the key does not exist.

        What is deleted is overwritten in the file. The write-ahead log can hold it until SQLite reuses that space.

        Args:
            key: The key.

        Raises:
            StorageError: If the key is empty, or holds a backslash or a part `..`; or if the file cannot be written.
        """
        with _as_storage_errors():
            stored_key = self._prefix + normalize_key(key)
            await self._do(lambda connection: values.delete(connection, [stored_key]))

    async def list(self, query: str = "") -> builtins.list[str]:
        """Return the keys with a prefix, in ascending order.

        Args:
            query: The prefix. It can end in the middle of a part of a key, and is case-sensitive.

        Raises:
            StorageError: If the prefix holds a backslash or a part `..`, or the file cannot be read.
        """
        with _as_storage_errors():
            keys = await self._look(values.list_keys, self._prefix + normalize_prefix(query))
            return [key[len(self._prefix) :] for key in keys]

    async def search(self, query: str) -> "builtins.list[StorageSearchResult]":
        """Return the values that contain words of a query, ranked as by Strands' keyword search, best first.

        It reads only the values of this namespace.

        Args:
            query: The query.

        Raises:
            StorageError: If the file cannot be read, or Strands is older than 1.54 and has no search.
        """
        with _as_storage_errors():
            return await in_thread(search, self._database, self._prefix, query)

    def namespace(self: _Self, prefix: str) -> _Self:
        """Return a view of the keys below a prefix; it takes and returns them without the prefix.

        Args:
            prefix: The prefix; a `/` is added to it.

        Raises:
            StorageError: If the prefix holds a backslash or a part `..`.
        """
        with _as_storage_errors():
            added = normalize_prefix(prefix).rstrip("/")
        return self._view(f"{self._prefix}{added}/" if added else self._prefix)

    def _view(self: _Self, prefix: str) -> _Self:
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view._prefix = prefix
        view._namespaced = namespaced_mark()
        return view

    async def _look(self, look: Callable[[sqlite3.Connection, str], _T], name: str) -> _T:
        return await in_thread(self._database.snapshot, lambda connection: look(connection, name))

    async def _do(self, work: Callable[[sqlite3.Connection], None]) -> None:
        write = Write(work, self._database.settings)
        if self._database.submit(write):
            await result_of(self._database, write)
        else:  # the interpreter is shutting down
            self._database.do(write)


def _reopen(kind: type[Any], arguments: dict[str, Any], prefix: str, is_namespaced: bool) -> Any:
    storage = kind(**arguments)
    return storage._view(prefix) if is_namespaced else storage


@contextmanager
def _as_storage_errors() -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(str(error)) from error
