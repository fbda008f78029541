"""Sessions as JSON Lines: a line for each session, followed by a line for each of its rows.

The line of a session holds its metadata, and how many lines of each kind follow. All other keys are columns of the
tables; JSON in the file is JSON in the line. `revision` is left out, so that a live agent notices that it is stale when
its session is imported again.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from .. import errors
from ..context.ranges import is_context
from ..database.database import Database, Row
from ..database.identifiers import validate_id, validate_message_id
from ..database.tables import AGENT_VERSIONS, AGENTS, MESSAGE_VERSIONS, MESSAGES, METADATA, MULTI_AGENTS, SESSIONS
from ..database.values import UnreadableError, decode, decode_state, encode, encode_state, to_json
from ..sessions.listing import Filter
from ..sessions.metadata import check_metadata, read_metadata

_FORMAT = 1
_CONTENTS = {
    "agent": AGENTS,
    "message": MESSAGES,
    "multi_agent": MULTI_AGENTS,
    "agent_version": AGENT_VERSIONS,
    "message_version": MESSAGE_VERSIONS,
}
_TABLES = {"session": SESSIONS, **_CONTENTS}

_Line = tuple[int, dict[str, Any]]
"""A line of an import, with its number."""


def export_sessions(
    database: Database, selected: Sequence[str] | Filter, progress: Callable[[int, int], None] | None = None
) -> Iterator[str]:
    """Return the lines of sessions, each session as of one moment.

    No transaction is open between the lines, however slowly they are consumed.

    Args:
        database: The file.
        selected: The ids of the sessions, or a filter. Filtered sessions come in the order of their last activity, so
            that an import stores them in that order.
        progress: Called after each session with how many were exported and how many there are.

    Raises:
        ValueError: If an id is not allowed.
        SessionNotFoundException: If there is no such session.
        SessionException: If SQLite fails, or a row cannot be read.
    """
    exported = 0
    if isinstance(selected, Filter):
        remaining = [session_id for session_id, _ in reversed(database.snapshot(selected.select))]
    else:
        remaining = [validate_id(session_id, "session") for session_id in selected]
    total = len(remaining)
    for session_id in remaining:
        lines = database.snapshot(partial(_lines_of, session_id=session_id))
        if lines:
            exported += 1
            yield from lines
        elif isinstance(selected, Filter):  # deleted since they were listed
            total -= 1
        else:
            raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
        if progress is not None:
            progress(exported, total)


def _lines_of(connection: sqlite3.Connection, session_id: str) -> list[str]:
    """Return the lines of a session; an empty list if there is none."""
    rows = {
        kind: connection.execute(
            f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE session_id = ? ORDER BY rowid", (session_id,)
        ).fetchall()
        for kind, table in _TABLES.items()
    }
    lines = [_line(kind, row) for kind, found in rows.items() for row in found]
    if lines:
        counts = {table.name: len(rows[kind]) for kind, table in _CONTENTS.items()}
        lines[0] |= {"format": _FORMAT, "metadata": read_metadata(connection, session_id), **counts}
    return [to_json(line, line["kind"]) for line in lines]


def _line(kind: str, row: Row) -> dict[str, Any]:
    table = _TABLES[kind]
    line = dict(zip(table.columns, row, strict=True))
    for column in table.json:
        if line[column] is not None:
            try:
                line[column] = json.loads(line[column])
            except (TypeError, ValueError, RecursionError) as error:
                raise UnreadableError(
                    f"{column} of the {kind} in session {row[0]} cannot be read: it is not JSON"
                ) from error
    return {"kind": kind, **line}


def import_sessions(
    open_database: Callable[[], Database],
    lines: Iterable[str],
    *,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Store the sessions of an export, each in a transaction of its own.

    Args:
        open_database: Returns the file to store them in; called once a session is complete, so that text that is not an
            export creates no file.
        lines: What `export_sessions` returned.
        replace: Whether to replace sessions that exist.
        progress: Called after each session with how many were stored.

    Returns:
        The number of sessions stored.

    Raises:
        SessionExistsException: If a session exists and `replace` is false.
        SessionException: If a line is malformed, or SQLite fails.
            All errors name the line. Its session is not stored; the sessions before it are.
    """
    stored = 0
    any_replaced = False
    numbered = _parse_lines(lines)
    try:
        for number, session in numbered:
            if session["kind"] != "session":
                raise errors.SessionException(
                    f"line {number} | belongs to no session: an export begins with the line of a session"
                )
            contents = list(_contents_of(numbered, number, session))
            store = partial(_store, number=number, session=session, contents=contents, replace=replace)
            any_replaced |= open_database().transaction(store)
            stored += 1
            if progress is not None:
                progress(stored)
    finally:
        if any_replaced:
            open_database().empty_wal()
    return stored


