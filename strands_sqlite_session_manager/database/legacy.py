"""Upgrades legacy files, those of the earlier community package with the same name, to our tables.

A legacy file has four tables. Each has its keys, a `data` column with the JSON of Strands' `to_dict()`, and two
`CURRENT_TIMESTAMP` columns.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from .. import errors
from .tables import AGENTS, MESSAGES, MULTI_AGENTS, SESSIONS, Table
from .values import to_json

_TABLES = (SESSIONS, AGENTS, MESSAGES, MULTI_AGENTS)


def is_layout(connection: sqlite3.Connection) -> bool:
    """Return whether a database has exactly the tables of a legacy file."""
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    return {name for (name,) in tables} == {table.name for table in _TABLES} and all(
        {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,)).fetchall()}
        == {*table.keys, "data", "created_at", "updated_at"}
        for table in _TABLES
    )


def set_aside(connection: sqlite3.Connection) -> None:
    """Rename the old tables, so that the new ones can take their names."""
    for table in _TABLES:
        connection.execute(f"ALTER TABLE {table.name} RENAME TO legacy_{table.name}")


def move_in(connection: sqlite3.Connection) -> None:
    """Copy every row of the old tables into the new ones, and drop the old ones.

    Raises:
        SessionException: If a row cannot be read, or its parent is missing; it names the row.
    """
    for table in _TABLES:
        for row in _rows(connection, table):
            try:
                connection.execute(table.insert, _convert(table, row))
            except (
                AttributeError,
                KeyError,
                TypeError,
                ValueError,
                RecursionError,
                connection.IntegrityError,
            ) as error:
                errors.without_content(error)
                name = ", ".join(map(repr, row[: len(table.keys)]))
                raise errors.SessionException(
                    f"the row ({name}) of {table.name} cannot be upgraded: it is malformed; correct it or delete it"
                ) from error
    for table in reversed(_TABLES):
        connection.execute(f"DROP TABLE legacy_{table.name}")


def _rows(connection: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    keys = ", ".join(table.keys)
    # As bytes: SQLite does not check that a text is UTF-8.
    yield from connection.execute(
        f"SELECT {keys}, created_at, updated_at, CAST(data AS BLOB) FROM legacy_{table.name} ORDER BY {keys}"
    )


def _convert(table: Table, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of a legacy table as a row of ours."""
    *keys, created_at, updated_at, data = row
    value = json.loads(data)
    # An orchestrator's data is its state alone; the others have their own, exact times.
    times = {} if table is MULTI_AGENTS else value
    ours = {
        **dict(zip(table.keys, keys, strict=True)),
        "created_at": times.get("created_at", _iso(created_at)),
        "updated_at": times.get("updated_at", _iso(updated_at)),
        **{column: convert(value) for column, convert in _COLUMNS[table.name].items()},
    }
    return tuple(ours[column] for column in table.columns)


def _column(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda data: to_json(data.get(name, {}), name)


def _redact_message(data: dict[str, Any]) -> str | None:
    redacted = data.get("redact_message")
    return None if redacted is None else to_json(redacted, "redact_message")


def _iso(moment: str | None) -> str:
    """Turn `CURRENT_TIMESTAMP`'s `2026-01-31 09:30:00` into the form that Strands writes."""
    return f"{moment}+00:00".replace(" ", "T", 1)


_COLUMNS: dict[str, dict[str, Callable[[dict[str, Any]], str | None]]] = {
    "sessions": {
        "session_type": lambda data: str(data.get("session_type", "AGENT")),
        "active_at": lambda data: "",  # a trigger fills it
        "forked_from": lambda data: None,
        "forked_through": lambda data: None,
    },
    "agents": {
        "state": _column("state"),
        "conversation_manager_state": _column("conversation_manager_state"),
        "internal_state": _column("_internal_state"),
        "context": lambda data: None,
    },
    "messages": {
        "message": lambda data: to_json(data["message"], "message"),
        "redact_message": _redact_message,
        "edited_message": lambda data: None,
    },
    "multi_agents": {"state": lambda data: to_json(data, "state")},
}
