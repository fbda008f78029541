"""How a value is cut into blocks, so that its next version shares those that did not change.

Strands saves a conversation by handing over all of it as one JSON document, again and again. Its front says when it was
saved, a new message shifts everything behind the messages, and a conversation manager removes messages in front. Blocks
of a fixed size would share nothing behind the first place that shifts. So the bytes themselves say where a block ends:
in front of a text, where a checksum of what surrounds that place is the smallest far and wide. Behind a change, the
cuts soon fall into the same places again.
"""

import hashlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_PAGE = 4096  # bytes; less than that is not cut, since a row writes a page at least
_TEXT = b'{"text"'  # begins the text of a message, and of an entry of a stash
_WINDOW = 64  # bytes before and behind a place whose checksum decides
_LONGEST = 3  # times the shortest block


class Block(NamedTuple):
    """A part of a value.

    Attributes:
        hash: The SHA-256 of the data, which identifies the block: nobody can forge one with the hash of another.
        data: The bytes.
    """

    hash: bytes
    data: bytes


def cut(value: bytes, like: Sequence[Block] = ()) -> Sequence[Block]:
    """Return the blocks of a value, in order; none if it is empty.

    Args:
        value: The value.
        like: The blocks of a value that begins in the same way, or of any other. They save time and change nothing.
    """
    if len(value) <= _PAGE:
        return [_block(value)] if value else []
    # Each block costs a row, and each change costs a block. With blocks in proportion to the root of the whole, neither
    # prevails: 20 KB are some six blocks, and 2 MB some sixty.
    shortest = _shortest(len(value))
    front = value.find(_TEXT, 1, shortest)  # it says when a snapshot was saved, and so is always another
    blocks = [_block(value[:front])] if front > 0 else []
    end = front if front > 0 else 0
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
    """Return how long a block is at least in a value of a size."""
    return 16 << (size.bit_length() // 2)


def _same(value: bytes, start: int, like: Sequence[Block], reach: int) -> Sequence[Block]:
    """Return as many of some blocks as a value has from a place on, and would be cut into again.

    Args:
        value: The value.
        start: The place.
        like: The blocks.
        reach: How many bytes, from the start of a block on, decide where it ends.
    """
    starts = [start]
    for _, data in like:
        end = starts[-1] + len(data)
        if value[starts[-1] : end] != data:
            break
        starts.append(end)
    return like[: sum(place + reach <= starts[-1] for place in starts)]


def _next_end(value: bytes, first: int, last: int) -> int:
    """Return the place between two that ends a block; the last one if there is no text."""
    places = []
    place = value.find(_TEXT, first, last)
    while place >= 0:
        places.append((zlib.crc32(value[place - _WINDOW : place + _WINDOW]), place))
        place = value.find(_TEXT, place + 1, last)
    return min(places)[1] if places else min(last, len(value))
