"""`check` recomputes the hash of every block, and finds missing, surplus and incomplete ones."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from strands_sqlite_session_manager import SQLiteSessionRepository, SQLiteStorage

from ..support.storages import conversation, run, snapshot

VALUE = snapshot(conversation(100))
LAST_BLOCK = "(SELECT max(block_id) FROM storage_blocks)"

DAMAGE = {
    "a block is changed": (
        f"UPDATE storage_blocks SET data = zeroblob(length(data)) WHERE block_id = {LAST_BLOCK}",
        "is not what was written; it is part of 'one', 'two'",
    ),
    "a hash is changed": (
        f"UPDATE storage_blocks SET hash = zeroblob(32) WHERE block_id = {LAST_BLOCK}",
        "is not what was written; it is part of 'one', 'two'",
    ),
    "a block is missing": (
        f"DELETE FROM storage_blocks WHERE block_id = {LAST_BLOCK}",
        "blocks is missing.",
    ),
    "a part is missing": (
        "DELETE FROM storage_parts WHERE position = 3 AND value_id = 1",
        "Storage key 'one': the value has",
    ),
    "a size is another": ("UPDATE storage_values SET size = 5 WHERE key = 'two'", "Storage key 'two': the value has"),
    "a value is missing": (
        "DELETE FROM storage_values WHERE key = 'one'",
        "rows of storage_parts belong to value 1, which does not exist.",
    ),
    "a block is not used": (
        "INSERT INTO storage_blocks (hash, data) VALUES (randomblob(32), 'left')",
        "is part of no value.",
    ),
}


@pytest.mark.every_case
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(damage: str, path: Path) -> None:
    sql, told = DAMAGE[damage]
    with SQLiteStorage(path) as storage, SQLiteSessionRepository(path) as repository:
        run(storage.write("one", VALUE))
        run(storage.write("two", VALUE))
        run(storage.write("empty", b""))
        assert repository.check() == []
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(sql)
        problems = repository.check()
    assert any(told in problem for problem in problems), problems
    assert len(problems) <= 3
