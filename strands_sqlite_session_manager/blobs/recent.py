"""A cache of the blocks of the values that were written or read last.

Hashing a long conversation takes longer than storing it, and reading it takes longer than seeing that it is unchanged.
"""

import sqlite3
from collections.abc import Sequence

from . import values
from .blocks import Block, cut, join

_COUNT = 4  # values
_LEAST, _MOST = 65_536, 8_388_608  # bytes: hashing shorter values takes no time, longer ones would fill the memory


class Recent:
    """Cuts values into blocks and reads them; hashes and reads only what the last values did not have.

    Threads share it without a lock: one can lose what another keeps, which only costs time.
    """

    def __init__(self) -> None:
        self._values: tuple[tuple[str, Sequence[Block]], ...] = ()  # the latest first

    def cut(self, key: str, value: bytes) -> Sequence[Block]:
        """Return the blocks of a value; the last value under its key saves time, or else the last of any key."""
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
