"""Connection pools: one for each file, shared by all its users in the process, with a connection for each thread."""

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
from .connections import (
    Connect,
    Connection,
    Settings,
    is_read_only,
    open_read_only,
    open_to_write,
    raise_as_standard,
)
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
    """A thread's claim on a connection, in thread-local storage, so that it ends with the thread."""

    def __init__(self, connection: Connection, idle: "deque[Connection]") -> None:
        self.connection = connection
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self.connection)


class User:
    """Stands for an object that uses a pool; it may outlive that object until it is released."""


class Pool:
    """The connections of this process to one database file.

    Their number is the most threads that ever worked at once: when a thread ends, the next takes over its connection.

    Attributes:
        path: The file.
        connect: The function that opens connections; None uses `sqlite3`.
        users: Stand for the objects that use it; the pool is closed when the last one is released.
        writers: The queue of writes.
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
                raise PermissionError(
                    f"{place} is not readable and writable; change its permissions, or choose another path"
                )
        if self.connect is None:
            schema.check_belongs_here(self.path, settings.timeout)
        waited = time.monotonic() - asked
        if waited > _INSTANT:  # another thread tried first, took a while and failed
            settings = replace(settings, timeout=max(settings.timeout - waited, 0.001))
        self._open_first(settings)

    def _open_first(self, settings: Settings) -> None:
        status = os.stat(self.path)
        self._idle.append(self._open_another(settings))
        self._identity = (status.st_ino, status.st_dev)

    def use(self, settings: Settings, work: Callable[..., _T], *arguments: Any) -> _T:
        """Call `work` with the calling thread's connection and the arguments, and return its result.

        A nested call uses the same connection, as it is. A fork waits until the work ends.

        Raises:
            SessionException: If the file is not the one that was opened.
            sqlite3.Error: If SQLite fails; errors of other drivers become these.
        """
        return FORK_GATE.inside(self._use, settings, work, arguments)  # type: ignore[no-any-return]

    def _use(self, settings: Settings, work: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        if not self.is_current():
            raise errors.SessionException(
                f"{self.path} | the database file was deleted or replaced since it was opened; nothing was written:"
                " put it back, or build a new manager or repository"
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
                if is_read_only(connection.raw, error):
                    connection.close()  # a new one may be able to write
                raise_as_standard(connection.raw, error)
            if result is not _CLOSED:
                return result  # type: ignore[no-any-return]

    @property
    def is_in_use_here(self) -> bool:
        """Whether the calling thread is in the middle of a read or a write."""
        lease: _Lease | None = getattr(self._thread, "lease", None)
        return self.writers.lock._is_owned() or (lease is not None and lease.connection.lock._is_owned())

    @staticmethod
    def _work(connection: Connection, settings: Settings, work: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        if connection.closed:  # by another thread, before it could be locked
            return _CLOSED  # type: ignore[no-any-return]
        roll_back(connection.raw)  # a transaction is open only if an interrupt was itself interrupted
        if connection.settings is not settings:
            connection.apply(settings)
        return work(connection, *arguments)

    def _connection_of_thread(self, settings: Settings) -> Connection:
        lease: _Lease | None = getattr(self._thread, "lease", None)
        if lease is None or lease.connection.closed:
            lease = self._thread.lease = _Lease(self._take_over() or self._open_another(settings), self._idle)
        return lease.connection

    def is_current(self) -> bool:
        """Return whether the path still leads to the file that was opened, or is being opened."""
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
        """Close the connections that are not in use, without waiting; a later use opens new ones."""
        for connection in list(self._open):
            connection.close_unless_busy()
        self.writers.rest()

    def retire(self, settings: Settings) -> None:
        """Make way for the pool of a file that replaced this pool's file.

        The write-ahead log is emptied into the old file, wherever that is now: otherwise SQLite would apply it to the
        new file beside it.

        Raises:
            SessionException: If the write-ahead log is in use and cannot be emptied.
            sqlite3.Error: If SQLite fails.
        """
        hold(self._lock, self._retire, settings)

    def _retire(self, settings: Settings) -> None:
        def empty_wal(connection: Connection) -> None:
            connection.wait_at_most(settings.timeout)
            if not connection.empty_wal():
                raise errors.SessionException(
                    f"{self.path} | the write-ahead log of the file that was here before is in use: wait until its"
                    " readers are done"
                )

        for connection in self._open[:1]:
            try:
                hold(connection.lock, empty_wal, connection)
            except Exception as error:
                raise_as_standard(connection.raw, error)
        self._close()
        self._identity = _NO_FILE  # with nothing open, the old file's identity can be reused

    @property
    def is_retired(self) -> bool:
        """Whether the pool has made way for another one."""
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
            connection = self._new_connection(settings.timeout)
            self._open[:] = [*(other for other in self._open if not other.closed), connection]
            return connection

        return hold(self._lock, open_one)

    def _new_connection(self, timeout: float) -> Connection:
        return open_to_write(self.path, timeout, self.connect)


class MemoryPool(Pool):
    """A database in memory: one connection, which its threads use in turn."""

    def prepare(self, settings: Settings) -> None:
        """Create the database."""
        self._open_another(settings)

    def is_current(self) -> bool:
        """Return True: nothing can replace a database in memory."""
        return True

    @property
    def is_in_use_here(self) -> bool:
        """Whether the calling thread is in the middle of a read or a write."""
        return bool(self.writers.lock._is_owned() or self._open[0].lock._is_owned())

    def _connection_of_thread(self, settings: Settings) -> Connection:
        return self._open[0]

    def close_idle(self) -> None:
        """Leave the connection open: the database ends with it."""


class ReadOnlyPool(Pool):
    """A file that is only read, even if writing is possible."""

    def prepare(self, settings: Settings) -> None:
        """Open the file, which must exist."""
        if not os.path.exists(self.path):
            raise errors.SessionException(f"{self.path} | no such file")
        if self.connect is None:
            schema.check_belongs_here(self.path, settings.timeout)
        self._open_first(settings)

    def _new_connection(self, timeout: float) -> Connection:
        return open_read_only(self.path, timeout, self.connect)


_pools: dict[str, Pool] = {}
_every_pool: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_pools_lock = new_lock()
_released: "deque[Pool]" = deque()


def acquire(user: User, path: str, settings: Settings, connect: Connect | None = None, read_only: bool = False) -> Pool:
    """Return the pool of a file, opening it for the first user.

    Args:
        user: Stands for the object that uses the pool, until it is released or garbage-collected.
        path: The file's absolute path, or `:memory:`.
        settings: The settings of its connections.
        connect: The function that opens them; None uses `sqlite3`.
        read_only: Whether the file must not be written to; such a pool is not shared.

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
    """Remove a user from a pool, and close the pool if that was the last user.

    The garbage collector calls this in any thread and at any moment: it must not wait for `_pools_lock`, whose holder
    may wait for this thread.
    """
    pool.users.discard(user)
    _released.append(pool)
    try:
        unused = hold(_pools_lock, _take_unused, timeout=0)
    except sqlite3.OperationalError:
        return  # the next release of a pool closes this one, too
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
    """Close unused connections, so that SQLite removes its write-ahead logs; a later exit handler can reopen them."""
    for pool in list(_every_pool):
        pool.close_idle()


FORK_GATE.around_fork(before=_close_all, in_child=_renew_locks)
