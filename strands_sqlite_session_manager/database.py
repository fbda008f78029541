"""One user's access to a database file: reads, writes and transactions, with every failure named."""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar, overload

from . import files, pool
from .connection import Connect, Connection, Settings, check_own_sqlite, locked, raise_as_standard
from .errors import UnreadableError, database_exception, session_exception
from .fork_gate import FORK_GATE

Row = tuple[Any, ...]
_Record = TypeVar("_Record")
MOST = 2**63 - 1  # what SQLite can count to

_LOG_WAIT = 1  # seconds that `empty_log` waits for readers and writers
_LOG_PAUSE = 0.005


class Database:
    """A database file, opened; safe to use from any thread.

    Attributes:
        path: The file's absolute path, or `:memory:`.
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
            timeout: Seconds to wait for another writer.
            connect: Opens a connection to a path; None takes `sqlite3`.
            read_only: Whether the file must be there, and must not be touched.

        Raises:
            TypeError: If the path is not text, or `connect` cannot be called or gives no connection.
            ValueError: If the path is empty, or a setting is none that there is.
            SessionException: If the file cannot be opened, or is not for us; or if SQLite is too old.
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
        self._settings = Settings(synchronous, timeout)
        self.path = files.resolve(db_path)
        self._pool = self._acquire_pool(read_only)
        self._release_pool = weakref.finalize(self, pool.release, self._pool)

    def _acquire_pool(self, read_only: bool) -> pool.Pool:
        FORK_GATE.enter()
        try:
            return pool.acquire(self.path, self._settings, self.connect, read_only)
        except OSError as error:
            raise session_exception(f"{self.path} | cannot be opened: {error}") from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise database_exception(self.path, error, self._settings.timeout) from error
        finally:
            FORK_GATE.leave()

    def close(self) -> None:
        """Stop using the file; its connections are closed when nobody in the process uses it. May be repeated."""
        self._release_pool()

    @overload
    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]: ...

    @overload
    def read(self, sql: str, parameters: Sequence[Any], decoded: Callable[[Row], _Record]) -> list[_Record]: ...

    def read(self, sql: str, parameters: Sequence[Any] = (), decoded: Callable[[Row], Any] | None = None) -> list[Any]:
        """Return all rows of one query.

        Args:
            sql: The query.
            parameters: Its parameters.
            decoded: What to make of each row.

        Raises:
            SessionException: If SQLite fails, or a row holds what cannot be decoded.
        """
        with _Visit(self) as connection:
            rows = connection.execute(sql, parameters).fetchall()
            return rows if decoded is None else list(map(decoded, rows))

    def write(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        violated: Callable[[Exception], Exception | None] = lambda error: None,
    ) -> int:
        """Run one statement as a transaction of its own and return how many rows it changed.

        Args:
            sql: The statement.
            parameters: Its parameters.
            violated: Says what it means if a constraint does not allow it, or None if it cannot tell.

        Raises:
            SessionException: If SQLite fails, or another writer takes too long.
        """
        with _Visit(self, writing=True) as connection:
            if connection.in_transaction:
                raise self._refusal()
            try:
                return connection.execute(sql, parameters).rowcount
            except connection.IntegrityError as error:
                meaning = violated(error)
                if meaning is None:
                    raise
                raise meaning from error

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Run several statements as one: all of them happen, or none; readers see the same moment throughout.

        Args:
            write: Whether anything is written; a transaction that only reads waits for no writer.

        Raises:
            SessionException: As `write`.
        """
        with _Visit(self, writing=write) as connection:
            if connection.in_transaction:
                if write:
                    raise self._refusal()
                yield connection  # of one moment already
                return
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _refusal(self) -> Exception:
        """Say why nothing is written inside a transaction of the same thread: it could still be rolled back."""
        return session_exception(
            f"{self.path} | nothing can be written in the middle of what this thread does: in the `progress` of a"
            " backup, for example"
        )

    def empty_log(self) -> bool:
        """Bring the write-ahead log into the file and cut it off, so that it holds nothing that was deleted.

        Returns:
            False if a reader that holds an older view of the database, or another process that writes, keeps it from
            being done for a second.

        Raises:
            SessionException: If SQLite fails, or a thread of this process writes for too long.
        """
        end = time.monotonic() + _LOG_WAIT
        while True:
            visit = _Visit(self, writing=True)
            with visit as connection:
                visit.connection.wait_at_most(_LOG_WAIT)
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                self._sync_log()
                return True
            if time.monotonic() > end:
                return False
            time.sleep(_LOG_PAUSE)  # for a checkpoint of another process SQLite does not wait

    def _sync_log(self) -> None:
        """Wait until the log is on the disk, lest a power failure bring back what was cut off."""
        try:
            files.sync(f"{self.path}-wal")
        except OSError as error:
            raise database_exception(self.path, error, self._settings.timeout) from error


class _Visit:
    """The thread's connection, held until the block ends, with what `sqlite3` raises translated."""

    __slots__ = ("_database", "_writing", "connection")

    connection: Connection

    def __init__(self, database: Database, writing: bool = False) -> None:
        self._database = database
        self._writing = writing

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        if not database._release_pool.alive:
            raise session_exception(f"{database.path} | was closed here")
        queue, timeout = database._pool.write_lock, database._settings.timeout
        has_turn = False
        FORK_GATE.enter()
        try:
            waited = 0.0
            if self._writing:
                has_turn = queue.acquire(blocking=False)
                if not has_turn:
                    begun = time.monotonic()
                    has_turn = queue.acquire(timeout=timeout)
                    waited = time.monotonic() - begun
                if not has_turn:
                    raise locked()
            self.connection = database._pool.connection(database._settings)
            if waited > timeout / 10:  # with less, it is not worth a statement
                self._wait_at_most(timeout - waited)
        except BaseException as error:
            if has_turn:
                queue.release()
            FORK_GATE.leave()
            if isinstance(error, (sqlite3.Error, OSError, UnicodeDecodeError)):
                raise database_exception(database.path, error, timeout) from error
            raise
        return self.connection.raw

    def _wait_at_most(self, seconds: float) -> None:
        try:
            self.connection.wait_at_most(seconds)
        except BaseException as error:
            self.connection.lock.release()
            raise_as_standard(self.connection.raw, error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        database = self._database
        raw = self.connection.raw
        self.connection.lock.release()
        if self._writing:
            database._pool.write_lock.release()
        FORK_GATE.leave()
        if error is None:
            return
        if isinstance(error, (raw.Error, UnicodeDecodeError, UnreadableError)):
            if "readonly" in str(error):  # SQLite could not open it to write, and opened it to read: the next one may
                self.connection.close()
            raise database_exception(database.path, error, database._settings.timeout) from error
