"""Sessions as JSON Lines, and back: a line for every row, those of a session behind its own.

The line of a session tells how many agents, messages and orchestrators follow. Every other key is a column; JSON in
the file is JSON in the line. Only `revision` is left out: it is not a part of what a row holds, but guards it against
stale writers, who are to notice that their session was put back.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from . import metadata
from .activity import ACTIVE_AT
from .codec import decode, decode_state, encode, encode_state, to_json
from .database import Database
from .erasure import erase
from .errors import UnreadableError, session_exception, without_content
from .identifiers import validate_id, validate_message_id
from .tables import COLUMNS, JSON
from .window import is_window

_FORMAT = 1
# Kind of line: its table, and what its rows are ordered by.
_KINDS = {
    "session": ("sessions", "session_id"),
    "agent": ("agents", "created_at, agent_id"),
    "message": ("messages", "rowid"),
    "multi_agent": ("multi_agents", "created_at, multi_agent_id"),
}
_ROWS = ("agent", "message", "multi_agent")
_MAY_BE_NULL = {"redact_message", "live_message", "live_messages"}


def export_session(connection: sqlite3.Connection, session_id: str) -> Iterator[str]:
    """Return the lines of a session.

    Args:
        connection: A transaction, so that they are of one moment.
        session_id: The session's id.

    Raises:
        SessionException: If there is no such session, or a row of it holds no JSON.
    """
    if not connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone():
        raise session_exception(f"Session {session_id} does not exist")
    for kind in _KINDS:
        with closing(_select(connection, kind, session_id)) as rows:
            for row in rows:
                line: dict[str, Any] = {"kind": kind, "session_id": session_id}
                if kind == "session":
                    line |= {"format": _FORMAT, **_counts(connection, session_id)}
                for column, value in zip(_columns(kind), row, strict=True):
                    is_json = column in JSON and value is not None
                    line[column] = _parse(value, column, kind, session_id) if is_json else value
                yield to_json(line, kind)


def import_sessions(
    open_database: Callable[[], Database],
    lines: Iterable[str],
    *,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Store the sessions of an export, each in a transaction of its own.

    Args:
        open_database: Returns where they go; it is first asked when a session is complete.
        lines: What `export_session` returned, of any number of sessions.
        replace: Whether sessions that exist are replaced.
        progress: Is called after every session with how many were stored.

    Returns:
        How many sessions were stored.

    Raises:
        SessionException: If a line is not what it should be, a session exists already, or SQLite fails; it tells the
            line. The sessions before it are stored, and of its own session nothing is.
    """
    stored = 0
    replaced = False
    numbered = _numbered(lines)
    try:
        for number, line in numbered:
            if line["kind"] != "session":
                raise session_exception(f"line {number} | an export begins with a session, not with its {line['kind']}")
            rows = [(number, line), *_rows_of(numbered, number, line)]
            with open_database().transaction() as connection:
                replaces = _store(connection, rows, replace)
            replaced |= replaces
            stored += 1
            if progress is not None:
                progress(stored)
    finally:
        if replaced:
            erase(open_database(), ids=True)
    return stored


def copy_rows(source: Database, target: Database, session_id: str, new_session_id: str) -> int:
    """Copy a session from one file to another, or within one.

    Raises:
        SessionException: If the session does not exist, the new one exists, or SQLite fails; then nothing is written.
    """
    with source.transaction(write=False) as connection:
        rows = {kind: _select(connection, kind, session_id).fetchall() for kind in _KINDS}
        if not rows["session"]:
            raise session_exception(f"Session {session_id} does not exist")
        known = metadata.of_row(rows["session"][0][_columns("session").index("metadata")], session_id)
    with target.transaction() as connection:
        if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_session_id,)).fetchone():
            raise session_exception(f"Session {new_session_id} already exists")
        for kind, found in rows.items():
            connection.executemany(_insert(kind), ((new_session_id, *row) for row in found))
        metadata.index_keys(connection, known)
    return len(rows["message"])


def _columns(kind: str) -> tuple[str, ...]:
    return COLUMNS[_KINDS[kind][0]]


def _select(connection: sqlite3.Connection, kind: str, session_id: str) -> sqlite3.Cursor:
    table, order = _KINDS[kind]
    exact = (ACTIVE_AT if column == "active_at" else column for column in _columns(kind))
    return connection.execute(
        f"SELECT {', '.join(exact)} FROM {table} WHERE session_id = ? ORDER BY {order}", (session_id,)
    )


