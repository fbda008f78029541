"""One user's access to a database file: all reads and writes go through here, and failures name the file."""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

from .. import errors
from . import files, pool
from .connections import Connect, Connection, Settings, check_own_sqlite
from .fork_gate import FORK_GATE
from .locks import locked
from .transactions import transact
from .values import UnreadableError
from .writers import Write

Row = tuple[Any, ...]
_T = TypeVar("_T")
MAX_INTEGER = 2**63 - 1  # SQLite's

FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError, UnreadableError)
"""The errors that become a `SessionException` that names the file."""
_WAL_WAIT = 0.1  # seconds that `empty_wal` waits for readers
_PAUSE = 0.002  # seconds between two attempts to empty the write-ahead log


class Database:
    """An open database file; safe to use from any thread.

    Wherever an exception strikes, such as a `KeyboardInterrupt`, no transaction and no lock stays behind.

    Attributes:
        path: The file's absolute path, or `:memory:`.
        connect: The function that opens connections; None uses `sqlite3`.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None,
        *,
        synchronous: str = "FULL",
        timeout: float = 30.0,
        connect: Connect | None = None,
        read_only: bool = False,
    ) -> None:
        """Open the file, creating or upgrading it as needed.

        Args:
            db_path: See `files.resolve`.
            synchronous: FULL or NORMAL.
            timeout: Seconds to wait for other writers.
            connect: Opens a connection to a path; None uses `sqlite3`.
            read_only: Whether the file must exist, and must not be written to.

        Raises:
            TypeError: If the path is not text, or `connect` cannot be called or returns no connection.
            ValueError: If the path is empty or names a folder, or a setting is unsupported.
            SessionException: If the file cannot be opened, or is not one of ours; or if SQLite is too old.
        """
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous=<{synchronous!r}> | must be 'FULL' or 'NORMAL'")
        # SQLite counts milliseconds in 32 bits.
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 2**31 / 1000:
            raise ValueError(f"timeout=<{timeout!r}> | must be a positive number of seconds, at most 24 days")
        if connect is None:
            check_own_sqlite()
        elif not callable(connect):
            raise TypeError(f"connect=<{type(connect).__name__}> | must be a function of a path")
        self.connect = connect
        self.read_only = read_only
        self.settings = Settings(synchronous, timeout)
        self.path = files.resolve(db_path)
        self._user = pool.User()
        self._pool = self._translated(
            FORK_GATE.inside, pool.acquire, self._user, self.path, self.settings, connect, read_only
        )
        # It gets the user itself: a weak reference to this object could still count as alive when it runs.
        self._finalizer = weakref.finalize(self, pool.release, self._pool, self._user)
        self._finalizer.atexit = False  # handlers that run at exit may still use it
        self._is_closed = False

    def close(self) -> None:
        """Stop using the file; its connections are closed once nothing in the process uses it. May be repeated."""
        self._is_closed = True
        self._finalizer()

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that open the same file in the same way, in this process or another one.

        Raises:
            TypeError: If the database is in memory, or was opened with a `connect` function.
        """
        if self.path == files.MEMORY:
            raise TypeError(":memory: | a database in memory cannot be pickled or copied: use a file")
        if self.connect is not None:
            raise TypeError(
                f"{self.path} | what was opened with `connect` cannot be pickled or copied, since the function may"
                " hold a key: open the file again where you need it"
            )
        arguments = {"db_path": self.path, "synchronous": self.settings.synchronous, "timeout": self.settings.timeout}
        return {**arguments, "read_only": True} if self.read_only else arguments

    @overload
    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]: ...

    @overload
    def read(self, sql: str, parameters: Sequence[Any], decode: Callable[[Row], _T]) -> list[_T]: ...

    def read(self, sql: str, parameters: Sequence[Any] = (), decode: Callable[[Row], Any] | None = None) -> list[Any]:
        """Return all rows of one query.

        Args:
            sql: The query.
            parameters: Its parameters.
            decode: Converts each row; None leaves it as it is.

        Raises:
            SessionException: If SQLite fails, or a row cannot be decoded.
        """

        def fetch(connection: Connection) -> list[Any]:
            rows = connection.raw.execute(sql, parameters).fetchall()
            return rows if decode is None else list(map(decode, rows))

        return self._use(fetch)

    def snapshot(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Call `work` with a connection that sees one moment of the file throughout, and return its result.

        It never waits for a writer. Cursors must not outlive an exception, see `transactions.transact`.

        Raises:
            SessionException: If SQLite fails, or a row cannot be decoded.
        """

        def look(connection: Connection) -> _T:
            if connection.raw.in_transaction:  # it sees one moment already
                return work(connection.raw)
            return transact(connection.raw, "BEGIN", work)

        return self._use(look)

    def write(self, sql: str, parameters: Sequence[Any] = (), *, exists: str = "", orphan: str = "") -> int:
        """Run one statement as a transaction of its own and return how many rows it changed.

        Args:
            sql: The statement.
            parameters: Its parameters.
            exists: The message if the key is taken.
            orphan: The message if the row that this one belongs to does not exist.

        Raises:
            SessionException: If SQLite fails, other writers take too long, or a constraint does not allow it.
        """

        def execute(raw: sqlite3.Connection) -> int:
            try:
                return raw.execute(sql, parameters).rowcount
            except raw.IntegrityError as error:
                errors.raise_violation(error, exists, orphan)

        return int(self.do(Write(execute, self.settings, is_statement=True)))

    def transaction(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Call `work` with a connection in a transaction, and return its result; all of its writes happen, or none.

        Raises:
            SessionException: If SQLite fails, or other writers take too long.
        """
        return self.do(Write(work, self.settings))  # type: ignore[no-any-return]

    def do(self, write: Write) -> Any:
        """Do a write and return its result.

        Raises:
            SessionException: As `transaction`.
        """
        self._refuse_within_transaction()
        return self._translated(self._pool.writers.write, write)

    def submit(self, write: Write) -> bool:
        """Queue a write without waiting; return False if the interpreter is shutting down, and nothing can be queued.

        Raises:
            SessionException: If the calling thread is in the middle of a read or a write.
        """
        self._refuse_within_transaction()
        try:
            self._pool.writers.submit(write)
        except RuntimeError:
            return False
        return True

    def is_done(self, write: Write) -> bool:
        """Wait for the outcome of a queued write, and return whether it took place.

        Returns:
            False also if this is unknown, because the write was not queued or failed.

        Raises:
            DatabaseLockedException: If the write takes longer than `timeout`.
        """
        outcome = write.outcome
        if outcome is None:
            return False
        if not outcome.wait(self.settings.timeout) and not outcome.withdraw():
            raise self.failure(locked())
        return not outcome.is_withdrawn and outcome.error is None

    def _exclusively(self, work: Callable[[Connection], _T], settings: Settings | None = None) -> _T:
        self._refuse_within_transaction()
        return self._translated(self._pool.writers.exclusively, settings or self.settings, work)  # type: ignore[no-any-return]

    def vacuum(self) -> None:
        """Rewrite the file without unused space, and empty the write-ahead log.

        Raises:
            SessionException: If SQLite fails, others use the file for too long, or a reader keeps what was deleted in
                the write-ahead log.
        """
        self._exclusively(lambda connection: connection.raw.execute("VACUUM"))
        if not self.empty_wal(self.settings.timeout):
            raise errors.DatabaseLockedException(
                f"{self.path} | the file was rewritten, but a reader or another writer kept the write-ahead log in use"
                f" for {self.settings.timeout:g} seconds, and what was deleted may still be in it: try again"
            )

    def empty_wal(self, patience: float = _WAL_WAIT) -> bool:
        """Checkpoint and truncate the write-ahead log, so that it holds nothing that was deleted.

        Args:
            patience: Seconds to wait for readers of an older view and for writers.

        Returns:
            Whether it was done.

        Raises:
            SessionException: If SQLite fails.
        """
        end = time.monotonic() + patience
        while True:
            settings = replace(self.settings, timeout=max(end - time.monotonic(), 0.001), waits=False)
            try:
                if self._exclusively(Connection.empty_wal, settings):
                    break
            except errors.DatabaseLockedException:
                pass
            if time.monotonic() > end:
                return False
            time.sleep(_PAUSE)  # SQLite waits in longer steps, and not for a checkpoint of another process
        # A power failure must not bring back the truncated content.
        self._translated(files.sync, f"{self.path}-wal")
        return True

    def _use(self, work: Callable[[Connection], _T]) -> _T:
        self._check_open()
        return self._translated(self._pool.use, self.settings, work)  # type: ignore[no-any-return]

    def _check_open(self) -> None:
        if self._is_closed:  # not whether the finalizer has run: that comes before the `__del__` of what uses this
            raise errors.SessionException(f"{self.path} | this object was closed; open the file again")

    def _refuse_within_transaction(self) -> None:
        """Refuse to write inside a transaction of the same thread: it could still be rolled back."""
        self._check_open()
        if self._pool.is_in_use_here:
            raise errors.SessionException(
                f"{self.path} | this thread is in the middle of a read or a write: nothing can be written in the"
                " `progress` of a backup, or in a signal handler that interrupts one of our calls"
            )

    def _translated(self, work: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return work(*arguments)
        except FAILURES as error:
            raise self.failure(error) from error

    def failure(self, error: BaseException) -> Exception:
        """Return the exception that explains one of `FAILURES` to a user, with the error as its cause."""
        failure = errors.from_database(self.path, error, self.settings.timeout)
        failure.__cause__ = error
        return failure
