"""The blocks of the values that were written or read last.

To hash a long conversation takes longer than to store it, and to read it longer than to see that it is the same.
"""

import sqlite3
from collections.abc import Sequence

from . import values
from .blocks import Block, cut, join

_COUNT = 4  # values
_LEAST, _MOST = 65_536, 8_388_608  # bytes: shorter values are hashed in no time, longer ones would fill the memory


class Recent:
    """Cuts values into blocks and reads them, and hashes and reads only what the last ones did not have.

    Threads share it without a lock: one of them can lose what another one keeps, which costs time and nothing else.
    """

    def __init__(self) -> None:
        self._values: tuple[tuple[str, Sequence[Block]], ...] = ()  # the last one first

    def cut(self, key: str, value: bytes) -> Sequence[Block]:
        """Return the blocks of a value.

        Args:
            key: Its key: what is known of the last value under it helps, else what is known of the last one at all.
            value: The value.
        """
        last = self._values
        blocks = cut(value, dict(last).get(key) or (last[0][1] if last else ()))
        self._keep(key, blocks, len(value))
        return blocks

    def read(self, connection: sqlite3.Connection, key: str) -> bytes | None:
        """Return the value under a key, or None if there is none; see `values.read_blocks`."""
        blocks = values.read_blocks(connection, key, dict(self._values).get(key, ()))
        if blocks is None:
            return None
        value = join(blocks)
        self._keep(key, blocks, len(value))
        return value

    def _keep(self, key: str, blocks: Sequence[Block], size: int) -> None:
        if _LEAST < size <= _MOST:
            self._values = ((key, blocks), *(other for other in self._values if other[0] != key))[:_COUNT]
