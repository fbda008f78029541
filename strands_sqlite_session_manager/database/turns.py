"""Processes take turns to write, in order of arrival.

In SQLite, a process that waits for another one sleeps for up to 100 ms between two attempts, so that with many
processes some hardly get a chance. Here they queue in the kernel, for two locks on an empty file beside the database.
One is the turn. The other is the head of the line: only its holder waits for the turn, so that no later process
overtakes it. A killed process releases both.

Only writers whose commit waits for the disk (`FULL`) queue; without that wait, a turn is over before it matters. The
queue is for fairness only. SQLite's own lock protects the file, also against programs that do not use the queue, and
where there is no `fcntl`, as on Windows, there is no queue.
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
_RELIED_ON = 0.05  # seconds for which the file is assumed to still exist


class Turns:
    """This process's place in the queue of a file; used by one thread at a time."""

    def __init__(self, path: str | None) -> None:
        """Prepare to queue for a database; None means one that no other process can use."""
        self._path = None if path is None or fcntl is None else path + _SUFFIX
        self._descriptor: int | None = None
        self._is_ours = False
        self._seen = 0.0  # when the file was last seen to exist

    def enter(self, *, wait: bool) -> bool:
        """Take the turn, waiting for it if asked to; return whether it is ours."""
        while self._path is not None:
            try:
                if self._descriptor is None:
                    self._descriptor = self._open(self._path)
                self._is_ours = True  # or may be, from here on
                self._lock(self._descriptor, wait)
                if self._is_there(self._descriptor):
                    return True
                self.close()  # the last user removed the file, and others lock a new one
            except BlockingIOError:
                return False
            except OSError:  # no permission, or a file system without locks
                self.close()
                return True
        return True

    def _is_there(self, descriptor: int) -> bool:
        now = time.monotonic()
        if now - self._seen > _RELIED_ON:
            if not os.fstat(descriptor).st_nlink:
                return False
            self._seen = now
        return True

    @staticmethod
    def _lock(descriptor: int, wait: bool) -> None:
        try:
            if wait:
                fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, _LINE)
                fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, _TURN)
            else:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, _TURN)  # and the line
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _LINE)

    def _open(self, path: str) -> int:
        self._seen = 0.0
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
        """Release the turn, if it may be ours."""
        if self._is_ours and self._descriptor is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
            self._is_ours = False

    def close(self) -> None:
        """Stop queuing, and release the turn if it is ours; `enter` starts again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Stop queuing, and remove the file unless another process is writing."""
        if self._path is not None and self._descriptor is not None:
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all of it
                if os.fstat(self._descriptor).st_nlink:
                    os.unlink(self._path)
        self.close()
