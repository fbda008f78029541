"""One connection to a database file: how it is opened, and what its users wish of it.

A pragma that every connection needs to write is in `open_to_write`; one that a user of the file can choose, in
`Connection.apply`; one that reading needs as well, in `open_read_only` too.
"""

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn
from urllib.request import pathname2url

from . import files, schema
from .errors import session_exception

Connect = Callable[[str], sqlite3.Connection]

OLDEST_SQLITE = (3, 35, 0)
PAGE_SIZE = 4096  # bytes, see tests/benchmarks/message_table.py


@dataclass(frozen=True)
class Settings:
    """How a user of a file wants its connections to behave.

    Attributes:
        synchronous: FULL syncs every commit to the disk, NORMAL only checkpoints.
        timeout: Seconds to wait for another writer.
    """

    synchronous: str
    timeout: float


class Connection:
    """A connection with what the pool must know of it.

    Attributes:
        raw: The connection itself.
        lock: Held while it is at work. One thread uses it, but another may want to close it.
        settings: How it behaves now; None is not known.
        closed: Whether it was closed.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.lock = threading.RLock()
        self.settings: Settings | None = None
        self.closed = False

    def close(self) -> None:
        """Close the connection, when it is not at work."""
        with self.lock:
            self.closed = True
            self.raw.close()

    def apply(self, settings: Settings) -> None:
        """Behave as the present user wishes; another one may have used the connection before."""
        if settings is self.settings or self.raw.in_transaction:
            return
        if settings != self.settings:
            self.wait_at_most(settings.timeout)
            self.raw.execute(f"PRAGMA synchronous = {settings.synchronous}")  # which waits while a file is created
        self.settings = settings

    def wait_at_most(self, seconds: float) -> None:
        """Wait no longer for another writer, until settings are applied again."""
        self.raw.execute(f"PRAGMA busy_timeout = {max(int(seconds * 1000), 1)}")
        self.settings = None


def open_to_write(path: str, settings: Settings, connect: Connect | None) -> Connection:
    """Open a file, creating or upgrading its tables as needed.

    Args:
        path: The file, which exists, or `:memory:`.
        settings: How the connection is to behave.
        connect: What opens it; None takes `sqlite3`.

    Raises:
        SessionException: If the file is not for us.
        sqlite3.Error: If SQLite fails.
    """
    files.check_companions(path)
    raw = open_raw(path, connect)
    connection = Connection(raw)
    try:
        raw.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # takes effect in a file that is still empty
        raw.execute("PRAGMA foreign_keys = ON")
        # Zeroes what is deleted or overwritten. It must be on for every write: what one write leaves
        # behind, a later deletion cannot find.
        raw.execute("PRAGMA secure_delete = ON")
        connection.apply(settings)
        schema.prepare(raw, path, settings.timeout)
        files.check_companions(path)  # once more, now that SQLite has them open
    except BaseException as error:
        connection.close()
        raise_as_standard(raw, error)
    return connection


def open_raw(path: str, connect: Connect | None) -> sqlite3.Connection:
    """Open a file by `sqlite3`, or as the person wishes who gave us a function for it.

    Raises:
        TypeError: If the function gives something else than a connection.
        SessionException: If the function fails, or the connection cannot be used here.
        sqlite3.Error: If SQLite fails.
    """
    if connect is None:
        # A file that vanished meanwhile would be made anew, for all to read.
        name = path if path == files.MEMORY else f"file:{pathname2url(path)}?mode=rw"
        return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
    try:
        raw = connect(path)
    except Exception as error:
        raise session_exception(f"{path} | `connect` failed with {type(error).__name__}") from error
    if not all(hasattr(raw, name) for name in ("execute", "in_transaction", "isolation_level", "Error")):
        raise TypeError(f"connect | gave {type(raw).__name__}, not a connection of `sqlite3` or of a driver like it")
    try:
        if hasattr(raw, "autocommit"):  # from Python 3.12 on
            raw.autocommit = True
        raw.isolation_level = None
        raw.row_factory = None
        raw.text_factory = str
        _in_another_thread(lambda: check_sqlite(raw))
    except BaseException as error:
        raw.close()
        if isinstance(error, raw.ProgrammingError):  # connections go from one thread to the next
            raise session_exception(f"{path} | `connect` must open with check_same_thread=False: {error}") from error
        raise_as_standard(raw, error)
    return raw


def check_sqlite(raw: sqlite3.Connection) -> None:
    """Refuse an SQLite that is too old for us, or lacks what we need.

    Raises:
        SessionException: If it does.
    """
    (version,) = raw.execute("SELECT sqlite_version()").fetchone()
    found = version
    try:
        raw.execute("SELECT json('0')").fetchone()
    except raw.OperationalError:  # before 3.38 they could be left out
        found += " without JSON functions"
    if found != version or tuple(map(int, version.split("."))) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise session_exception(
            f"strands-sqlite-session-manager needs SQLite {oldest} or newer, with JSON functions; this is {found}"
        )


@cache
def check_own_sqlite() -> None:
    """Refuse Python's own SQLite if it is too old, before a file is touched; see `check_sqlite`."""
    with closing(sqlite3.connect(files.MEMORY)) as raw:
        check_sqlite(raw)


def _in_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


def locked() -> sqlite3.OperationalError:
    """Return what SQLite raises after a wait for another writer, for a wait that was not SQLite's."""
    return sqlite3.OperationalError("database is locked")


def raise_as_standard(raw: sqlite3.Connection, error: BaseException) -> NoReturn:
    """Raise an error of whatever driver a connection is of as what `sqlite3` calls the same."""
    if isinstance(error, raw.Error) and not isinstance(error, sqlite3.Error):
        raise getattr(sqlite3, type(error).__name__, sqlite3.DatabaseError)(*error.args) from error
    raise error


def open_read_only(path: str, settings: Settings) -> Connection:
    """Open a file that is not touched, whether it could be or not.

    Raises:
        SessionException: If the file is not for us.
        sqlite3.Error: If SQLite fails.
    """

    def connect(parameters: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{pathname2url(path)}?mode=ro{parameters}",
            uri=True,
            timeout=settings.timeout,
            isolation_level=None,
            check_same_thread=False,
        )

    raw = connect("")
    try:
        version = schema.version(raw, path)
    except sqlite3.OperationalError:
        # Reading a write-ahead log needs a file for its index, which a read-only medium has no place for.
        raw.close()
        if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0:
            raise
        raw = connect("&immutable=1")
        version = schema.version(raw, path)
    if version < schema.VERSION:
        # An older layout is brought up to date in memory.
        older = raw
        raw = sqlite3.connect(files.MEMORY, isolation_level=None, check_same_thread=False)
        older.backup(raw)
        older.close()
        schema.prepare(raw, path, settings.timeout)
    return Connection(raw)
