"""The schema of a new file as SQLite reports it, so that tests need not repeat the package's own list."""

import functools
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from strands_sqlite_session_manager import SQLiteSessionRepository


@functools.cache
def _new_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        SQLiteSessionRepository(path).close()
        return path.read_bytes()


def _query(sql: str) -> list[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        path.write_bytes(_new_file())
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(sql).fetchall()


@functools.cache
def columns() -> dict[str, tuple[str, ...]]:
    """Return the columns of each table."""
    found: dict[str, tuple[str, ...]] = {}
    for table, column in _query(
        "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%' ORDER BY tables.rowid, columns.cid"
    ):
        found[table] = (*found.get(table, ()), column)
    return found


@functools.cache
def primary_key(table: str) -> str:
    """Return the columns of a table's primary key, separated by commas."""
    sql = f"SELECT group_concat(name) FROM pragma_table_info('{table}') WHERE pk"
    return _query(sql)[0][0]


@functools.cache
def indexes() -> list[str]:
    """Return the names of the indexes that can be dropped."""
    return [name for (name,) in _query("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")]


@functools.cache
def application_id() -> int:
    """Return the number that marks a file as ours."""
    return int(_query("PRAGMA application_id")[0][0])


@functools.cache
def version() -> int:
    """Return the version of the schema."""
    return int(_query("PRAGMA user_version")[0][0])
