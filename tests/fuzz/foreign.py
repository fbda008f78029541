"""Database files that another program made, some of them to do harm.

They are refused and not touched, or work without any failure but a `SessionException`.
"""

import functools
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support import layout, legacy_files
from ..support.command_line import fill
from ..support.file_examination import use
from .target import Target

TABLES = tuple(layout.columns())
COLUMNS = (*dict.fromkeys(column for names in layout.columns().values() for column in names), "data", "rowid", "x")
TYPES = ("TEXT", "INTEGER", "BLOB", "REAL", "", "ANY", "TEXT NOT NULL", "INTEGER PRIMARY KEY", "TEXT COLLATE NOCASE")
VALUES = (
    *(
        "NULL",
        "0",
        "-1",
        "5",
        "9223372036854775807",
        "-9223372036854775808",
        "1e308",
        "9e999",
        "''",
        "'x'",
        "x''",
        "x'ff'",
    ),
    *("x'7b7d'", "'{}'", "'[]'", "'null'", "'5'", "'[[0,null]]'", "'[[5,1]]'", "'{\"role\":5}'", "'{\"content\":5}'"),
    *("CAST(x'ff' AS TEXT)", "'2024-05-06T07:08:09+00:00'", "zeroblob(100000)", "char(0)", "'\"\\ud800\"'", "'NaN'"),
    *("printf('%100000c', 'x')", "printf('%.5000c', '[')", "'{\"x\":' || printf('%.5000c', '9') || '}'"),
    *('\'{"__name__":"x"}\'', '\'{"__name__":"SlidingWindowConversationManager","removed_message_count":"x"}\''),
    *("'{\"interrupt_state\":5}'", "'{\"interrupt_state\":{}}'", "'{\"model_state\":5}'", "random()", "created_at"),
    '\'{"role":"user","content":[{"text":5},{"toolUse":5},{"toolResult":[]},5]}\'',
    '\'{"__bytes_encoded__":true,"data":"x"}\'',
)
tables, columns, values = st.sampled_from(TABLES), st.sampled_from(COLUMNS), st.sampled_from(VALUES)
_definitions = st.lists(st.tuples(columns, st.sampled_from(TYPES)), min_size=1, max_size=6)


def _joined(parts: list[tuple[str, str]]) -> str:
    return ", ".join(" ".join(part) for part in parts)


real_columns = st.sampled_from([(table, column) for table, names in layout.columns().items() for column in names])
updates = st.builds(lambda place, value: f"UPDATE {place[0]} SET {place[1]} = {value}", real_columns, values)
effects = st.one_of(
    updates,
    st.builds("DELETE FROM {}".format, tables),
    st.just("SELECT RAISE(ABORT, 'no')"),
    st.just("SELECT RAISE(IGNORE)"),
    st.just("INSERT INTO messages SELECT * FROM messages"),
    st.just("SELECT load_extension('x')"),
)
statements = st.one_of(
    updates,
    updates,
    updates,
    updates.map(lambda update: f"{update} WHERE rowid % 2"),
    st.builds("DROP TABLE {}".format, tables | st.just("notes")),
    st.builds("DROP INDEX {}".format, st.sampled_from(layout.indexes())),
    st.builds("CREATE TABLE {} ({})".format, tables | st.just("notes"), _definitions.map(_joined)),
    st.builds(
        "CREATE VIEW {} AS SELECT {} AS {}, * FROM {}".format, tables, values, columns, tables | st.just("notes")
    ),
    st.builds("CREATE TEMP VIEW {} AS SELECT 1".format, tables),
    st.builds("ALTER TABLE {} RENAME COLUMN {} TO {}".format, tables, columns, columns),
    st.builds("ALTER TABLE {} RENAME TO {}".format, tables, tables | st.just("notes")),
    st.builds("ALTER TABLE {} DROP COLUMN {}".format, tables, columns),
    st.builds("ALTER TABLE {} ADD COLUMN x AS (abs(-9223372036854775807 - 1 + rowid))".format, tables),
    st.builds("ALTER TABLE {} ADD COLUMN x AS ({})".format, tables, values),
    st.builds("CREATE TRIGGER {} AFTER INSERT ON {} BEGIN {}; END".format, st.sampled_from("abc"), tables, effects),
    st.builds("CREATE TRIGGER {} BEFORE DELETE ON {} BEGIN {}; END".format, st.sampled_from("def"), tables, effects),
    st.builds("CREATE TRIGGER {} AFTER UPDATE ON {} BEGIN {}; END".format, st.sampled_from("ghi"), tables, effects),
    st.builds("CREATE TRIGGER {} INSTEAD OF INSERT ON {} BEGIN {}; END".format, st.sampled_from("jk"), tables, effects),
    st.builds("CREATE INDEX i ON {} (json_extract({}, '$.x'))".format, tables, columns),
    st.builds("CREATE UNIQUE INDEX u ON {} ({})".format, tables, columns),
    st.builds(
        "PRAGMA {} = {}".format,
        st.sampled_from(["encoding", "auto_vacuum", "journal_mode"]),
        st.sampled_from(["'UTF-16'", "1", "'WAL'"]),
    ),
    st.just("INSERT INTO messages SELECT 'a', 'b', 'c', 1, 2, '{}', 3, 4"),
    st.text(max_size=20),
)
files = st.tuples(
    st.sampled_from(["ours", "ours", "ours", "earlier", "new"]),
    st.lists(statements, max_size=6),
    st.sampled_from([None, None, layout.application_id(), 0, 1, -1]),
    st.sampled_from([None, None, None, 0, 1, 2, 3, -1, -(2**31), 1000]),
)


@functools.cache
def _base(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        if name == "ours":
            fill(path)
        elif name == "earlier":
            legacy_files.write(path, legacy_files.example())
        else:
            path.write_bytes(b"")
        return path.read_bytes()


def make(path: Path, drawn: tuple[str, list[str], int | None, int | None]) -> None:
    """Make a file; statements that SQLite refuses are left out."""
    name, given, application_id, version = drawn
    path.write_bytes(_base(name))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in given:
            with suppress(sqlite3.Error, ValueError, sqlite3.Warning):
                connection.execute(statement)
        for pragma, value in (("application_id", application_id), ("user_version", version)):
            if value is not None:
                connection.execute(f"PRAGMA {pragma} = {value}")


def check(drawn: Any) -> None:
    """Run every operation on a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        make(path, drawn)
        before = _bytes(path)
        refusal = _refusal(path)
        if refusal is not None:
            assert str(path) in refusal or "cannot be upgraded" in refusal
            assert _bytes(path) == before
            return
        findings = use(path)
        assert not findings, "\n".join(findings)


def _refusal(path: Path) -> str | None:
    try:
        SQLiteSessionRepository(path).close()
    except SessionException as error:
        return str(error)
    return None


def _bytes(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}


TARGET = Target(files, check, examples=5)
