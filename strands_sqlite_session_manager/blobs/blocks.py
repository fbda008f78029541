"""How a value is cut into blocks, so that its next version shares those that did not change.

Strands saves a conversation by handing over all of it as one JSON document, again and again. Its front says when it was
saved, a new message shifts everything behind the messages, and a conversation manager removes messages in front. Blocks
of a fixed size would share nothing behind the first place that shifts. So the bytes themselves say where a block ends:
in front of a text, if a checksum of what surrounds that place happens to be divisible by four. Behind a change, the
cuts soon fall into the same places again.
"""

import hashlib
import zlib
from itertools import pairwise
from typing import NamedTuple

_PAGE = 4096  # bytes; less than that is not cut, since a row writes a page at least
_TEXT = b'{"text"'  # begins the text of a message, and of an entry of a stash
_WINDOW = 64  # bytes before and behind a place whose checksum decides
_ONE_IN = 4
_LONGEST = 4  # times the shortest block


class Block(NamedTuple):
    """A part of a value.

    Attributes:
        hash: The SHA-256 of the data, which identifies the block: nobody can forge one with the hash of another.
        data: The bytes.
    """

    hash: bytes
    data: bytes


def cut(value: bytes) -> list[Block]:
    """Return the blocks of a value, in order; none if it is empty."""
    ends = _ends(value) if len(value) > _PAGE else [len(value)] if value else []
    return [_block(value[start:end]) for start, end in pairwise([0, *ends])]


def hash_of(data: bytes) -> bytes:
    """Return the hash that identifies a block."""
    return hashlib.sha256(data).digest()


def _block(data: bytes) -> Block:
    return Block(hash_of(data), data)


def _ends(value: bytes) -> list[int]:
    # Each block costs a row, and each change costs a block. With blocks in proportion to the root of the whole, neither
    # prevails: 20 KB are some ten blocks, and 2 MB some two hundred.
    shortest = 8 << (len(value).bit_length() // 2)
    ends = []
    front = value.find(_TEXT, 1, shortest)
    if front > 0:
        ends.append(front)  # it says when a snapshot was saved, and so is always another
    end = front if front > 0 else 0
    while end < len(value):
        end = _next_end(value, end + shortest, end + shortest * _LONGEST)
        ends.append(end)
    return ends


def _next_end(value: bytes, first: int, last: int) -> int:
    """Return the first place between two that ends a block; the last one if there is none."""
    place = value.find(_TEXT, first, last)
    while place >= 0 and zlib.crc32(value[place - _WINDOW : place + _WINDOW]) % _ONE_IN:
        place = value.find(_TEXT, place + 1, last)
    return place if place >= 0 else min(last, len(value))
