"""Processes take turns to write, in order of arrival.

In SQLite, a process that waits for another one sleeps for up to 100 ms between two attempts, so that with many
processes some hardly get a chance. Here they queue in the kernel, for two locks on an empty file beside the database.
One is the turn. The other is the head of the line: only its holder waits for the turn, so that no later process
overtakes it. A killed process releases both.

A turn lasts for several writes, because switching takes time, too. A process that has not met a rival for a while
writes without a turn, but looks now and then whether others queue. Whoever is next in line waits only for a moment for
a turn that does not end, because its process is stopped or has no time for it.

The queue is for fairness only. SQLite's own lock protects the file, also against programs that do not use the queue,
and where there is no `fcntl`, as on Windows, there is no queue.
"""

import os
import stat
import time
from contextlib import suppress

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_SUFFIX = "-queue"
_TURN, _LINE = 0, 1  # bytes of the file that are locked
_LENGTH = 0.01  # seconds that a turn lasts
_PATIENCE = 0.1  # seconds to wait for the end of another one's turn
_PAUSE = 0.0005  # seconds between two attempts to take the turn
_WARY = 1.0  # seconds for which a process queues after it has met a rival


class Turns:
    """This process's place in the queue of a file; changed by one thread at a time."""

    def __init__(self, path: str | None) -> None:
        """Prepare to queue for a database; None means one that no other process can use."""
        self._path = None if path is None or fcntl is None else path + _SUFFIX
        self._descriptor: int | None = None
        self._end: float | None = None  # when our turn is over; None while it is not ours
        self._used = 0.0  # when a write in our turn ended last, or without a turn, when we looked for others
        self._queues_until = 0.0

    @property
    def is_ours(self) -> bool:
        """Whether it is our turn."""
        return self._end is not None

    def may_write(self) -> bool:
        """Return whether this process may write now: it is its turn, or it knows of no rival."""
        return not self._queues_until or self._end is not None or time.monotonic() > self._queues_until

    def expect_rivals(self) -> None:
        """Queue for a while: another process writes, too."""
        if self._path is not None:
            self._queues_until = time.monotonic() + _WARY

    def enter(self) -> None:
        """Wait for our turn, unless there is no known rival."""
        while not self.may_write() and self._path is not None:
            try:
                if self._descriptor is None:
                    self._descriptor = self._open(self._path)
                self._lock(self._descriptor)
                if os.fstat(self._descriptor).st_nlink:
                    self._used = time.monotonic()
                    self._end = self._used + _LENGTH
                    return
                self.close()  # the last user removed the file, and others lock a new one
            except OSError:  # a turn that does not end, no permission, or a file system without locks
                self.close()
                return

    def end_write(self) -> None:
        """Note the end of a write: leave if the turn is over; without a turn, look whether others queue."""
        now = time.monotonic()
        if self._end is not None:
            self._used = now
            if now > self._end:
                self.leave()
        elif self._path is not None and now > self._used + _LENGTH:
            self._used = now
            self._look_for_rivals(self._path)

    def _look_for_rivals(self, path: str) -> None:
        try:
            try:
                if self._descriptor is None and os.path.lexists(path):
                    self._descriptor = self._open(path)
                if self._descriptor is not None:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all of it
                    if not os.fstat(self._descriptor).st_nlink:
                        self.close()
            except BlockingIOError:
                self.expect_rivals()
            except OSError:
                self.close()
            finally:
                self.leave()
        finally:
            self.leave()

    def leave_if_unused_for(self, seconds: float) -> None:
        """End our turn if no write in it has ended for this many seconds."""
        if time.monotonic() - self._used > seconds:
            self.leave()

    def _lock(self, descriptor: int) -> None:
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, _TURN)  # and the line
            except BlockingIOError:
                fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, _LINE)
                self.expect_rivals()
                self._lock_turn(descriptor)
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _LINE)

    @staticmethod
    def _lock_turn(descriptor: int) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _TURN)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)

    def _open(self, path: str) -> int:
        nofollow = getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | nofollow, 0o600)
        except FileExistsError:
            found = os.lstat(path)
            # Closing a file releases all locks of the process on it, so this must not be another file's second name.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise OSError(f"{path} is not a file of its own") from None
            return os.open(path, os.O_RDWR | nofollow)
        # As SQLite does for its own files beside the database, even if root opens it.
        database = os.stat(path.removesuffix(_SUFFIX))
        os.fchmod(descriptor, database.st_mode & 0o666)
        if os.geteuid() == 0:
            os.fchown(descriptor, database.st_uid, database.st_gid)
        return descriptor

    def leave(self) -> None:
        """End our turn, if it is ours."""
        if self._descriptor is not None:
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        self._end = None

    def close(self) -> None:
        """Stop queuing, and end our turn if it is ours; `enter` starts again."""
        self._end = None
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Stop queuing, and remove the file unless another process uses it."""
        try:
            try:
                if self._path is not None and self._descriptor is not None:
                    with suppress(OSError):
                        fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all of it
                        if os.fstat(self._descriptor).st_nlink:
                            os.unlink(self._path)
            finally:
                self.leave()
        finally:
            self.leave()
        self.close()
