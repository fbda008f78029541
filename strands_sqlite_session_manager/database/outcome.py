"""The outcome of a queued write.

`concurrent.futures.Future` would do, except that its lock is used from Python code: an interrupt can leave it held.
Then the committer would wait for it, and all writers of the process for the committer. Here every step is one call of C
code.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Outcome:
    """Lets a writer wait for a write's result, or withdraw the write before it begins.

    Attributes:
        is_done: Whether the write ended, or was withdrawn.
        is_withdrawn: Whether it was withdrawn, and so will never happen.
        error: What it raised; None if it raised nothing, or has not ended.
        result: What it returned.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.is_withdrawn = False
        self.error: BaseException | None = None
        self.result: Any = None
        self._claim = [None]  # the first to pop it decides: the committer writes, or the writer withdraws
        self._end = threading.Lock()  # held until the write ends
        self._end.acquire()
        self._callbacks: list[Callable[[], object]] = []

    def begin(self) -> bool:
        """Decide that the write happens; return False if it was withdrawn."""
        return self._take_claim()

    def withdraw(self) -> bool:
        """Decide that the write never happens; return False if it has begun."""
        if self._take_claim():
            self.is_withdrawn = True
            self._finish()
        return self.is_withdrawn

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Set the result or the error of a write that has begun."""
        self.result, self.error = result, error
        self._finish()

    def fail(self, error: BaseException) -> None:
        """Set the error of a write, unless it has ended or was withdrawn."""
        if not self.is_done and (not self._claim or self._take_claim()):
            self.end(error=error)

    def wait(self, timeout: float) -> bool:
        """Wait until the write has ended or was withdrawn; return whether it has."""
        if not self.is_done and self._end.acquire(timeout=max(timeout, 0)):
            self._end.release()
        return self.is_done

    def call_back(self, callback: Callable[[], object]) -> None:
        """Call a function when the write has ended or was withdrawn, in whatever thread, once or twice."""
        self._callbacks.append(callback)
        if self.is_done:
            callback()

    def _take_claim(self) -> bool:
        try:
            self._claim.pop()
            return True
        except IndexError:
            return False

    def _finish(self) -> None:
        self.is_done = True
        with suppress(RuntimeError):  # already released: an interrupted `withdraw` is repeated
            self._end.release()
        for callback in self._callbacks:
            callback()
