"""Refills the stash of `context_manager="auto"` after a restart, from the history.

With this context manager, Strands stashes every block of every message, and leaves previews and references in the
agent's context. By default the stash is in memory and is lost with the process. Our history still has everything, so a
resumed agent's stash is refilled from there when it is first read.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from strands.types.content import Message

from .strands_private import ephemeral_stash, stash_entries, use_storage_of_stash

_PAUSE = 200  # entries after which other tasks of the event loop get to run


class _FilledLater:
    """The storage of a stash; like the one that it wraps, but filled before it is first read."""

    def __init__(self, storage: Any, read_history: Callable[[], list[Message]]) -> None:
        self._storage = storage
        self._read_history: Callable[[], list[Message]] | None = read_history

    async def read(self, key: str) -> bytes | None:
        await self._fill()
        return await self._storage.read(key)  # type: ignore[no-any-return]

    async def write(self, key: str, data: bytes) -> None:
        await self._storage.write(key, data)

    async def delete(self, key: str) -> None:
        await self._fill()
        await self._storage.delete(key)

    async def list(self, prefix: str = "") -> list[str]:
        await self._fill()
        return await self._storage.list(prefix)  # type: ignore[no-any-return]

    async def _fill(self) -> None:
        read_history = self._read_history
        if read_history is None:
            return
        entries = await asyncio.to_thread(lambda: stash_entries(read_history()))
        for number, (key, data) in enumerate(entries.items()):
            if number % _PAUSE == 0:
                await asyncio.sleep(0)
            if await self._storage.read(key) is None:  # what was stashed since is newer
                await self._storage.write(key, data)
        self._read_history = None


def refill(agent: Any, read_history: Callable[[], list[Message]]) -> None:
    """Let the in-memory stash of a resumed agent return what it returned in the previous process.

    `read_history` returns its messages as they were said; it is called in a thread, when the stash is first read.
    """
    stash = ephemeral_stash(agent)
    if stash is not None:
        use_storage_of_stash(stash, lambda storage: _FilledLater(storage, read_history))
