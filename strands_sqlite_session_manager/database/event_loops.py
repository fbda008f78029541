"""How an event loop waits for the database without blocking, and how threads wait for a coroutine."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .database import FAILURES, Database
from .locks import locked
from .outcome import end_futures
from .writers import Write

_T = TypeVar("_T")
_GRACE = 0.5  # seconds that a canceled task still waits for its write: there may be no next event to store it


async def result_of(database: Database, write: Write) -> Any:
    """Return the result of a write that was queued.

    If the task is canceled, the write still gets a short time to finish; after that it is withdrawn.

    Raises:
        SessionException: If SQLite fails, or other writers take too long.
        Exception: What the write's `work` raises.
    """
    outcome = write.outcome
    assert outcome is not None
    try:
        await ended(write, write.settings.timeout)
        if outcome.withdraw():
            raise database.failure(locked())
        await ended(write)
    except asyncio.CancelledError:
        await ended(write, _GRACE)
        raise
    finally:  # also when the event loop is abandoned with this task in it
        outcome.withdraw()
    if isinstance(outcome.error, FAILURES):
        raise database.failure(outcome.error) from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


async def ended(write: Write, timeout: float | None = None) -> None:
    """Wait until a queued write has ended, but no longer than `timeout` seconds."""
    if write.outcome is None or write.outcome.is_done:
        return
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    write.outcome.notify(end)
    timer = None if timeout is None else loop.call_later(timeout, end_futures, [end])
    try:
        await end
    finally:
        if timer is not None:
            timer.cancel()


async def in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Return what a function returns, called with the arguments in another thread.

    The threads belong to no event loop: Strands runs a new loop for each synchronous call, and starting and ending
    threads for each loop would take longer than most calls.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
    except RuntimeError:  # the interpreter is shutting down and starts no threads
        return work(*arguments)
    return await future


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of a coroutine function, called in a thread with an event loop of its own."""

    async def result() -> _T:
        return await work()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(result())).result()


def _new_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="strands-sqlite")


_threads = _new_threads()  # it starts threads when they are needed


def _renew_threads() -> None:
    global _threads
    _threads = _new_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_threads)  # in a forked child, they do not exist
