"""The outcome of a queued write.

`concurrent.futures.Future` would do, except that its lock is used from Python code: an interrupt can leave it held.
Then the committer would wait for it, and all writers of the process for the committer. Here every step is one call of C
code.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future


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
        self._futures: list[Future[None]] = []

    def begin(self) -> bool:
        """Decide that the write happens; return False if it was withdrawn."""
        return self._take_claim()

    def withdraw(self) -> bool:
        """Decide that the write never happens; return False if it has begun."""
        if self._take_claim():
            self.is_withdrawn = True
            self._finish()
            _wake(self._futures)
        return self.is_withdrawn

    def fail(self, error: BaseException) -> None:
        """Set the error of a write, unless it has ended or was withdrawn."""
        if not self.is_done and (not self._claim or self._take_claim()):
            end_all([(self, None, error)])

    def wait(self, timeout: float) -> bool:
        """Wait until the write has ended or was withdrawn; return whether it has."""
        if not self.is_done and self._end.acquire(timeout=max(timeout, 0)):
            self._end.release()
        return self.is_done

    def notify(self, future: "Future[None]") -> None:
        """End a future of an event loop when the write has ended or was withdrawn."""
        self._futures.append(future)
        if self.is_done:
            _wake(self._futures)

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


Ended = tuple[Outcome, Any, BaseException | None]
"""The outcome of a write that has begun, with its result or its error."""


def end_all(ended: list[Ended]) -> None:
    """Set the results and errors of writes, and then wake each event loop once: each time, it takes the GIL."""
    for outcome, result, error in ended:
        outcome.result, outcome.error = result, error
        outcome._finish()
    _wake(chain.from_iterable(outcome._futures for outcome, _, _ in ended))


def _wake(futures: Iterable["Future[None]"]) -> None:
    by_loop: dict[AbstractEventLoop, list[Future[None]]] = {}
    for future in futures:
        by_loop.setdefault(future.get_loop(), []).append(future)
    for loop, its_futures in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end_futures, its_futures)


def end_futures(futures: "list[Future[None]]") -> None:
    """End futures that have not ended and were not canceled; called in their event loop."""
    for future in futures:
        if not future.done():
            future.set_result(None)
