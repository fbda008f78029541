"""Locks that are always released, wherever an exception strikes.

`with lock:` has gaps: a signal handler that raises between the end of the block and the release leaves the lock held
for good. Here the work is a function, and each release is tried twice, in case an exception strikes during the first.
The lock itself says whether it is held, since an exception can also strike before a variable records it.
"""

import sqlite3
from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar

_T = TypeVar("_T")

# `threading.RLock` is a function in some versions of Python, and so not a type.
Lock = Any
FOREVER = -1.0
_LOCKED = "database is locked"  # SQLite's message


def new_lock() -> Lock:
    """Return a lock that knows the thread that holds it."""
    return RLock()


def is_mine(lock: Lock) -> bool:
    """Return whether the calling thread holds a lock."""
    return bool(lock._is_owned())  # `threading.Condition` calls it, too


def hold(lock: Lock, work: Callable[..., _T], *arguments: Any, timeout: float = FOREVER) -> _T:
    """Call `work` with the arguments while the calling thread holds a lock, and return its result.

    Args:
        lock: What `new_lock` returned. If the calling thread already holds it, it keeps it.
        work: A function.
        *arguments: Its arguments.
        timeout: Seconds to wait for the lock; 0 does not wait, `FOREVER` waits without limit.

    Raises:
        sqlite3.OperationalError: If the lock was not available in time, with SQLite's own message.
    """
    if lock._is_owned():
        return work(*arguments)
    try:
        try:
            if not lock.acquire(timeout=timeout):
                raise locked()
            return work(*arguments)
        finally:
            if lock._is_owned():
                lock.release()
    finally:
        if lock._is_owned():
            lock.release()


def locked() -> sqlite3.OperationalError:
    """Return the error that SQLite raises when another writer keeps the database locked, for a wait of our own."""
    return sqlite3.OperationalError(_LOCKED)


def is_locked(error: BaseException) -> bool:
    """Return whether an error of any driver means that another writer keeps the database locked."""
    return _LOCKED in str(error)
