"""Locks that stay held by nobody, wherever an exception strikes.

`with lock:` has gaps: a signal handler that raises between the end of the block and the release leaves the lock held
for good. Here the work is a function, and each release is tried twice, the second time for an exception that struck in
the first. What is held is asked of the lock itself, since an exception can also strike before a variable has noted it.
"""

import sqlite3
from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar

_T = TypeVar("_T")

# `threading.RLock` is a function in some versions of Python, and so no type.
Lock = Any
FOREVER = -1.0


def new_lock() -> Lock:
    """Return a lock that knows the thread that holds it."""
    return RLock()


def is_mine(lock: Lock) -> bool:
    """Tell whether the calling thread holds a lock."""
    return bool(lock._is_owned())  # what `threading.Condition` asks, too


def hold(lock: Lock, work: Callable[..., _T], *arguments: Any, timeout: float = FOREVER) -> _T:
    """Return what `work` returns, called with the arguments while the calling thread holds a lock.

    Args:
        lock: What `new_lock` returned. If the calling thread holds it already, it goes on holding it.
        work: A function.
        *arguments: Its arguments.
        timeout: Seconds to wait for the lock, 0 not to wait, `FOREVER` without end.

    Raises:
        sqlite3.OperationalError: If the lock could not be had in time, worded as SQLite words it.
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
    """Return what SQLite raises after waiting in vain for another writer, for a wait that was not SQLite's."""
    return sqlite3.OperationalError("database is locked")