def _contents_of(numbered: Iterator[_Line], number: int, session: dict[str, Any]) -> Iterator[_Line]:
    """Yield the lines after a session's line, as many as it announces, and check that they belong to it."""
    for kind, table in _CONTENTS.items():
        for count in range(session[table.name]):
            number, line = next(numbered, (number, None))
            if line is None or line["kind"] != kind or line["session_id"] != session["session_id"]:
                raise errors.SessionException(
                    f"line {number} | session {session['session_id']} is incomplete: it has {count} of its"
                    f" {session[table.name]} {table.name}; export it again"
                )
            yield number, line


def _store(
    connection: sqlite3.Connection, *, number: int, session: dict[str, Any], contents: list[_Line], replace: bool
) -> bool:
    """Write the rows of a session; return whether they replace those of another."""
    session_id = session["session_id"]
    found = connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if found and not replace:
        raise errors.SessionExistsException(
            f"line {number} | Session {session_id} already exists; `replace` imports it instead"
        )
    if found:
        connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
    _insert(connection, number, session)
    connection.executemany(METADATA.insert, [(session_id, *item) for item in session["metadata"].items()])
    for content in contents:
        _insert(connection, *content)
    return found is not None


def _insert(connection: sqlite3.Connection, number: int, line: dict[str, Any]) -> None:
    table = _TABLES[line["kind"]]
    row = [
        _to_stored_json(line["kind"], line[column], f"line {number} | {column}")
        if column in table.json and line[column] is not None
        else line[column]
        for column in table.columns
    ]
    try:
        connection.execute(table.insert, row)
    except connection.IntegrityError as error:
        raise errors.SessionException(f"line {number} | cannot be stored with the lines before it: {error}") from error


def _to_stored_json(kind: str, value: Any, name: str) -> str:
    """Return the JSON text of a value, after proving that it can be read back."""
    text = to_json(value, name)
    try:
        if kind == "multi_agent":
            return encode_state(decode_state(text, name), name)
        return encode(decode(text, name), name)
    except UnreadableError as error:  # what cannot be read is the line, not the file
        raise errors.SessionException(str(error)) from error


def _parse_lines(lines: Iterable[str]) -> Iterator[_Line]:
    """Yield the objects of the lines with their numbers, each checked to have the keys of its kind."""
    number = 0
    try:
        for number, text in enumerate(lines, 1):
            if text.strip():
                line = json.loads(text)
                problem = _problem(line)
                if problem is not None:
                    raise errors.SessionException(f"line {number} | {problem}")
                yield number, line
    except UnicodeDecodeError as error:
        errors.without_content(error)
        raise errors.SessionException(f"line {number + 1} | is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise errors.SessionException(f"line {number} | is not JSON") from error


def _problem(line: Any) -> str | None:
    """Return what is wrong with a line, or None."""
    kind = line.get("kind") if isinstance(line, dict) else None
    if not isinstance(kind, str) or kind not in _TABLES:
        return "is not from an export"
    table = _TABLES[kind]
    expected = {"kind", *table.columns}
    if kind == "session":
        if line.get("format") != _FORMAT:
            return f"has the format {line.get('format')!r}; this version reads {_FORMAT}"
        expected |= {"format", "metadata", *(table.name for table in _CONTENTS.values())}
    if line.keys() != expected:
        return f"has missing or unexpected keys: {', '.join(sorted(line.keys() ^ expected))}"
    for column in table.keys:
        problem = _problem_with_id(column, line[column])
        if problem is not None:
            return problem
    for column in table.columns:
        # NULL where it is not allowed is left to the table's constraint.
        if column not in table.keys and line[column] is not None and not _fits(column, line[column], table.json):
            return f"has an invalid {column}"
    return _problem_with_session(line) if kind == "session" else None


def _problem_with_id(column: str, value: Any) -> str | None:
    try:
        if column.endswith("message_id"):
            validate_message_id(value)
        elif isinstance(value, str):
            validate_id(value, column.removesuffix("_id"))
        else:
            return f"has an invalid {column}"
    except ValueError as error:
        return str(error)
    return None


def _problem_with_session(line: dict[str, Any]) -> str | None:
    counts = [line[table.name] for table in _CONTENTS.values()]
    if not all(type(count) is int and count >= 0 for count in counts):
        return "does not say how many lines follow"
    if not isinstance(line["metadata"], dict):
        return "has invalid metadata"
    try:
        check_metadata(line["metadata"])
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _fits(column: str, value: Any, json_columns: frozenset[str]) -> bool:
    if column == "context":
        return is_context(value)
    if column == "forked_through":
        return type(value) is int and -(2**63) <= value < 2**63
    if column in json_columns:
        return isinstance(value, dict)
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value  # no lone surrogates
