"""The pages of a database file as they are on the disk, with what SQLite does not show of them.

See https://sqlite.org/fileformat2.html.
"""

import os
import re
import struct
from collections.abc import Iterable

# The first byte of a page, see https://sqlite.org/fileformat2.html#b_tree_pages
_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_INNER = (_INDEX_INNER, _TABLE_INNER)
_WITH_VALUES = (_INDEX_INNER, _INDEX_LEAF, _TABLE_LEAF)
# Old lists of rows are left in gaps as well: pairs of bytes, one of each less than 32. Three bytes are no text.
_TEXT = re.compile(rb"[^\0-\x1f]{4}")
_CHUNK = 1 << 20  # bytes read at once


class PagesOnDisk:
    """The database file, read through a descriptor by which SQLite has it open.

    One of our own would, when it is closed, end the locks that the process has on the file: see
    https://sqlite.org/howtocorrupt.html, 2.2. For the same reason SQLite closes none as long as a connection is open.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = _find_descriptor(path)
        header = os.pread(self._descriptor, 100, 0)
        if not header.startswith(b"SQLite format 3\0"):
            raise OSError(f"{path} | is encrypted")
        size, self._reserved = struct.unpack_from(">H2xB", header, 16)
        self._page_size = 65536 if size == 1 else size

    def search(self) -> tuple[dict[int, bytes], dict[int, list[int]]]:
        """Return the pages that hold text in their gaps, and the numbers of the pages below each inner one."""
        unclean: dict[int, bytes] = {}
        children: dict[int, list[int]] = {}
        number = 0
        while chunk := os.pread(self._descriptor, _CHUNK, number * self._page_size):
            for start in range(0, len(chunk), self._page_size):
                number += 1
                page = chunk[start : start + self._page_size - self._reserved]
                header = 0 if number > 1 else 100
                if page[header] in _INNER:
                    children[number] = _children(page, header)
                if holds_text(page):
                    unclean[number] = page
        return unclean, children

    def has_text_on_free_pages(self) -> bool:
        """Tell whether a program that does not zero what it deletes has freed pages, as the earlier package did."""
        for _ in range(2):  # pages can be taken into use meanwhile
            free = self._free_pages()
            if not any(_TEXT.search(self._page(number), start) for number, start in free.items()):
                return False
        return True

    def _free_pages(self) -> dict[int, int]:
        """Return the numbers of the free pages, and where on each what was there before begins."""
        free: dict[int, int] = {}
        (trunk,) = struct.unpack(">I", os.pread(self._descriptor, 4, 32))
        while trunk and trunk not in free:  # in a damaged file, they can be a circle
            page = self._page(trunk)
            following, count = struct.unpack_from(">II", page)
            free[trunk] = 8 + 4 * count
            free.update(dict.fromkeys(struct.unpack_from(f">{count}I", page, 8), 0))
            trunk = following
        return free

    def _page(self, number: int) -> bytes:
        return os.pread(self._descriptor, self._page_size - self._reserved, (number - 1) * self._page_size)

    def unclean_among(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return those of some pages that hold text in their gaps."""
        pages = {number: self._page(number) for number in numbers}
        return {number: page for number, page in pages.items() if holds_text(page)}


def _find_descriptor(path: str) -> int:
    status = os.stat(path)
    for name in os.listdir("/dev/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), status) and os.pread(int(name), 1, 0):
                return int(name)
        except OSError:  # closed meanwhile
            continue
    raise FileNotFoundError(path)


def holds_text(page: bytes) -> bool:
    """Tell whether there is text in the gap of a page, between its list of rows and the rows."""
    if not page or page[0] not in _WITH_VALUES:
        return False
    count, start = struct.unpack_from(">HH", page, 3)
    gap = page[(12 if page[0] in _INNER else 8) + 2 * count : start or None].strip(b"\0")
    return len(gap) > 3 and _TEXT.search(gap) is not None


def _children(page: bytes, header: int) -> list[int]:
    count, last = struct.unpack_from(">H3xI", page, header + 3)
    cells = struct.unpack_from(f">{count}H", page, header + 12)
    return [*(struct.unpack_from(">I", page, cell)[0] for cell in cells), last]


def rows_on(page: bytes) -> list[tuple[int, int]]:
    """Return the rows on a page of a table, each as its length and its number; none of a page of another kind."""
    if page[0] != _TABLE_LEAF:
        return []
    rows = []
    (count,) = struct.unpack_from(">H", page, 3)
    for cell in struct.unpack_from(f">{count}H", page, 8):
        length, cell = _varint(page, cell)
        rows.append((length, _varint(page, cell)[0]))
    return rows


def row_size(length: int, rowid: int, *, usable: int) -> int:
    """Return how many bytes a row of this length takes on its page; the rest is on overflow pages."""
    here = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = 4 + (here if here <= usable - 35 else least)
    return varint_size(length) + varint_size(rowid) + here


def _varint(page: bytes, start: int) -> tuple[int, int]:
    """Read a number of one to nine bytes; return it, and where it ends."""
    value = 0
    for at in range(start, start + 8):
        value = value << 7 | page[at] & 127
        if page[at] < 128:
            return value, at + 1
    return value << 8 | page[start + 8], start + 9


def varint_size(value: int) -> int:
    """Return how many bytes a number takes."""
    return min(9, max(1, -(-value.bit_length() // 7)))
