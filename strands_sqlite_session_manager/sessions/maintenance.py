"""Maintenance of the file: backup, check."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from .. import errors
from ..blobs.examination import examine as examine_blobs
from ..context.ranges import is_context
from ..database import files
from ..database.connections import open_raw
from ..database.database import Database
from ..database.tables import METADATA, STORAGE_PARTS, TABLES, Table

_STEP = 1000  # pages that are copied between two calls of `progress`


def backup(
    database: Database, destination: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> None:
    """Copy the database to a new file; see `SQLiteSessionRepository.backup`."""
    path = os.path.abspath(os.path.expanduser(files.check_path(destination, "destination")))
    # SQLite would apply another file's write-ahead log or journal that it finds beside the backup.
    for log in (f"{path}-wal", f"{path}-journal"):
        if os.path.lexists(log):
            raise errors.SessionException(f"{log} | exists already; a backup does not overwrite: choose another name")

    def report(status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    def copy(source: sqlite3.Connection) -> None:
        source.execute("SELECT count(*) FROM sessions").fetchone()  # one view, whatever others write meanwhile
        with closing(open_raw(partial, database.connect)) as target:
            try:
                source.backup(target, pages=_STEP, progress=report, sleep=0)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, which a read-only medium can hold
            except source.Error as error:
                raise errors.SessionException(f"{path} | the backup failed: {error}") from error

    try:
        with files.new_file(path) as partial:
            database.snapshot(copy)
    except FileExistsError as error:
        raise errors.SessionException(
            f"{path} | exists already; a backup does not overwrite: choose another name"
        ) from error
    except OSError as error:
        raise errors.SessionException(f"{path} | the backup cannot be written: {error}") from error


def check(database: Database) -> list[str]:
    """Return what is wrong with the file, one sentence for each problem; see `SQLiteSessionRepository.check`."""

    def examine(connection: sqlite3.Connection) -> list[str]:
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check").fetchall() if text != "ok"]
        if problems:  # the other checks rely on it
            return [f"SQLite's integrity check says: {problem}" for problem in problems]
        return [
            *_orphans(connection),
            *_malformed(connection),
            *_no_text(connection),
            *_unnumbered(connection),
            *_gaps(connection),
            *examine_blobs(connection),
        ]

    return database.snapshot(examine)


def _orphans(connection: sqlite3.Connection) -> Iterator[str]:
    known = {table.name: table for table in TABLES}
    for name, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        if name == STORAGE_PARTS.name:
            continue  # `examine_blobs` says more
        if name not in known:
            yield f"A row of {name} belongs to no row of {parent}."
            continue
        keys = ", ".join(known[name].keys)
        row = connection.execute(f"SELECT {keys} FROM {name} WHERE rowid = ?", (rowid,)).fetchone()
        yield f"{_name(known[name], row)} belongs to no row of {parent}."


def _malformed(connection: sqlite3.Connection) -> Iterator[str]:
    for table in TABLES:
        columns = [column for column in table.columns if column in table.json]
        if not columns:
            continue
        # As bytes: SQLite does not check that a text is UTF-8.
        values = ", ".join(f"CAST({column} AS BLOB)" for column in columns)
        for row in connection.execute(f"SELECT {', '.join(table.keys)}, {values} FROM {table.name}"):
            for column, value in zip(columns, row[len(table.keys) :], strict=True):
                problem = None if value is None else _problem(column, value)
                if problem:
                    yield f"{_name(table, row[: len(table.keys)])}: the column {column} {problem}."


def _problem(column: str, value: bytes) -> str | None:
    try:
        decoded = json.loads(value.decode())
    except (ValueError, RecursionError):
        return "is not JSON"
    if column == "context":
        return None if is_context(decoded) else "is not made of ranges and messages"
    return None if isinstance(decoded, dict) else "is not a JSON object"


def _no_text(connection: sqlite3.Connection) -> Iterator[str]:
    for column in ("key", "value"):
        for row in connection.execute(
            f"SELECT session_id, key FROM session_metadata WHERE typeof({column}) <> 'text'"
        ).fetchall():
            yield f"{_name(METADATA, row)}: the column {column} is not text."


def _unnumbered(connection: sqlite3.Connection) -> Iterator[str]:
    for session_id, agent_id, message_id in connection.execute(
        "SELECT session_id, agent_id, message_id FROM messages WHERE typeof(message_id) <> 'integer'"
    ).fetchall():
        whose = f"of agent {agent_id!r} in session {session_id!r}"
        yield f"Message {message_id!r} {whose} has an id that is not an integer."


def _gaps(connection: sqlite3.Connection) -> Iterator[str]:
    numbered = connection.execute(
        """
        SELECT session_id, agent_id, message_id, before, later
        FROM (
            SELECT
                session_id,
                agent_id,
                message_id,
                lag(message_id, 1, -1) OVER numbers AS before,
                coalesce(lag(sequence) OVER numbers > sequence, FALSE) AS later
            FROM messages
            WHERE typeof(message_id) = 'integer'
            WINDOW numbers AS (PARTITION BY session_id, agent_id ORDER BY message_id)
        )
        WHERE message_id <> before + 1 OR later
        """
    )
    for session_id, agent_id, message_id, before, later in numbered.fetchall():
        whose = f"of agent {agent_id!r} in session {session_id!r}"
        if message_id < 0:
            yield f"Message {message_id} {whose} has a negative id."
        elif message_id > before + 1:
            missing = (
                f"Messages {before + 1} to {message_id - 1}" if message_id > before + 2 else f"Message {before + 1}"
            )
            yield f"{missing} {whose} {'are' if message_id > before + 2 else 'is'} missing."
        if later:
            yield f"Message {message_id} {whose} was stored before message {before}."


def _name(table: Table, keys: tuple[Any, ...]) -> str:
    session_id, *others = keys
    if not others:
        return f"Session {session_id!r}"
    if table.name == "messages":
        return f"Message {others[1]} of agent {others[0]!r} in session {session_id!r}"
    if table.name == "agent_versions":
        return f"Agent {others[0]!r} of session {session_id!r} before message {others[1]}"
    if table.name == "message_versions":
        return f"Message {others[1]} of agent {others[0]!r} in session {session_id!r} before message {others[2]}"
    kind = {"agents": "Agent", "multi_agents": "Orchestrator", "session_metadata": "Metadata key"}[table.name]
    return f"{kind} {others[0]!r} of session {session_id!r}"
