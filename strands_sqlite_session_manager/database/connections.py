"""One connection to a database file: how it is opened, and how it behaves.

Pragmas that every writing connection needs are in `open_to_write`, those that users of the file choose in
`Connection.apply`. Pragmas that readers need as well are also in `open_read_only`.
"""

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count
from typing import NoReturn

from .. import errors
from . import files, schema
from .locks import hold, new_lock

Connect = Callable[[str], sqlite3.Connection]

OLDEST_SQLITE = (3, 35, 0)


@dataclass(frozen=True)
class Settings:
    """The connection settings that a user of a file chooses.

    Attributes:
        synchronous: FULL syncs every commit to the disk, NORMAL only SQLite's checkpoints.
        timeout: Seconds to wait for other writers.
        waits: Whether SQLite does this waiting; otherwise it waits only while the file is opened.
    """

    synchronous: str
    timeout: float
    waits: bool = True

    @cached_property
    def instant(self) -> "Settings":
        """The same settings for a write that fails at once while another writer keeps the database locked."""
        return replace(self, waits=False)


class Connection:
    """A connection, with what the pool needs to know about it.

    Attributes:
        raw: The connection itself.
        lock: Held while the connection is in use. Only one thread uses it, but another may want to close it.
        closed: Whether it was closed.
        settings: The settings that apply now; None means unknown.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.lock = new_lock()
        self.closed = False
        self.settings: Settings | None = None

    def close(self) -> None:
        """Close the connection as soon as it is not in use."""
        hold(self.lock, self._close)

    def close_unless_busy(self) -> None:
        """Close the connection unless it is in use."""
        with suppress(sqlite3.OperationalError):
            hold(self.lock, self._close, timeout=0)

    def _close(self) -> None:
        self.closed = True
        self.raw.close()

    def apply(self, settings: Settings) -> None:
        """Apply the present user's settings; another user may have had the connection before."""
        before = self.settings
        if settings != before:
            self.wait_at_most(settings.timeout if settings.waits else 0)
            if before is None or settings.synchronous != before.synchronous:
                self.raw.execute(f"PRAGMA synchronous = {settings.synchronous}")  # this waits while a file is created
        self.settings = settings

    def wait_at_most(self, seconds: float) -> None:
        """Wait at most this long for other writers, until settings are applied again."""
        self.settings = None
        self.raw.execute(f"PRAGMA busy_timeout = {max(int(seconds * 1000), 0)}")

    def empty_wal(self) -> bool:
        """Checkpoint and truncate the write-ahead log; return False if readers or writers use it."""
        (busy, _, _) = self.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def open_to_write(path: str, timeout: float, connect: Connect | None) -> Connection:
    """Open a file, creating or upgrading its tables as needed.

    Args:
        path: The file, which exists, or `:memory:`.
        timeout: Seconds to wait for other writers meanwhile.
        connect: The function that opens it; None uses `sqlite3`.

    Raises:
        SessionException: If the file is not one of ours.
        sqlite3.Error: If SQLite fails.
    """
    files.check_companions(path)
    raw = open_raw(path, connect)
    connection = Connection(raw)
    try:
        raw.execute("PRAGMA foreign_keys = ON")
        # Overwrites deleted content with zeros. It must be on for every write: a later deletion does not find what an
        # earlier write left behind.
        raw.execute("PRAGMA secure_delete = ON")
        # Until the file is in WAL mode, a power failure could damage it with NORMAL; the first use applies that.
        connection.apply(Settings("FULL", timeout))
        schema.prepare(raw, path, timeout, lambda: _keep_legacy(path, connect))
        files.check_companions(path)  # again, now that SQLite has them open
    except BaseException as error:
        connection.close()
        raise_as_standard(raw, error)
    return connection


