"""Files of the earlier community package of the same name, brought to our tables.

There, each of the four tables has its keys, a `data` column with the JSON of Strands' `to_dict()`, and
two `CURRENT_TIMESTAMP` columns.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from .codec import to_json
from .errors import session_exception

_TABLES = ("messages", "multi_agents", "agents", "sessions")  # children first, so that they can be dropped


def is_layout(connection: sqlite3.Connection) -> bool:
    """Tell whether a database holds exactly the tables of the earlier package."""
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {name for (name,) in tables} == set(_TABLES) and all(
        connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = 'data'", (table,)).fetchone()
        for table in _TABLES
    )


def set_aside(connection: sqlite3.Connection) -> None:
    """Rename the old tables, so that the new ones can take their names."""
    for table in _TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO earlier_{table}")


def move_in(connection: sqlite3.Connection) -> None:
    """Copy every row of the old tables into the new ones, and drop the old.

    Raises:
        SessionException: If a row's JSON cannot be read; says which.
    """
    connection.executemany(
        "INSERT INTO sessions (session_id, session_type, created_at, updated_at) VALUES (?, ?, ?, ?)",
        (
            (*keys, data.get("session_type", "AGENT"), *times)
            for keys, data, times in _rows(connection, "sessions", "session_id")
        ),
    )
    connection.executemany(
        "INSERT INTO agents (session_id, agent_id, state, conversation_manager_state, internal_state,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                *keys,
                to_json(data.get("state", {}), "state"),
                to_json(data.get("conversation_manager_state", {}), "conversation_manager_state"),
                to_json(data.get("_internal_state", {}), "internal_state"),
                *times,
            )
            for keys, data, times in _rows(connection, "agents", "session_id, agent_id")
        ),
    )
    connection.executemany(
        "INSERT INTO messages (session_id, agent_id, message_id, message, redact_message, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                *keys,
                to_json(data["message"], "message"),
                None if data.get("redact_message") is None else to_json(data["redact_message"], "redact_message"),
                *times,
            )
            for keys, data, times in _rows(connection, "messages", "session_id, agent_id, message_id")
        ),
    )
    connection.executemany(
        "INSERT INTO multi_agents (session_id, multi_agent_id, state, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
        (
            (*keys, to_json(data, "state"), *times)
            for keys, data, times in _rows(connection, "multi_agents", "session_id, multi_agent_id")
        ),
    )
    for table in _TABLES:
        connection.execute(f"DROP TABLE earlier_{table}")


def _rows(
    connection: sqlite3.Connection, table: str, keys: str
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], tuple[str, str]]]:
    """Yield each row's keys, its data, and when it was created and updated, in the order of its keys."""
    cursor = connection.execute(f"SELECT {keys}, created_at, updated_at, data FROM earlier_{table} ORDER BY {keys}")
    for *row_keys, created_at, updated_at, text in cursor:
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or (table == "messages" and "message" not in data):
                raise ValueError("not an object, or without a message")
        except (TypeError, ValueError) as error:
            row = ", ".join(repr(key) for key in row_keys)
            raise session_exception(f"the row ({row}) of {table} cannot be upgraded: its data is malformed") from error
        # An orchestrator's data is its state alone; the others carry their own, exact, times.
        stamps = {} if table == "multi_agents" else data
        times = (stamps.get("created_at", _iso(created_at)), stamps.get("updated_at", _iso(updated_at)))
        yield tuple(row_keys), data, times


def _iso(moment: str | None) -> str:
    """Turn `CURRENT_TIMESTAMP`'s `2026-01-31 09:30:00` into the form that Strands writes."""
    return f"{moment}+00:00".replace(" ", "T", 1)
