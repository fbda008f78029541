"""What an automatic context took out of an agent's messages, given back to it after a restart.

With `context_manager="auto"`, Strands stashes every block of every message, and leaves previews and references in the
agent's context. By default the stash is in memory, and ends with the process. Our history still has all of it: the
stash of an agent that resumes is filled from there when it is first asked for something.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from strands.types.content import Message

from .strands_private import ephemeral_stash, stash_entries, use_storage_of_stash

_PAUSE = 200  # entries after which others on the event loop have their turn


class _FilledLater:
    """The storage of a stash; like the one that it wraps, but filled before the first time that it is read."""

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
    """Let the stash of an agent that resumed give back what it gave in the process before, if it is in memory.

    Args:
        agent: The agent.
        read_history: Returns its messages as they were said; called at most once, in a thread.
    """
    stash = ephemeral_stash(agent)
    if stash is not None:
        use_storage_of_stash(stash, lambda storage: _FilledLater(storage, read_history))
