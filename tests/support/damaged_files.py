"""Damages the bytes of a database, of its write-ahead log, and of that log's index; a number chooses how and where."""

import random
import struct
from collections.abc import Callable

PAGE = 4096
_FRAME = PAGE + 24
_LOG_HEADER = 32

# A file by the suffix of its name: none, `-wal` or `-shm`.
Files = dict[str, bytes]
Generator = random.Random

# Fields of the header, as offset and size: https://sqlite.org/fileformat2.html#the_database_header
_HEADER = (
    *((0, 16), (16, 2), (18, 1), (19, 1), (20, 1), (21, 1), (22, 1), (23, 1), (24, 4), (28, 4), (32, 4), (36, 4)),
    *((40, 4), (44, 4), (48, 4), (52, 4), (56, 4), (60, 4), (64, 4), (68, 4), (72, 20), (92, 4), (96, 4)),
)
# Fields of a page: its kind, first free block, number of cells, start of the cells, fragments, last child.
_PAGE_HEADER = ((0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4))


def damaged(files: Files, seed: int, number: int) -> tuple[str, Files]:
    """Return the name of what was done to a copy of some files, and the copy."""
    generator = Generator(f"{seed} {number}")
    name = list(KINDS)[number % len(KINDS)]
    return name, KINDS[name](dict(files), generator)


def _in(
    suffix: str, change: Callable[[bytearray, Generator], bytes | bytearray]
) -> Callable[[Files, Generator], Files]:
    def apply(files: Files, generator: Generator) -> Files:
        return {**files, suffix: bytes(change(bytearray(files.get(suffix, b"")), generator))}

    return apply


def _flip_a_bit(content: bytearray, generator: Generator) -> bytearray:
    if content:
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return content


def _flip_bits(content: bytearray, generator: Generator) -> bytearray:
    for _ in range(generator.randint(2, 200)):
        _flip_a_bit(content, generator)
    return content


def _overwrite(content: bytearray, generator: Generator) -> bytearray:
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(content) or 1)
        part = generator.randbytes(generator.randint(1, 300))
        content[at : at + len(part)] = part[: len(content) - at]
    return content


def _zero_pages(content: bytearray, generator: Generator) -> bytearray:
    for page in _pages(content, generator, generator.randint(1, 3)):
        content[page : page + PAGE] = bytes(PAGE)
    return content


def _swap_pages(content: bytearray, generator: Generator) -> bytearray:
    one, other = _pages(content, generator, 2)
    content[one : one + PAGE], content[other : other + PAGE] = content[other : other + PAGE], content[one : one + PAGE]
    return content


def _repeat_a_page(content: bytearray, generator: Generator) -> bytearray:
    one, other = _pages(content, generator, 2)
    content[one : one + PAGE] = content[other : other + PAGE]
    return content


def _cut_anywhere(content: bytearray, generator: Generator) -> bytearray:
    return content[: generator.randrange(1, max(2, len(content)))]  # an empty file counts as a new one


