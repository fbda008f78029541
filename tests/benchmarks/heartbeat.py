"""A heartbeat in an event loop, which shows how long the loop was blocked."""

import asyncio
import time
from types import TracebackType

BEAT = 0.005  # seconds


class Heartbeat:
    """Beats in the event loop during a block.

    Attributes:
        gaps: The times between two beats, in seconds.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []

    @property
    def longest(self) -> float:
        """The longest gap, in seconds."""
        return max(self.gaps)

    async def __aenter__(self) -> "Heartbeat":
        self._task = asyncio.ensure_future(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.sleep(BEAT)  # for the beat that is due
        self._task.cancel()

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self.gaps.append(now - before)
            before = now
