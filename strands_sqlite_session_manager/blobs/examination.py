"""What can be wrong with values and blocks, for `check`."""

import sqlite3
from collections.abc import Iterator

from .blocks import hash_of


def examine(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield a sentence for each block that is damaged, missing or unused, and for each value that is not whole."""
    yield from _incomplete(connection)
    yield from _unused(connection)
    yield from _changed(connection)


def _incomplete(connection: sqlite3.Connection) -> Iterator[str]:
    # An empty value has no parts. Positions begin at 0, without gaps.
    for key, size, found, parts, end, missing in connection.execute(
        """
        SELECT
            key,
            size,
            coalesce(sum(length(data)), 0),
            count(position),
            coalesce(max(position) + 1, 0),
            count(position) - count(data)
        FROM storage_values
        LEFT JOIN storage_parts USING (value_id)
        LEFT JOIN storage_blocks USING (block_id)
        GROUP BY value_id
        ORDER BY key
        """
    ).fetchall():
        if missing:
            yield f"Storage key {key!r}: {missing} of {parts} blocks {'is' if missing == 1 else 'are'} missing."
        elif size != found or parts != end:
            yield f"Storage key {key!r}: the value has {found} bytes in {parts} parts, and should have {size} bytes."
    for value_id, parts in connection.execute(
        """
        SELECT value_id, count(*) FROM storage_parts
        WHERE value_id NOT IN (SELECT value_id FROM storage_values)
        GROUP BY value_id
        """
    ).fetchall():
        yield f"{parts} rows of storage_parts belong to value {value_id}, which does not exist."


def _unused(connection: sqlite3.Connection) -> Iterator[str]:
    for (block_id,) in connection.execute(
        "SELECT block_id FROM storage_blocks WHERE block_id NOT IN (SELECT block_id FROM storage_parts)"
    ).fetchall():
        yield f"Storage block {block_id} is part of no value."


def _changed(connection: sqlite3.Connection) -> Iterator[str]:
    # One block at a time: all of them together may not fit in memory. A damaged column can hold text, hence the casts.
    for block_id, hash_, data in connection.execute(
        "SELECT block_id, CAST(hash AS BLOB), CAST(data AS BLOB) FROM storage_blocks"
    ):
        if hash_of(data) != hash_:
            keys = [
                repr(key)
                for (key,) in connection.execute(
                    """
                    SELECT DISTINCT key FROM storage_parts
                    JOIN storage_values USING (value_id)
                    WHERE block_id = ?
                    ORDER BY key
                    """,
                    (block_id,),
                ).fetchall()
            ]
            yield f"Storage block {block_id} is not what was written; it is part of {', '.join(keys) or 'no value'}."