def _insert(kind: str) -> str:
    columns = _columns(kind)
    return f"INSERT INTO {_KINDS[kind][0]} (session_id, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})"


def _rows_of(
    numbered: Iterator[tuple[int, dict[str, Any]]], number: int, session: dict[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return as many lines as a session says that it has, each checked to be of it."""
    for kind in _ROWS:
        table = _KINDS[kind][0]
        for count in range(session[table]):
            number, line = next(numbered, (number, None))
            if line is None or line["kind"] != kind or line["session_id"] != session["session_id"]:
                raise session_exception(
                    f"line {number} | session {session['session_id']} is not complete:"
                    f" {count} of its {session[table]} {table} are there"
                )
            yield number, line


def _store(connection: sqlite3.Connection, rows: list[tuple[int, dict[str, Any]]], replace: bool) -> bool:
    """Write the rows of a session; return whether it took the place of another one."""
    first, session = rows[0]
    session_id = session["session_id"]
    exists = connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone() is not None
    if exists and replace:
        connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
    elif exists:
        raise session_exception(f"line {first} | Session {session_id} already exists")
    for number, line in rows:
        values = [
            _as_stored(line["kind"], line[column], f"line {number} | {column}")
            if column in JSON and line[column] is not None
            else line[column]
            for column in _columns(line["kind"])
        ]
        try:
            connection.execute(_insert(line["kind"]), (session_id, *values))
        except connection.IntegrityError as error:
            raise session_exception(f"line {number} | does not fit to the lines before it: {error}") from error
    metadata.index_keys(connection, session["metadata"])
    return exists


def _as_stored(kind: str, value: Any, name: str) -> str:
    """Return the JSON text of a value, which must be one that can be read back."""
    text = to_json(value, name)
    try:
        if kind == "multi_agent":
            return encode_state(decode_state(text, name), name)
        return encode(decode(text, name), name)
    except UnreadableError as error:  # it is the line that is
        raise session_exception(str(error)) from error


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the objects of the lines, each known to have what its kind needs, with their numbers."""
    number = 0
    try:
        for number, text in enumerate(lines, 1):
            if text.strip():
                line = json.loads(text)
                problem = _problem(line)
                if problem is not None:
                    raise session_exception(f"line {number} | {problem}")
                yield number, line
    except UnicodeDecodeError as error:
        without_content(error)
        raise session_exception(f"line {number + 1} | is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise session_exception(f"line {number} | is not JSON") from error


def _problem(line: Any) -> str | None:
    """Return what is wrong with a line, or None."""
    if not isinstance(line, dict) or line.get("kind") not in list(_KINDS):
        return "is not from an export"
    columns = _columns(line["kind"])
    is_session = line["kind"] == "session"
    if is_session and line.get("format") != _FORMAT:
        return f"is of format {line.get('format')!r}, this version reads {_FORMAT}"
    counts = [_KINDS[kind][0] for kind in _ROWS] if is_session else []
    expected = {"kind", "session_id", *columns, *counts, *(("format",) if is_session else ())}
    if line.keys() != expected:
        return f"has the keys {', '.join(sorted(line.keys() ^ expected))} too many or too few"
    for name in ("session_id", "agent_id", "multi_agent_id", "message_id"):
        if name in line:
            if name != "message_id" and not isinstance(line[name], str):
                return f"has a {name} that cannot be one"
            try:
                validate_message_id(line[name]) if name == "message_id" else validate_id(line[name], name[:-3])
            except (TypeError, ValueError) as error:
                return str(error)
    for column in columns:
        if column != "message_id" and not (line[column] is None and column in _MAY_BE_NULL) and not _fits(column, line):
            return f"has a {column} that cannot be one"
    if not all(type(line[count]) is int and line[count] >= 0 for count in counts):
        return "does not tell how many lines follow"
    return None


def _fits(column: str, line: dict[str, Any]) -> bool:
    value = line[column]
    if column == "live_messages":
        return is_window(value)
    if column == "metadata":
        return metadata.is_metadata(value)
    if column in JSON:
        return isinstance(value, dict)
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value  # no lone surrogates


def _counts(connection: sqlite3.Connection, session_id: str) -> dict[str, int]:
    counts = {}
    for kind in _ROWS:
        table = _KINDS[kind][0]
        (counts[table],) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE session_id = ?", (session_id,)
        ).fetchone()
    return counts


def _parse(text: str, column: str, kind: str, session_id: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnreadableError(
            f"{column} of the {kind} in session {session_id} cannot be read: it is not JSON"
        ) from error
