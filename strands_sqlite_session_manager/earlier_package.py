"""Files of the earlier community package of the same name, brought to our tables.

There, each of the four tables has its keys, a `data` column with the JSON of Strands' `to_dict()`, and
two `CURRENT_TIMESTAMP` columns.
"""

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from .codec import to_json
from .errors import session_exception, without_content

# Parents first, so that rows find what they belong to.
_KEYS = {
    "sessions": ("session_id",),
    "agents": ("session_id", "agent_id"),
    "messages": ("session_id", "agent_id", "message_id"),
    "multi_agents": ("session_id", "multi_agent_id"),
}


def is_layout(connection: sqlite3.Connection) -> bool:
    """Tell whether a database holds exactly the tables of the earlier package."""
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    return {name for (name,) in tables} == _KEYS.keys() and all(
        {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()}
        == {*keys, "data", "created_at", "updated_at"}
        for table, keys in _KEYS.items()
    )


def set_aside(connection: sqlite3.Connection) -> None:
    """Rename the old tables, so that the new ones can take their names."""
    for table in _KEYS:
        connection.execute(f"ALTER TABLE {table} RENAME TO earlier_{table}")


def move_in(connection: sqlite3.Connection) -> None:
    """Copy every row of the old tables into the new ones, and drop the old.

    Raises:
        SessionException: If a row cannot be read, or belongs to nothing; says which.
    """
    for table, keys in _KEYS.items():
        _move(connection, table, ", ".join(keys), _COLUMNS[table])
    for table in reversed(_KEYS):
        connection.execute(f"DROP TABLE earlier_{table}")


def _move(
    connection: sqlite3.Connection, table: str, keys: str, columns: dict[str, Callable[[dict[str, Any]], str | None]]
) -> None:
    insert = (
        f"INSERT INTO {table} ({keys}, {', '.join(columns)}, created_at, updated_at)"
        f" VALUES ({', '.join('?' * (len(_KEYS[table]) + len(columns) + 2))})"
    )
    # As bytes, because SQLite does not care whether a text is UTF-8.
    rows = connection.execute(
        f"SELECT {keys}, created_at, updated_at, CAST(data AS BLOB) FROM earlier_{table} ORDER BY {keys}"
    )
    try:
        for *row, created_at, updated_at, data in rows:
            try:
                value = json.loads(data)
                # An orchestrator's data is its state alone; the others carry their own, exact, times.
                times = {} if table == "multi_agents" else value
                connection.execute(
                    insert,
                    (
                        *row,
                        *(convert(value) for convert in columns.values()),
                        times.get("created_at", _iso(created_at)),
                        times.get("updated_at", _iso(updated_at)),
                    ),
                )
            except (
                AttributeError,
                KeyError,
                TypeError,
                ValueError,
                RecursionError,
                connection.IntegrityError,
            ) as error:
                without_content(error)
                name = ", ".join(map(repr, row))
                raise session_exception(f"the row ({name}) of {table} cannot be upgraded: it is malformed") from error
    finally:
        rows.close()  # a cursor that is left half-way keeps the file locked


def _column(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda data: to_json(data.get(name, {}), name)


def _redact_message(data: dict[str, Any]) -> str | None:
    redacted = data.get("redact_message")
    return None if redacted is None else to_json(redacted, "redact_message")


def _iso(moment: str | None) -> str:
    """Turn `CURRENT_TIMESTAMP`'s `2026-01-31 09:30:00` into the form that Strands writes."""
    return f"{moment}+00:00".replace(" ", "T", 1)


_COLUMNS: dict[str, dict[str, Callable[[dict[str, Any]], str | None]]] = {
    "sessions": {"session_type": lambda data: str(data.get("session_type", "AGENT"))},
    "agents": {
        "state": _column("state"),
        "conversation_manager_state": _column("conversation_manager_state"),
        "internal_state": _column("_internal_state"),
    },
    "messages": {"message": lambda data: to_json(data["message"], "message"), "redact_message": _redact_message},
    "multi_agents": {"state": lambda data: to_json(data, "state")},
}
