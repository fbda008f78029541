"""How an event loop waits for the database without standing still."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from .database import FAILURES, Database
from .locks import locked
from .writers import Write

_T = TypeVar("_T")
_GRACE = 0.5  # seconds that a canceled task still waits for its write: there may be no later one to store the same


async def result_of(database: Database, write: Write) -> Any:
    """Return the result of a write that was queued.

    If the task is canceled, the write still has a moment to happen; after that it is withdrawn.

    Raises:
        SessionException: If SQLite fails, or other writers take too long.
        Exception: What the write's `work` raises.
    """
    outcome = write.outcome
    assert outcome is not None
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended(write), write.settings.timeout)
        if outcome.withdraw():
            raise database.failure(locked())
        await ended(write)
    except asyncio.CancelledError:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended(write), _GRACE)
        raise
    finally:  # also when the event loop is given up with this task in it
        outcome.withdraw()
    if isinstance(outcome.error, FAILURES):
        raise database.failure(outcome.error) from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


async def ended(write: Write) -> None:
    """Wait until a queued write has ended."""
    if write.outcome is None:
        return
    loop = asyncio.get_running_loop()
    end = loop.create_future()

    def tell() -> None:
        if not end.done():
            end.set_result(None)

    def tell_loop() -> None:
        with suppress(RuntimeError):  # it was closed meanwhile
            loop.call_soon_threadsafe(tell)

    write.outcome.call_back(tell_loop)
    await end


async def in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Return what a function returns, called with the arguments in another thread."""
    loop = asyncio.get_running_loop()
    try:
        future = loop.run_in_executor(None, work, *arguments)
    except RuntimeError:  # the interpreter shuts down, and starts no thread
        return work(*arguments)
    return await future
