"""Looking after the file: a copy of it, its health, its size."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from . import files
from .connection import open_raw
from .database import Database
from .errors import session_exception
from .metadata import is_metadata
from .tables import COLUMNS, JSON, KEYS
from .window import is_window

_STEP = 1000  # pages that are copied between two calls of `progress`


def backup(
    database: Database, destination: str | os.PathLike[str], progress: Callable[[int, int], None] | None
) -> None:
    """Copy the database to a new file; see `SQLiteSessionRepository.backup`."""
    path = os.path.abspath(os.path.expanduser(files.checked(destination, "destination")))
    # SQLite would apply a log of another file that it finds beside the backup.
    for log in (f"{path}-wal", f"{path}-journal"):
        if os.path.lexists(log):
            raise session_exception(f"{log} | exists already; a backup does not overwrite")

    def report(status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with (
            files.new_file(path) as partial,
            database.transaction(write=False) as source,
            closing(open_raw(partial, database.connect)) as target,
        ):
            source.execute("SELECT count(*) FROM sessions").fetchone()  # one view, whatever others write meanwhile
            try:
                source.backup(target, pages=_STEP, progress=report, sleep=0)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, which a read-only medium can hold
            except source.Error as error:
                raise session_exception(f"{path} | the backup failed: {error}") from error
    except FileExistsError as error:
        raise session_exception(f"{path} | exists already; a backup does not overwrite") from error
    except OSError as error:
        raise session_exception(f"{path} | the backup cannot be written: {error}") from error


def check(database: Database) -> list[str]:
    """Return what is wrong with the file, a sentence each; see `SQLiteSessionRepository.check`."""
    with database.transaction(write=False) as connection:
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check").fetchall() if text != "ok"]
        if problems:  # nothing else can be relied upon
            return [f"SQLite's integrity check says: {problem}" for problem in problems]
        return [*_orphans(connection), *_malformed(connection), *_unnumbered(connection), *_gaps(connection)]


def vacuum(database: Database) -> None:
    """Rewrite the file without unused space; see `SQLiteSessionRepository.vacuum`."""
    database.write("VACUUM")
    database.empty_log()


def _orphans(connection: sqlite3.Connection) -> Iterator[str]:
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        if table not in KEYS:
            yield f"A row of {table} belongs to no row of {parent}."
            continue
        keys = ", ".join(KEYS[table])
        row = connection.execute(f"SELECT {keys} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        yield f"{_name(table, row)} belongs to no row of {parent}."


def _malformed(connection: sqlite3.Connection) -> Iterator[str]:
    for table, keys in KEYS.items():
        columns = [column for column in COLUMNS[table] if column in JSON]
        # As bytes: SQLite does not care whether a text is UTF-8.
        values = ", ".join(f"CAST({column} AS BLOB)" for column in columns)
        with closing(connection.execute(f"SELECT {', '.join(keys)}, {values} FROM {table}")) as rows:
            for row in rows:
                for column, value in zip(columns, row[len(keys) :], strict=True):
                    problem = None if value is None else _problem(column, value)
                    if problem:
                        yield f"{_name(table, row[: len(keys)])}: the column {column} {problem}."


def _problem(column: str, value: bytes) -> str | None:
    try:
        decoded = json.loads(value.decode())
    except (ValueError, RecursionError):
        return "is not JSON"
    if column == "live_messages":
        return None if is_window(decoded) else "is not made of ranges and messages"
    if not isinstance(decoded, dict):
        return "is not a JSON object"
    return None if column != "metadata" or is_metadata(decoded) else "holds something else than strings"


def _unnumbered(connection: sqlite3.Connection) -> Iterator[str]:
    for session_id, agent_id, message_id in connection.execute(
        "SELECT session_id, agent_id, message_id FROM messages WHERE typeof(message_id) <> 'integer'"
    ).fetchall():
        yield f"{_name('messages', (session_id, agent_id, repr(message_id)))} has an id that is no integer."


def _gaps(connection: sqlite3.Connection) -> Iterator[str]:
    numbered = connection.execute(
        """
        SELECT session_id, agent_id, message_id, before, later_row
        FROM (
            SELECT
                session_id,
                agent_id,
                message_id,
                lag(message_id, 1, -1) OVER numbers AS before,
                coalesce(lag(rowid) OVER numbers > rowid, FALSE) AS later_row
            FROM messages
            WHERE typeof(message_id) = 'integer'
            WINDOW numbers AS (PARTITION BY session_id, agent_id ORDER BY message_id)
        )
        WHERE message_id <> before + 1 OR later_row
        """
    )
    for session_id, agent_id, message_id, before, later_row in numbered.fetchall():
        whose = f"of agent {agent_id!r} in session {session_id!r}"
        if message_id < 0:
            yield f"Message {message_id} {whose} has a negative id."
        elif message_id > before + 1:
            missing = (
                f"Messages {before + 1} to {message_id - 1}" if message_id > before + 2 else f"Message {before + 1}"
            )
            yield f"{missing} {whose} {'are' if message_id > before + 2 else 'is'} missing."
        if later_row:
            yield f"Message {message_id} {whose} was stored before message {before}."


def _name(table: str, keys: tuple[Any, ...]) -> str:
    session_id, *others = keys
    if not others:
        return f"Session {session_id!r}"
    kind = {"agents": "Agent", "multi_agents": "Orchestrator"}.get(table)
    if kind:
        return f"{kind} {others[0]!r} of session {session_id!r}"
    return f"Message {others[1]} of agent {others[0]!r} in session {session_id!r}"
