"""The blocks of the values that were written last: to hash a long conversation takes longer than to store it."""

from collections.abc import Sequence

from .blocks import Block, cut

_COUNT = 4  # values
_LEAST, _MOST = 65_536, 8_388_608  # bytes: shorter values are hashed in no time, longer ones would fill the memory


class Recent:
    """Cuts values into blocks, and hashes only what the last ones did not have.

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
        values = self._values
        known = dict(reversed(values))
        blocks = cut(value, known.get(key) or (values[0][1] if values else ()))
        if _LEAST < len(value) <= _MOST:
            self._values = ((key, blocks), *(other for other in values if other[0] != key))[:_COUNT]
        return blocks
