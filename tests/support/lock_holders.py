"""Holds the write lock of a database, in this process or in another one."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# Without the package: this program starts in a few milliseconds.
_HOLD = """
import sqlite3, sys, time
path, seconds, kind = sys.argv[1:]
if kind != "unaware":
    import fcntl, os
    turn = os.open(path + "-queue", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(turn, fcntl.LOCK_EX, 1)
connection = sqlite3.connect(path, timeout=30, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
if kind == "idle":
    connection.execute("ROLLBACK")
print("held", flush=True)
if float(seconds):
    time.sleep(float(seconds))
else:
    sys.stdin.readline()
print(time.monotonic(), flush=True)
connection.rollback()
"""


@contextmanager
def held_here(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock with a connection of this process, until it is rolled back or the block ends."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def held_for_a_moment(path: Path) -> Iterator[None]:
    """Hold the write lock at the beginning of the block, so that a write in it waits, and queues."""
    with held_here(path) as connection:
        end = threading.Timer(0.05, connection.rollback)
        end.start()
        yield
        end.join()


class Holder:
    """Another process that holds the write lock of a database.

    Args:
        path: The database.
        seconds: How long it holds the lock; None is until `release`.
        queued: Whether it first takes its turn in the queue, as a process with this package would.
        idle: Whether it keeps its turn without the lock.
    """

    def __init__(self, path: Path, seconds: float | None = None, *, queued: bool = False, idle: bool = False) -> None:
        arguments = [str(path), str(seconds or 0), "idle" if idle else "queued" if queued else "unaware"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _HOLD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "held"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def release(self) -> float:
        """Have it release the lock, or wait until it does; return the monotonic time of the release."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        released = float(self._read())
        self._process.wait()
        return released

    def stop(self) -> None:
        """Stop it where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it after `stop`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, with no chance to tidy up."""
        self._process.kill()
        self._process.wait()


@contextmanager
def held_elsewhere(
    path: Path, seconds: float | None = None, *, queued: bool = False, idle: bool = False
) -> Iterator[Holder]:
    """Have another process hold the write lock, see `Holder`; at the end of the block it is gone."""
    holder = Holder(path, seconds, queued=queued, idle=idle)
    try:
        yield holder
    finally:
        holder.kill()


def seconds_to_lock(path: Path, timeout: float = 10.0) -> float:
    """Return how long a program that knows nothing of this package waits until it can write."""
    begun = time.monotonic()
    with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        stranger.execute("ROLLBACK")
    return time.monotonic() - begun
