"""Leaving nothing behind: what was deleted or redacted is gone from the unused parts of the file as well.

SQLite's `secure_delete` zeroes a row where it is removed. But rows move, to make room or to fill pages that others
have left, and then a copy may stay: a page that is laid out anew keeps, in the gap between its list of rows and the
rows, what was there before. Of a row that is deleted later, that copy is left. SQLite's own remedy is VACUUM, which
shuts writers out while it rewrites the file.

So the file is searched for gaps that hold text, and SQLite is made to clean each: one row of the page is padded
until the page is full, which overwrites the gap or closes it, and put back in the same transaction, which zeroes
the padding. A gap that has been clean once since the deletion needs no more attention: what is copied into one are
rows that exist.
"""

import os
import re
import sqlite3
import struct
from collections.abc import Iterable

from . import files
from .database import Database
from .errors import session_exception

# The first byte of a page, see https://sqlite.org/fileformat2.html#b_tree_pages
_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_INNER = (_INDEX_INNER, _TABLE_INNER)
_WITH_VALUES = (_INDEX_INNER, _INDEX_LEAF, _TABLE_LEAF)
# Old lists of rows are left in gaps as well: pairs of bytes, one of each less than 32. Three bytes are no text.
_TEXT = re.compile(rb"[^\0-\x1f]{4}")
_CHUNK = 1 << 20  # bytes read at once
_BATCH = 64  # pages cleaned in one transaction
_SMALL = 1024  # pages of an index that is rebuilt in one transaction
_ROUNDS = 4


def erase(database: Database, *, ids: bool) -> None:
    """Bring the log into the file, and leave in neither what was deleted or redacted before.

    The whole file is read, some 0.5 ms per MB, while others read and write; then the few pages that need it are
    cleaned. The rare page for which that does not work costs a VACUUM. So does every call for an encrypted file, and
    on a system without `/dev/fd`. While a reader holds an older view of the database nothing can be done; it is left
    to the next time.

    Args:
        database: The database. Its tables have rowids, and a text column `created_at` that is in no index.
        ids: Whether ids or metadata were deleted, so that indexes are to be cleaned, too. Those of more than 4 MB
            are not: ids can be left in them until a VACUUM.

    Raises:
        SessionException: If SQLite fails.
    """
    if database.path == files.MEMORY:
        return
    try:
        if database.empty_log() and not _clean_or_give_up(database, ids):
            database.write("VACUUM")
            database.empty_log()
    except Exception as error:
        raise session_exception(
            f"{error}; what was to be removed is removed, but traces of it stay in the file until the next deletion"
        ) from error


def _clean_or_give_up(database: Database, ids: bool) -> bool:
    try:
        return _clean(database, ids)
    except (OSError, LookupError, ValueError, struct.error):  # the file cannot be read beside SQLite, or is damaged
        return False


def _clean(database: Database, ids: bool) -> bool:
    """Clean every page that holds text in its gap; return False if some resist."""
    trees = database.read("SELECT type, name, rootpage FROM sqlite_master WHERE rootpage > 0")
    with database.transaction(write=False):  # holds a connection, and so the file, open
        file = _File(database.path)
        unclean, children = file.search()
        if file.has_text_on_free_pages():
            return False
    tables: dict[int, str] = {}
    for kind, name, root in [("schema", "", 1), *trees]:
        tree = [root]
        for number in tree:  # which grows meanwhile
            tree += children.pop(number, ())
        found = unclean.keys() & tree
        if kind == "table":
            tables.update(dict.fromkeys(found, name))
            continue
        if found and kind == "index" and ids and len(tree) <= _SMALL:
            database.write(f'REINDEX "{name}"')
        for number in found:
            del unclean[number]
    for _ in range(_ROUNDS):
        work = [(tables[number], page) for number, page in unclean.items() if number in tables]
        for start in range(0, len(work), _BATCH):
            with database.transaction() as connection:
                for table, page in work[start : start + _BATCH]:
                    _fill_for_a_moment(connection, table, page)
        if not database.empty_log():
            return True  # as in `erase`
        with database.transaction(write=False):
            unclean = _File(database.path).unclean_among(unclean)
        if not unclean:
            return True
    return False


