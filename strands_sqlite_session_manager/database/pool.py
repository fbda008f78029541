"""Connections: one for each busy thread and file, shared by everything in the process that uses the file."""

import atexit
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .. import errors
from . import files, schema
from .connections import Connect, Connection, Settings, open_read_only, open_to_write, raise_as_standard
from .fork_gate import FORK_GATE
from .locks import hold, new_lock
from .transactions import roll_back
from .turns import Turns
from .writers import Writers

_T = TypeVar("_T")
_NO_FILE = (-1, -1)
_INSTANT = 0.01  # seconds
_CLOSED: Any = object()


class _Lease:
    """A thread's claim on a connection, in its thread-local storage: it ends with the thread."""

    def __init__(self, connection: Connection, idle: "deque[Connection]") -> None:
        self.connection = connection
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self.connection)


class User:
    """Stands for an object that uses a pool, and may outlive it until it is released."""


class Pool:
    """The connections of this process to one database file.

    There are as many as threads were ever busy at once: when a thread ends, the next one takes its connection over.

    Attributes:
        path: The file.
        connect: What opens connections; None is `sqlite3`.
        users: Stand for the objects that use it; with the last one released, it is closed.
        writers: Those who wait to write.
    """

    def __init__(self, path: str, connect: Connect | None) -> None:
        self.path = path
        self.connect = connect
        self.users: weakref.WeakSet[User] = weakref.WeakSet()
        self.writers = Writers(self.use, Turns(None if path == files.MEMORY else path))
        self._thread = threading.local()
        self._idle: deque[Connection] = deque()
        self._open: list[Connection] = []
        self._identity: tuple[int, int] | None = None
        self._lock = new_lock()  # held while connections are opened or closed

    def renew_locks(self) -> None:
        """Replace the locks after a fork, in the child: their owners no longer exist."""
        self._lock = new_lock()
        self.writers.renew()

    def prepare(self, settings: Settings) -> None:
        """Open the file for the first time, creating or upgrading it as needed.

        Raises:
            OSError: If the place does not allow it.
            SessionException: If the file is not one of ours.
            sqlite3.Error: If SQLite fails.
        """
        hold(self._lock, self._prepare, settings, time.monotonic(), timeout=settings.timeout)

    def _prepare(self, settings: Settings, asked: float) -> None:
        if self._identity is not None:
            return
        files.create_private(self.path)
        for place in (self.path, os.path.dirname(self.path)):
            if not os.access(place, os.R_OK | os.W_OK):
                raise PermissionError(f"{place} is not readable and writable")
        if self.connect is None:
            schema.check_belongs_here(self.path, settings.timeout)
        waited = time.monotonic() - asked
        if waited > _INSTANT:  # another thread, which failed, took its time
            settings = replace(settings, timeout=max(settings.timeout - waited, 0.001))
        self._open_first(settings)

    def _open_first(self, settings: Settings) -> None:
        status = os.stat(self.path)
        self._idle.append(self._open_another(settings))
        self._identity = (status.st_ino, status.st_dev)

    def use(self, settings: Settings, work: Callable[..., _T], *arguments: Any) -> _T:
        """Return what `work` returns, called with the calling thread's connection and the arguments.

        In the middle of such work, the same connection is used again, as it is. A fork waits for the end of the work.

        Raises:
            SessionException: If the file is not the one that was opened.
            sqlite3.Error: If SQLite fails; errors of other drivers become these.
        """
        return FORK_GATE.inside(self._use, settings, work, arguments)  # type: ignore[no-any-return]

    def _use(self, settings: Settings, work: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        if not self.is_current():
            raise errors.SessionException(
                f"{self.path} | the database file was deleted or replaced since it was opened; nothing was written"
            )
        while True:
            connection = self._connection_of_thread(settings)
            if connection.lock._is_owned():
                return work(connection, *arguments)
            try:
                result = hold(
                    connection.lock, self._work, connection, settings, work, arguments, timeout=settings.timeout
                )
            except Exception as error:
                if "readonly" in str(error) and isinstance(error, connection.raw.Error):
                    connection.close()  # SQLite could open it for reading only; the next one may be luckier
                raise_as_standard(connection.raw, error)
            if result is not _CLOSED:
                return result  # type: ignore[no-any-return]

    @property
    def is_in_use_here(self) -> bool:
        """Whether the calling thread is in the middle of a read or a write."""
        lease: _Lease | None = getattr(self._thread, "lease", None)
        return self.writers.turn._is_owned() or (lease is not None and lease.connection.lock._is_owned())

    @staticmethod
    def _work(connection: Connection, settings: Settings, work: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        if connection.closed:  # by another thread, before it could be locked
            return _CLOSED  # type: ignore[no-any-return]
        roll_back(connection.raw)  # nothing is open, unless an interrupt was itself interrupted
        if connection.settings is not settings:
            connection.apply(settings)
        return work(connection, *arguments)

    def _connection_of_thread(self, settings: Settings) -> Connection:
        lease: _Lease | None = getattr(self._thread, "lease", None)
        if lease is None or lease.connection.closed:
            lease = self._thread.lease = _Lease(self._take_over() or self._open_another(settings), self._idle)
        return lease.connection

    def is_current(self) -> bool:
        """Tell whether the path still leads to the file that was opened, or is being opened."""
        if self._identity is None:
            return True
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return self._identity == (status.st_ino, status.st_dev)

    def close(self) -> None:
        """Close every connection, waiting for work in progress; a later use opens new ones."""
        hold(self._lock, self._close)

    def _close(self) -> None:
        while self._open:
            self._open[-1].close()
            self._open.pop()
        self.writers.rest()

    def close_idle(self) -> None:
        """Close the connections that are not at work, without waiting; a later use opens new ones."""
        for connection in list(self._open):
            connection.close_unless_busy()
        self.writers.rest()

    def retire(self, settings: Settings) -> None:
        """Make way for the pool of another file that has taken the place of this one's.

        What is in the write-ahead log goes to the file that it belongs to, wherever that is now: SQLite would apply a
        log that it finds beside a file to that file.

        Raises:
            SessionException: If the log is in use, so that it cannot be emptied.
            sqlite3.Error: If SQLite fails.
        """
        hold(self._lock, self._retire, settings)

    def _retire(self, settings: Settings) -> None:
        def empty_wal(connection: Connection) -> None:
            connection.wait_at_most(settings.timeout)
            if not connection.empty_wal():
                raise errors.SessionException(
                    f"{self.path} | the write-ahead log of the file that was here before is in use"
                )

        for connection in self._open[:1]:
            try:
                hold(connection.lock, empty_wal, connection)
            except Exception as error:
                raise_as_standard(connection.raw, error)
        self._close()
        self._identity = _NO_FILE  # with nothing open, the old one's can be given to another

    @property
    def is_retired(self) -> bool:
        """Whether it has made way for another pool."""
        return self._identity == _NO_FILE

    def _take_over(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not connection.closed:
                return connection

    def _open_another(self, settings: Settings) -> Connection:
        def open_one() -> Connection:
            connection = self._new_connection(settings)
            self._open[:] = [*(other for other in self._open if not other.closed), connection]
            return connection

        return hold(self._lock, open_one)

    def _new_connection(self, settings: Settings) -> Connection:
        return open_to_write(self.path, settings, self.connect)


class MemoryPool(Pool):
    """A database in memory: one connection, which its threads use in turn."""

    def prepare(self, settings: Settings) -> None:
        """Create the database."""
        self._open_another(settings)

    def is_current(self) -> bool:
        """Tell that the database is the one that was opened."""
        return True

    @property
    def is_in_use_here(self) -> bool:
        """Whether the calling thread is in the middle of a read or a write."""
        return bool(self.writers.turn._is_owned() or self._open[0].lock._is_owned())

    def _connection_of_thread(self, settings: Settings) -> Connection:
        return self._open[0]

    def close_idle(self) -> None:
        """Leave the connection open: the database ends with it."""


class ReadOnlyPool(Pool):
    """A file that is not written to, whether it could be or not."""

    def prepare(self, settings: Settings) -> None:
        """Open the file, which must exist."""
        if not os.path.exists(self.path):
            raise errors.SessionException(f"{self.path} | no such file")
        if self.connect is None:
            schema.check_belongs_here(self.path, settings.timeout)
        self._open_first(settings)

    def _new_connection(self, settings: Settings) -> Connection:
        return open_read_only(self.path, settings, self.connect)


_pools: dict[str, Pool] = {}
_every_pool: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_pools_lock = new_lock()
_released: "deque[Pool]" = deque()


def acquire(user: User, path: str, settings: Settings, connect: Connect | None = None, read_only: bool = False) -> Pool:
    """Return the pool of a file, opening it for the first user.

    Args:
        user: Stands for who uses it, until it is released or garbage.
        path: The file's absolute path, or `:memory:`.
        settings: How its connections are to behave.
        connect: What opens them; None takes `sqlite3`.
        read_only: Whether the file must not be written to; such a pool is its user's own.

    Raises:
        OSError: If the place does not allow it.
        SessionException: If the file is not one of ours.
        sqlite3.Error: If SQLite fails.
    """
    if path == files.MEMORY:
        pool: Pool = MemoryPool(path, connect)
    elif read_only:
        pool = ReadOnlyPool(path, connect)
    else:
        pool = _share(user, path, settings, connect)
    pool.users.add(user)
    _every_pool.add(pool)
    try:
        pool.prepare(settings)
    except BaseException:
        release(pool, user)
        raise
    return pool


def _share(user: User, path: str, settings: Settings, connect: Connect | None) -> Pool:
    """Return the pool that all users of a file have in common, with one more user."""

    def join() -> tuple[Pool, bool]:
        pool = _pools.get(path)
        if pool is None or pool.is_retired:
            pool = _pools[path] = Pool(path, connect)
        is_current = pool.is_current()
        if is_current:
            if pool.connect != connect:
                # When one process has a file open through two copies of SQLite, closing it in one drops the locks of
                # the other: https://sqlite.org/howtocorrupt.html, 2.2.1
                raise errors.SessionException(
                    f"{path} | is in use in this process with another `connect`; pass the same function everywhere"
                )
            pool.users.add(user)
        return pool, is_current

    while True:
        pool, is_current = hold(_pools_lock, join)
        if is_current:
            return pool
        pool.retire(settings)  # may wait, while other files are opened


def release(pool: Pool, user: User) -> None:
    """Take a user from a pool, and close the pool if nobody uses it any more.

    The garbage collector comes here, in any thread and at any moment: it must not wait for `_pools_lock`, whose holder
    may wait for this thread.
    """
    pool.users.discard(user)
    _released.append(pool)
    try:
        unused = hold(_pools_lock, _take_unused, timeout=0)
    except sqlite3.OperationalError:
        return  # whoever releases a pool next closes this one, too
    for closed in unused:
        closed.close()


def _take_unused() -> list[Pool]:
    unused = []
    while _released:
        pool = _released.popleft()
        if not pool.users:
            if _pools.get(pool.path) is pool:
                del _pools[pool.path]
            unused.append(pool)
    return unused


def _close_all() -> None:
    for pool in list(_every_pool):
        if not isinstance(pool, MemoryPool):
            pool.close()


def _renew_locks() -> None:
    global _pools_lock
    _pools_lock = new_lock()
    for pool in list(_every_pool):
        pool.renew_locks()


@atexit.register
def _close_idle() -> None:
    """Close what nobody is using, so that SQLite removes its write-ahead logs; a later exit handler opens it again."""
    for pool in list(_every_pool):
        pool.close_idle()


FORK_GATE.around_fork(before=_close_all, in_child=_renew_locks)