def _cut_at_a_page(content: bytearray, generator: Generator) -> bytearray:
    return content[: generator.randrange(1, max(2, len(content) // PAGE)) * PAGE]


def _append_garbage(content: bytearray, generator: Generator) -> bytearray:
    return content + generator.randbytes(generator.choice([1, 100, PAGE, 3 * PAGE, 50_000]))


def _attack_the_header(content: bytearray, generator: Generator) -> bytearray:
    for at, size in generator.sample(_HEADER, generator.choice([1, 1, 3])):
        content[at : at + size] = _number(size, generator)
    return content


def _attack_a_page(content: bytearray, generator: Generator) -> bytearray:
    for page in _pages(content, generator, generator.choice([1, 1, 5])):
        start = page or 100  # the first page begins with the file's header
        at, size = generator.choice(_PAGE_HEADER)
        content[start + at : start + at + size] = _number(size, generator, len(content) // PAGE)
    return content


def _attack_pointers(content: bytearray, generator: Generator) -> bytearray:
    """Let a page point to wrong cells, and an inner one to wrong children: its parent or itself, for example."""
    for page in _pages(content, generator, generator.choice([1, 5])):
        start = page or 100
        kind, count = content[start], struct.unpack_from(">H", content, start + 3)[0]
        pointers = start + (12 if kind in (2, 5) else 8)
        if kind not in (2, 5, 10, 13) or not 0 < count < 1000:
            continue
        pointer = pointers + 2 * generator.randrange(count)
        (cell,) = struct.unpack_from(">H", content, pointer)
        if kind in (2, 5) and cell < PAGE - 4 and generator.random() < 0.7:
            content[page + cell : page + cell + 4] = _number(4, generator, len(content) // PAGE)
        else:
            content[pointer : pointer + 2] = struct.pack(">H", generator.randrange(PAGE))
    return content


def _attack_cells(content: bytearray, generator: Generator) -> bytearray:
    """Change the first bytes of rows: their lengths, their numbers, and the types of their columns."""
    for page in _pages(content, generator, generator.choice([1, 5])):
        start = page or 100
        kind, count = content[start], struct.unpack_from(">H", content, start + 3)[0]
        if kind in (10, 13) and 0 < count < 1000:
            (cell,) = struct.unpack_from(">H", content, start + 8 + 2 * generator.randrange(count))
            at = min(page + cell + generator.randrange(16), len(content) - 1)
            content[at] = generator.choice([content[at] ^ 1, content[at] ^ 1 << generator.randrange(8), 0, 255])
    return content


def _swap_frames(content: bytearray, generator: Generator) -> bytearray:
    starts = range(_LOG_HEADER, len(content) - _FRAME, _FRAME)
    if len(starts) > 1:
        one, other = generator.sample(starts, 2)
        first, second = content[one : one + _FRAME], content[other : other + _FRAME]
        content[one : one + _FRAME], content[other : other + _FRAME] = second, first
    return content


def _attack_the_log_header(content: bytearray, generator: Generator) -> bytearray:
    at = 4 * generator.randrange(14)
    content[at : at + 4] = _number(4, generator)
    return content


def _random_bytes(content: bytearray, generator: Generator) -> bytes:
    return generator.randbytes(generator.choice([1, 1000, 32768, 65536]))


def _lost(files: Files, generator: Generator) -> Files:
    return {suffix: content for suffix, content in files.items() if suffix != "-wal"}


def _several(files: Files, generator: Generator) -> Files:
    for kind in generator.sample([KINDS[name] for name in KINDS if name != "several" and name not in OF_THE_LOG], 3):
        if len(files.get("", b"")) > 2 * PAGE:
            files = kind(files, generator)
    return files


def _pages(content: bytearray, generator: Generator, count: int) -> list[int]:
    every = range(0, len(content) - PAGE + 1, PAGE)
    return generator.sample(every, min(count, len(every)))


def _number(size: int, generator: Generator, most: int = 70_000) -> bytes:
    every = 256**size - 1
    edges = [0, 1, 2, every, every // 2, every // 2 + 1, generator.randint(0, every), generator.randint(0, most)]
    return min(generator.choice(edges), every).to_bytes(size, "big")


KINDS: dict[str, Callable[[Files, Generator], Files]] = {
    "a bit": _in("", _flip_a_bit),
    "bits": _in("", _flip_bits),
    "bytes": _in("", _overwrite),
    "zeroed pages": _in("", _zero_pages),
    "swapped pages": _in("", _swap_pages),
    "a repeated page": _in("", _repeat_a_page),
    "cut": _in("", _cut_anywhere),
    "cut at a page": _in("", _cut_at_a_page),
    "garbage behind it": _in("", _append_garbage),
    "the header": _in("", _attack_the_header),
    "a page's header": _in("", _attack_a_page),
    "pointers": _in("", _attack_pointers),
    "cells": _in("", _attack_cells),
    "a bit of the write-ahead log": _in("-wal", _flip_a_bit),
    "bytes of the write-ahead log": _in("-wal", _overwrite),
    "frames of the write-ahead log": _in("-wal", _swap_frames),
    "the write-ahead log's header": _in("-wal", _attack_the_log_header),
    "the write-ahead log cut": _in("-wal", _cut_anywhere),
    "garbage behind the write-ahead log": _in("-wal", _append_garbage),
    "garbage for a write-ahead log": _in("-wal", _random_bytes),
    "the write-ahead log lost": _lost,
    "bits of the index": _in("-shm", _flip_bits),
    "garbage for an index": _in("-shm", _random_bytes),
    "several": _several,
}
# Damage that leaves the file itself as it is: SQLite goes back to what was committed before the damage.
OF_THE_LOG = {name for name in KINDS if "log" in name or "index" in name}