def _keep_legacy(path: str, connect: Connect | None) -> str:
    """Save a copy of a legacy file beside it, under a name that is free, and return the name.

    The copy stays until its owner removes it.
    """
    names = (f"{path}.legacy-backup{f'-{number}' if number > 1 else ''}" for number in count(1))
    name = next(name for name in names if not os.path.lexists(name))
    with (
        files.new_file(name) as partial,
        closing(open_raw(path, connect)) as source,
        closing(open_raw(partial, connect)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    return name


def open_raw(path: str, connect: Connect | None) -> sqlite3.Connection:
    """Open a file with `sqlite3`, or with the `connect` function of a user.

    Raises:
        TypeError: If the function returns anything but a connection.
        SessionException: If the function fails, or the connection cannot be used here.
        sqlite3.Error: If SQLite fails.
    """
    if connect is None:
        # SQLite must not recreate a file that has vanished: everyone could read it.
        name = path if path == files.MEMORY else files.uri(path, "mode=rw")
        return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    try:
        raw = connect(path)
    except Exception as error:
        raise errors.SessionException(f"{path} | `connect` failed with {type(error).__name__}") from error
    if not all(hasattr(raw, name) for name in ("execute", "in_transaction", "isolation_level", "Error")):
        raise TypeError(
            f"connect | returned {type(raw).__name__}, not a connection of `sqlite3` or of a driver with its interface"
        )
    try:
        if hasattr(raw, "autocommit"):  # from Python 3.12 on
            raw.autocommit = True
        raw.isolation_level = None
        raw.row_factory = None
        raw.text_factory = str
        with ThreadPoolExecutor(1) as executor:  # the pool hands connections from thread to thread
            executor.submit(check_sqlite, raw).result()
    except BaseException as error:
        raw.close()
        if isinstance(error, raw.ProgrammingError):
            raise errors.SessionException(
                f"{path} | `connect` must open with check_same_thread=False: {error}"
            ) from error
        raise_as_standard(raw, error)
    return raw


def check_sqlite(raw: sqlite3.Connection) -> None:
    """Refuse a SQLite that is too old, or was built without what we need.

    Raises:
        SessionException: If it is refused.
    """
    (version,) = raw.execute("SELECT sqlite_version()").fetchone()
    found = version
    try:
        raw.execute("SELECT json('0')").fetchone()
    except raw.OperationalError:  # before 3.38, a build could leave them out
        found += " without JSON functions"
    if found != version or tuple(map(int, version.split("."))) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise errors.SessionException(
            f"strands-sqlite-session-manager needs SQLite {oldest} or newer, with JSON functions; this is {found}:"
            " use a newer Python, or pass `connect`"
        )


@cache
def check_own_sqlite() -> None:
    """Refuse Python's own SQLite if it is too old, before a file is touched; see `check_sqlite`."""
    with closing(sqlite3.connect(files.MEMORY)) as raw:
        check_sqlite(raw)


def is_read_only(raw: sqlite3.Connection, error: BaseException) -> bool:
    """Return whether an error says that SQLite could open the file only for reading, as while a disk fails."""
    return isinstance(error, raw.Error) and "readonly" in str(error)


def raise_as_standard(raw: sqlite3.Connection, error: BaseException) -> NoReturn:
    """Raise an error of any driver as the `sqlite3` error of the same name."""
    if isinstance(error, raw.Error) and not isinstance(error, sqlite3.Error):
        raise getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)(*error.args) from error
    raise error


def open_read_only(path: str, timeout: float, connect: Connect | None) -> Connection:
    """Open a file only to read it, even if writing is possible; at most, SQLite undoes an interrupted write.

    Raises:
        SessionException: If the file is not one of ours, or SQLite must write before it can be read, and cannot.
        sqlite3.Error: If SQLite fails.
    """
    raw = _connect_read_only(path, timeout) if connect is None else open_raw(path, connect)
    try:
        if connect is not None:
            Connection(raw).wait_at_most(timeout)
            raw.execute("PRAGMA query_only = ON")
        if schema.read_version(raw, path) < schema.VERSION:
            # An older schema is upgraded in memory.
            older = raw
            raw = sqlite3.connect(files.MEMORY, isolation_level=None, check_same_thread=False)
            with closing(older):
                older.backup(raw)
            schema.prepare(raw, path, timeout)
    except BaseException as error:
        raw.close()
        raise_as_standard(raw, error)
    return Connection(raw)


def _connect_read_only(path: str, timeout: float) -> sqlite3.Connection:
    def connect(parameters: str) -> sqlite3.Connection:
        uri = files.uri(path, parameters)
        raw = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            raw.close()
            raise
        return raw

    # `os.access` checks for the real user unless told otherwise.
    effective = os.access in os.supports_effective_ids
    may_write = all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, os.path.dirname(path)))
    if schema.has_content(f"{path}-journal"):
        # If a killed writer left a rollback journal, SQLite restores the file for the next reader. Legacy files can
        # have one.
        if not may_write:
            raise errors.SessionException(
                f"{path} | a write was interrupted, and SQLite must undo it before the file can be read: open it once"
                " where you may write to it"
            )
        connect("mode=rw").close()
    try:
        return connect("mode=ro")
    except sqlite3.OperationalError as error:
        # To read a file in WAL mode, SQLite creates an index beside it, which it cannot do on a read-only medium.
        if may_write or "locked" in str(error):
            raise
        if schema.has_content(f"{path}-wal"):
            raise errors.SessionException(
                f"{path} | its write-ahead log cannot be read on a read-only medium: copy the file and its -wal to a"
                " place where you may write"
            ) from error
        return connect("mode=ro&immutable=1")
