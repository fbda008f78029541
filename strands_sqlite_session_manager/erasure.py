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

import sqlite3
import struct

from . import files
from .database import Database
from .errors import session_exception
from .pages import PagesOnDisk, row_size, rows_on, varint_size
from .tables import KEYS

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
        database: The database. Our tables have rowids, and a text column `created_at` that is in no index; what else
            there is in the file is left alone.
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
        file = PagesOnDisk(database.path)
        unclean, children = file.search()
        if file.has_text_on_free_pages():
            return False
    tables: dict[int, str] = {}
    for kind, name, root in [("schema", "", 1), *trees]:
        tree = [root]
        for number in tree:  # which grows meanwhile
            tree += children.pop(number, ())
        found = unclean.keys() & tree
        if kind == "table" and name in KEYS:
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
            unclean = PagesOnDisk(database.path).unclean_among(unclean)
        if not unclean:
            return True
    return False


def _fill_for_a_moment(connection: sqlite3.Connection, table: str, page: bytes) -> None:
    """Pad the shortest row of a page so that it takes all the space there is, and put it back."""
    rows = rows_on(page)
    if not rows:  # as in a table that was emptied
        return
    length, rowid = min(rows)
    stored = connection.execute(f"SELECT created_at FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
    if stored is None:
        return  # changed meanwhile

    def size(row: tuple[int, int]) -> int:
        return row_size(*row, usable=len(page))

    space = len(page) - 8 - 2 * len(rows) - sum(map(size, rows)) + size((length, rowid))
    most = space - size((length, rowid))
    characters = len(stored[0].encode())

    def padded(padding: int) -> int:
        """Return the size of the padded row, or nothing if it does not fit."""
        types = varint_size(13 + 2 * (characters + padding)) - varint_size(13 + 2 * characters)
        taken = size((length + padding + types, rowid))
        return taken if taken <= space else 0

    # The last few bytes can be out of reach: lengths are stored as well, and even an empty page has its list.
    padding = max(range(max(0, most - 40), most + 1), key=padded)
    update = f"UPDATE {table} SET created_at = ? WHERE rowid = ?"
    connection.execute(update, ("0" * (characters + padding), rowid))
    connection.execute(update, (*stored, rowid))
