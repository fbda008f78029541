"""Cancels a turn of an agent at a chosen await point, its own or one of its tasks'."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Turn = Callable[[], Coroutine[Any, Any, Any]]


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that reports whenever it is about to be suspended."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspended: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        waited_for = self._coroutine.send(value)
        self._suspended()
        return waited_for

    def throw(self, *error: Any) -> Any:
        waited_for = self._coroutine.throw(*error)
        self._suspended()
        return waited_for

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


async def cancel_at(turn: Turn, point: int) -> bool:
    """Take a turn that is canceled when it, or a task that it has started, is suspended for that time.

    Returns:
        Whether it was canceled; False if the turn had fewer await points and succeeded.
    """
    loop = asyncio.get_running_loop()
    points = 0
    canceled = False

    def suspended() -> None:
        nonlocal points, canceled
        points += 1
        if points == point:
            canceled = True
            task.cancel()

    def create_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Counted(coroutine, suspended), loop=loop, **options)

    loop.set_task_factory(create_task)
    try:
        task = loop.create_task(turn())
        await asyncio.wait([task])
    finally:
        loop.set_task_factory(None)
    if not canceled:
        task.result()
    elif not task.cancelled():
        task.result()  # the turn has handled it, or was at its end; anything but success is raised here
    return canceled
