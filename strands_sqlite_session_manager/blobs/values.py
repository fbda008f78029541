"""Values and their keys as rows: write, read, list, delete. Keys and prefixes are normalized, as in `keys`.

A value is a list of blocks, `storage_parts`. Values share blocks with the same hash. A block is deleted with the last
part that needs it, in the same transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..database.values import UnreadableError
from .blocks import Block, join
from .keys import encode, key_range

_WITH_PREFIX = "key >= CAST(? AS TEXT) AND key < CAST(? AS TEXT)"


@dataclass(frozen=True)
class StoredValue:
    """Facts about the value under a key.

    Attributes:
        key: The key.
        size: The value's length in bytes.
        updated_at: When it was written: ISO 8601 in UTC.
    """

    key: str
    size: int
    updated_at: str


def write(connection: sqlite3.Connection, key: str, blocks: Sequence[Block]) -> None:
    """Store a value under a key, replacing any value there.

    Only new blocks are written, and only parts whose block has changed.
    """
    value_id, before = _describe(connection, key, sum(len(block.data) for block in blocks))
    block_ids = _store(connection, blocks, {hash_: block_id for block_id, hash_ in before})
    ids_before = [block_id for block_id, _ in before]
    connection.executemany(
        """
        INSERT INTO storage_parts (value_id, position, block_id) VALUES (?, ?, ?)
        ON CONFLICT (value_id, position) DO UPDATE SET block_id = excluded.block_id
        """,
        [
            (value_id, position, block_id)
            for position, block_id in enumerate(block_ids)
            if ids_before[position : position + 1] != [block_id]
        ],
    )
    connection.execute("DELETE FROM storage_parts WHERE value_id = ? AND position >= ?", (value_id, len(block_ids)))
    _delete_unused(connection, set(ids_before).difference(block_ids))


def _describe(connection: sqlite3.Connection, key: str, size: int) -> tuple[int, list[tuple[int, bytes]]]:
    """Store a value's size and time; return its id, and the ids and hashes of its former blocks."""
    now = datetime.now(timezone.utc).isoformat()
    found = connection.execute("SELECT value_id FROM storage_values WHERE key = ?", (key,)).fetchone()
    if found is None:
        created = connection.execute(
            "INSERT INTO storage_values (key, size, updated_at) VALUES (?, ?, ?)", (key, size, now)
        )
        return int(created.lastrowid or 0), []
    (value_id,) = found
    connection.execute("UPDATE storage_values SET size = ?, updated_at = ? WHERE value_id = ?", (size, now, value_id))
    return value_id, _parts(connection, value_id, "block_id, hash")


def _store(connection: sqlite3.Connection, blocks: Iterable[Block], known: dict[bytes, int]) -> list[int]:
    """Store the blocks that are not stored yet; return the ids of all of them. `known` has some ids, by hashes."""
    for hash_, data in blocks:
        if hash_ not in known:
            found = connection.execute("SELECT block_id FROM storage_blocks WHERE hash = ?", (hash_,)).fetchone()
            if found is None:
                sql = "INSERT INTO storage_blocks (hash, data) VALUES (?, ?)"
                found = (int(connection.execute(sql, (hash_, data)).lastrowid or 0),)
            (known[hash_],) = found
    return [known[hash_] for hash_, _ in blocks]


def read(connection: sqlite3.Connection, key: str) -> bytes | None:
    """Return the value under a key, or None if there is none; otherwise as `read_blocks`."""
    blocks = read_blocks(connection, key)
    return None if blocks is None else join(blocks)


def read_blocks(connection: sqlite3.Connection, key: str, known: Sequence[Block] = ()) -> Sequence[Block] | None:
    """Return the blocks of the value under a key, or None if there is none.

    Args:
        connection: A connection that sees one moment.
        key: The key.
        known: Blocks that may still make up the value. If so, only the hashes are read.

    Raises:
        UnreadableError: If a block is missing.
    """
    sql = "SELECT value_id, size FROM storage_values WHERE key = CAST(? AS TEXT)"
    found = connection.execute(sql, (encode(key),)).fetchone()
    if found is None:
        return None
    value_id, size = found
    if known and _parts(connection, value_id, "hash") == [(block.hash,) for block in known]:
        return known
    blocks = [Block(*row) for row in _parts(connection, value_id, "hash, data")]
    if sum(len(block.data) for block in blocks if isinstance(block.data, bytes)) != size:
        raise UnreadableError(f"the value of the storage key {key!r} is not whole")
    return blocks


def _parts(connection: sqlite3.Connection, value_id: int, columns: str) -> list[tuple[Any, ...]]:
    """Return columns of the blocks of a value, in order."""
    return connection.execute(
        f"""
        SELECT {columns} FROM storage_parts
        JOIN storage_blocks USING (block_id)
        WHERE value_id = ?
        ORDER BY position
        """,
        (value_id,),
    ).fetchall()


def list_keys(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """Return the keys with a prefix, in the order of their code points; an empty prefix matches every key."""
    rows = connection.execute(f"SELECT key FROM storage_values WHERE {_WITH_PREFIX} ORDER BY key", key_range(prefix))
    return [key for (key,) in rows.fetchall()]


def list_values(connection: sqlite3.Connection, prefix: str) -> list[StoredValue]:
    """Return facts about the values under a prefix, in the order of the keys; otherwise as `list_keys`."""
    columns = "key, CAST(size AS INTEGER), CAST(updated_at AS TEXT)"
    sql = f"SELECT {columns} FROM storage_values WHERE {_WITH_PREFIX} ORDER BY key"
    return [StoredValue(*row) for row in connection.execute(sql, key_range(prefix)).fetchall()]


def delete(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Delete keys and their values; skip keys that do not exist."""
    block_ids: set[int] = set()
    for key in keys:
        parts = connection.execute(
            "SELECT block_id FROM storage_values JOIN storage_parts USING (value_id) WHERE key = CAST(? AS TEXT)",
            (encode(key),),
        )
        block_ids.update(block_id for (block_id,) in parts.fetchall())
        connection.execute("DELETE FROM storage_values WHERE key = CAST(? AS TEXT)", (encode(key),))
    _delete_unused(connection, block_ids)


def _delete_unused(connection: sqlite3.Connection, block_ids: Iterable[int]) -> None:
    """Delete the given blocks that are no longer part of any value."""
    connection.executemany(
        """
        DELETE FROM storage_blocks
        WHERE block_id = ? AND NOT EXISTS (SELECT 1 FROM storage_parts WHERE block_id = storage_blocks.block_id)
        """,
        [(block_id,) for block_id in block_ids],
    )
