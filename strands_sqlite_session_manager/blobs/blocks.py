"""How a value is cut into blocks, so that its next version shares the unchanged ones.

Strands saves a conversation by handing over all of it as one JSON document, again and again. Its front says when it was
saved, a new message shifts everything after the messages, and a conversation manager removes messages in front. Blocks
of a fixed size would share nothing after the first shift. So the bytes themselves say where a block ends: before a
text, where a checksum of the surrounding bytes is the smallest within reach. Soon after a change, the cuts fall into
the same places again.
"""

import hashlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_PAGE = 4096  # bytes; a value of this size or less is not cut, since writing a row writes at least a page
_TEXT = b'{"text"'  # begins the text of a message, and of an entry of a stash
_WINDOW = 64  # bytes before and after a place whose checksum decides
_LONGEST = 3  # times the shortest block


class Block(NamedTuple):
    """A part of a value.

    Attributes:
        hash: The SHA-256 of the data, which identifies the block: another one with the same hash cannot be forged.
        data: The bytes.
    """

    hash: bytes
    data: bytes


def cut(value: bytes, like: Sequence[Block] = ()) -> Sequence[Block]:
    """Return the blocks of a value, in order; none if it is empty.

    Args:
        value: The value.
        like: The blocks of another value, ideally one that begins the same way. They save time and do not change the
            result.
    """
    if len(value) <= _PAGE:
        return [_block(value)] if value else []
    # Each block costs a row, and each change costs a block. Blocks in proportion to the square root of the value's size
    # balance both: 20 KB are about six blocks, and 2 MB about sixty.
    shortest = _shortest(len(value))
    front = value.find(_TEXT, 1, shortest)  # it says when a snapshot was saved, so it always changes
    blocks = [_block(value[:front])] if front > 0 else []
    end = max(front, 0)
    if shortest == _shortest(sum(len(block.data) for block in like)):
        same = _same(value, end, like[len(blocks) :], shortest * _LONGEST + _WINDOW)
        blocks += same
        end += sum(len(block.data) for block in same)
    while end < len(value):
        start, end = end, _next_end(value, end + shortest, end + shortest * _LONGEST)
        blocks.append(_block(value[start:end]))
    return blocks


def join(blocks: Sequence[Block]) -> bytes:
    """Return the value that some blocks make up."""
    return b"".join([block.data for block in blocks])


def hash_of(data: bytes) -> bytes:
    """Return the hash that identifies a block."""
    return hashlib.sha256(data).digest()


def _block(data: bytes) -> Block:
    return Block(hash_of(data), data)


def _shortest(size: int) -> int:
    """Return the length of the shortest block in a value of this size."""
    return 16 << (size.bit_length() // 2)


def _same(value: bytes, start: int, like: Sequence[Block], reach: int) -> Sequence[Block]:
    """Return the leading blocks of `like` that cutting a value from `start` on would give again.

    `reach` is how many bytes, from the start of a block, decide where it ends.
    """
    starts = [start]
    for _, data in like:
        end = starts[-1] + len(data)
        if value[starts[-1] : end] != data:
            break
        starts.append(end)
    return like[: sum(place + reach <= starts[-1] for place in starts)]


def _next_end(value: bytes, first: int, last: int) -> int:
    """Return where between two places a block ends; the second place, or the value's end, if no text begins there."""
    places = []
    place = value.find(_TEXT, first, last)
    while place >= 0:
        places.append((zlib.crc32(value[place - _WINDOW : place + _WINDOW]), place))
        place = value.find(_TEXT, place + 1, last)
    return min(places)[1] if places else min(last, len(value))