class _File:
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
                if _holds_text(page):
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
            following, count = struct.unpack_from(">II", self._page(trunk))
            free[trunk] = 8 + 4 * count
            free.update(dict.fromkeys(struct.unpack_from(f">{count}I", self._page(trunk), 8), 0))
            trunk = following
        return free

    def _page(self, number: int) -> bytes:
        return os.pread(self._descriptor, self._page_size - self._reserved, (number - 1) * self._page_size)

    def unclean_among(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return those of some pages that hold text in their gaps."""
        pages = {number: self._page(number) for number in numbers}
        return {number: page for number, page in pages.items() if _holds_text(page)}


def _find_descriptor(path: str) -> int:
    status = os.stat(path)
    for name in os.listdir("/dev/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), status) and os.pread(int(name), 1, 0):
                return int(name)
        except OSError:  # closed meanwhile
            continue
    raise FileNotFoundError(path)


def _holds_text(page: bytes) -> bool:
    if not page or page[0] not in _WITH_VALUES:
        return False
    count, start = struct.unpack_from(">HH", page, 3)
    gap = page[(12 if page[0] in _INNER else 8) + 2 * count : start or None].strip(b"\0")
    return len(gap) > 3 and _TEXT.search(gap) is not None


def _children(page: bytes, header: int) -> list[int]:
    count, last = struct.unpack_from(">H3xI", page, header + 3)
    cells = struct.unpack_from(f">{count}H", page, header + 12)
    return [*(struct.unpack_from(">I", page, cell)[0] for cell in cells), last]


def _fill_for_a_moment(connection: sqlite3.Connection, table: str, page: bytes) -> None:
    """Pad the shortest row of a page so that it takes all the space there is, and put it back."""
    if page[0] != _TABLE_LEAF:
        return
    (count,) = struct.unpack_from(">H", page, 3)
    rows = []
    for cell in struct.unpack_from(f">{count}H", page, 8):
        length, cell = _varint(page, cell)
        rows.append((length, _varint(page, cell)[0]))
    if not rows:
        return  # a table that was emptied
    length, rowid = min(rows)
    stored = connection.execute(f"SELECT created_at FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
    if stored is None:
        return  # changed meanwhile

    def size(row: tuple[int, int]) -> int:
        return _cell_size(*row, usable=len(page))

    space = len(page) - 8 - 2 * count - sum(map(size, rows)) + size((length, rowid))
    most = space - size((length, rowid))
    characters = len(stored[0].encode())

    def padded(padding: int) -> int:
        """Return the size of the padded row, or nothing if it does not fit."""
        types = _varint_size(13 + 2 * (characters + padding)) - _varint_size(13 + 2 * characters)
        taken = size((length + padding + types, rowid))
        return taken if taken <= space else 0

    # The last few bytes can be out of reach: lengths are stored as well, and even an empty page has its list.
    padding = max(range(max(0, most - 40), most + 1), key=padded)
    update = f"UPDATE {table} SET created_at = ? WHERE rowid = ?"
    connection.execute(update, ("0" * (characters + padding), rowid))
    connection.execute(update, (*stored, rowid))


def _cell_size(length: int, rowid: int, *, usable: int) -> int:
    """Return how many bytes a row of this length takes on its page; the rest is on overflow pages."""
    here = length
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = 4 + (here if here <= usable - 35 else least)
    return _varint_size(length) + _varint_size(rowid) + here


def _varint(page: bytes, start: int) -> tuple[int, int]:
    """Read a number of one to nine bytes; return it, and where it ends."""
    value = 0
    for at in range(start, start + 8):
        value = value << 7 | page[at] & 127
        if page[at] < 128:
            return value, at + 1
    return value << 8 | page[start + 8], start + 9


def _varint_size(value: int) -> int:
    return min(9, max(1, -(-value.bit_length() // 7)))
