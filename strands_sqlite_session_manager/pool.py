"""Connections: one per thread and file, shared by everything in the process that uses the file."""

import os
import threading
import time
import weakref
from collections import deque
from dataclasses import replace

from . import files, schema
from .connection import Connect, Connection, Settings, locked, open_read_only, open_to_write, raise_as_standard
from .errors import session_exception
from .fork_gate import FORK_GATE

_NO_FILE = (-1, -1)


class _Lease:
    """A thread's claim on a connection, in its thread-local storage: it ends with the thread."""

    def __init__(self, connection: Connection, idle: "deque[Connection]") -> None:
        self.connection = connection
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self.connection)


class Pool:
    """The connections of this process to one database file.

    The number of connections is the largest number of threads that ever were busy at once: when a
    thread ends, the next one takes its connection over.
    """

    def __init__(self, path: str, connect: Connect | None) -> None:
        self.path = path
        self.connect = connect
        self.users = 0
        self._thread = threading.local()
        self._idle: deque[Connection] = deque()
        self._open: list[Connection] = []
        self._identity: tuple[int, int] | None = None
        self.renew_locks()

    def renew_locks(self) -> None:
        """Have new locks, in a forked child: there is no thread left that could release the old ones."""
        # Writers of this process queue here. SQLite makes them poll, which halves their throughput and
        # starves some when each commit is synced to the disk.
        self.write_lock = threading.RLock()
        self._lock = threading.RLock()

    def prepare(self, settings: Settings) -> None:
        """Open the file for the first time, creating or upgrading it as needed.

        Raises:
            OSError: If the place does not allow it.
            SessionException: If the file is not for us.
            sqlite3.Error: If SQLite fails.
        """
        end = time.monotonic() + settings.timeout
        if not self._lock.acquire(timeout=settings.timeout):  # another thread waits for another process
            raise locked()
        try:
            if self._identity is not None:
                return
            files.create_private(self.path)
            for place in (self.path, os.path.dirname(self.path)):
                if not os.access(place, os.R_OK | os.W_OK):
                    raise PermissionError(f"{place} is not readable and writable")
            if self.connect is None:
                schema.check_belongs_here(self.path, settings.timeout)
            status = os.stat(self.path)
            rest = replace(settings, timeout=max(end - time.monotonic(), 0.001))
            self._idle.append(self._open_another(rest))
            self._identity = (status.st_ino, status.st_dev)
        finally:
            self._lock.release()

    def is_current(self) -> bool:
        """Tell whether the path still leads to the file that was opened, or is being opened."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return self._identity is None
        return self._identity is None or self._identity == (status.st_ino, status.st_dev)

    def connection(self, settings: Settings) -> Connection:
        """Return the calling thread's connection, locked for it; the caller releases its `lock`.

        Raises:
            SessionException: If the file is not the one that was opened.
            sqlite3.Error: If a connection cannot be opened.
        """
        if not self.is_current():
            raise session_exception(
                f"{self.path} | the database file was deleted or replaced since it was opened; nothing was written"
            )
        lease: _Lease | None = getattr(self._thread, "lease", None)
        if lease is None or lease.connection.closed:
            lease = self._thread.lease = _Lease(self._take_over() or self._open_another(settings), self._idle)
        connection = lease.connection
        connection.lock.acquire()
        try:
            connection.apply(settings)
        except BaseException as error:
            connection.lock.release()
            raise_as_standard(connection.raw, error)
        return connection

    def close(self) -> None:
        """Close every connection, waiting for work in progress; a later use opens new ones."""
        with self._lock:
            while self._open:
                self._open.pop().close()

    def retire(self, settings: Settings) -> None:
        """Make way for the pool of another file that has taken the place of this one's.

        What is in the log goes to the file that it belongs to, wherever that is now: SQLite would apply a log
        that it finds beside a file to that file.

        Raises:
            SessionException: If the log is in use, so that it cannot be emptied.
            sqlite3.Error: If SQLite fails.
        """
        with self._lock:
            for connection in self._open[:1]:
                with connection.lock:
                    try:
                        connection.wait_at_most(settings.timeout)
                        (busy, _, _) = connection.raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    except connection.raw.Error as error:
                        raise_as_standard(connection.raw, error)
                if busy:
                    raise session_exception(f"{self.path} | the log of the file that was here before is in use")
            self.close()
            self._identity = _NO_FILE  # with nothing open, the old one's can be given to another

    @property
    def is_retired(self) -> bool:
        """Tell whether it has made way for another pool."""
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
        with self._lock:
            connection = self._new_connection(settings)
            self._open.append(connection)
            return connection

    def _new_connection(self, settings: Settings) -> Connection:
        return open_to_write(self.path, settings, self.connect)


class MemoryPool(Pool):
    """A database in memory: one connection, which its threads use in turn."""

    def prepare(self, settings: Settings) -> None:
        """Create the database."""
        self.write_lock = self._open_another(settings).lock

    def connection(self, settings: Settings) -> Connection:
        """Return the one connection, locked for the calling thread."""
        (connection,) = self._open
        if not connection.lock.acquire(timeout=settings.timeout):
            raise locked()
        return connection


class ReadOnlyPool(Pool):
    """A file that is not touched, whether it could be or not."""

    def prepare(self, settings: Settings) -> None:
        """Open the file, which must be there."""
        if not os.path.exists(self.path):
            raise session_exception(f"{self.path} | no such file")
        schema.check_belongs_here(self.path, settings.timeout)
        status = os.stat(self.path)
        self._idle.append(self._open_another(settings))
        self._identity = (status.st_ino, status.st_dev)

    def _new_connection(self, settings: Settings) -> Connection:
        return open_read_only(self.path, settings)


_pools: dict[str, Pool] = {}
_every_pool: "weakref.WeakSet[Pool]" = weakref.WeakSet()
_pools_lock = threading.RLock()


def acquire(path: str, settings: Settings, connect: Connect | None = None, read_only: bool = False) -> Pool:
    """Return the pool of a file, opening it for the first user; each user calls `release` once.

    Args:
        path: The file's absolute path, or `:memory:`.
        settings: How its connections are to behave.
        connect: What opens them; None takes `sqlite3`.
        read_only: Whether the file must not be touched; such a pool is its user's own.

    Raises:
        OSError: If the place does not allow it.
        SessionException: If the file is not for us.
        sqlite3.Error: If SQLite fails.
    """
    if path == files.MEMORY:
        pool: Pool = MemoryPool(path, connect)
    elif read_only:
        pool = ReadOnlyPool(path, connect)
        _every_pool.add(pool)
    else:
        pool = _share(path, settings, connect)
    try:
        pool.prepare(settings)
    except BaseException:
        release(pool)
        raise
    return pool


def _share(path: str, settings: Settings, connect: Connect | None) -> Pool:
    """Return the pool that all users of a file have in common, with one more user."""
    while True:
        with _pools_lock:
            pool = _pools.get(path)
            if pool is None or pool.is_retired:
                pool = _pools[path] = Pool(path, connect)
                _every_pool.add(pool)
            if pool.is_current():
                if pool.connect != connect:
                    # A file that two libraries of SQLite have open in one process loses its locks when one closes it:
                    # https://sqlite.org/howtocorrupt.html, 2.2.1
                    raise session_exception(
                        f"{path} | is in use in this process with another `connect`; give everybody the same function"
                    )
                pool.users += 1
                return pool
        pool.retire(settings)  # which may have to wait, while others open other files


def release(pool: Pool) -> None:
    """Give a pool back; the last user closes it.

    The garbage collector comes here, in any thread and at any time: also while another thread forks, which
    must not be waited for.
    """
    with _pools_lock:
        pool.users -= 1
        if pool.users > 0:
            return
        if _pools.get(pool.path) is pool:
            del _pools[pool.path]
    pool.close()


def _close_all() -> None:
    for pool in list(_every_pool):
        pool.close()


def _renew_locks() -> None:
    global _pools_lock
    _pools_lock = threading.RLock()
    for pool in list(_every_pool):
        pool.renew_locks()


FORK_GATE.around_fork(before=_close_all, in_child=_renew_locks)
