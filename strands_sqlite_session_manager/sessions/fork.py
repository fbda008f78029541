"""Forking a session: an old conversation, continued in a new direction."""

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

from .. import errors
from ..context.checkpoints import form_at, read_checkpoint, write_checkpoint
from ..database.database import Database
from ..database.identifiers import validate_id, validate_message_id
from ..database.tables import (
    AGENT_VERSIONS,
    AGENTS,
    MESSAGE_VERSIONS,
    MESSAGES,
    METADATA,
    MULTI_AGENTS,
    SESSIONS,
    Table,
)
from ..database.values import timestamp
from .listing import ids_of
from .metadata import check_metadata, merge


def fork_session(
    database: Database,
    session_id: str,
    new_session_id: str,
    *,
    agent_id: str | None = None,
    through_message: int | None = None,
    metadata: Mapping[str, str | None] | None = None,
) -> tuple[str, str]:
    """Copy a session under a new id; see `SQLiteSessionRepository.fork_session`.

    Returns:
        The type of the new session, and when it was created.
    """
    for id_ in (session_id, new_session_id):
        validate_id(id_, "session")
    if agent_id is not None:
        validate_id(agent_id, "agent")
        if through_message is None:
            raise ValueError(f"agent_id={agent_id} | belongs to through_message; without it, all agents are copied")
    if through_message is not None:
        validate_message_id(through_message)
    changes = {} if metadata is None else check_metadata(metadata, removable=True)
    now = timestamp()

    def fork(connection: sqlite3.Connection) -> str:
        row = connection.execute("SELECT session_type FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
        if row is None:
            raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
        if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_session_id,)).fetchone():
            raise errors.SessionExistsException(f"Session {new_session_id} already exists")
        connection.execute(SESSIONS.insert, (new_session_id, *row, now, now, "", session_id, through_message))
        copy = partial(_copy, connection, session_id, new_session_id)
        for table in (METADATA, AGENTS, MULTI_AGENTS):
            copy(table)
        if through_message is None:
            for table in (MESSAGES, AGENT_VERSIONS, MESSAGE_VERSIONS):
                copy(table)
        else:
            cut_agent_id = agent_named(connection, session_id, agent_id)
            checkpoint = read_checkpoint(connection, session_id, cut_agent_id, through_message)
            write_checkpoint(connection, new_session_id, cut_agent_id, checkpoint)  # before it has messages
            through = (cut_agent_id, through_message)
            copy(MESSAGES, " AND agent_id <> ?", (cut_agent_id,))
            copy(MESSAGES, " AND agent_id = ? AND message_id <= ?", through, form_at(through_message))
            for table in (AGENT_VERSIONS, MESSAGE_VERSIONS):
                copy(table, " AND (agent_id <> ? OR before_message_id <= ?)", through)
        merge(connection, new_session_id, changes)
        return str(row[0])

    return database.transaction(fork), now


def _copy(
    connection: sqlite3.Connection,
    session_id: str,
    new_session_id: str,
    table: Table,
    condition: str = "",
    parameters: tuple[Any, ...] = (),
    edited_message: tuple[str, tuple[int, ...]] = ("edited_message", ()),
) -> None:
    """Copy the rows of a session that meet a condition under a new id, in the order in which they were stored.

    `edited_message` is SQL for the column of this name, and its parameters.
    """
    form, form_parameters = edited_message
    names = table.columns[1:]
    values = ", ".join(form if name == "edited_message" else name for name in names)
    connection.execute(
        f"INSERT INTO {table.name} (session_id, {', '.join(names)}) SELECT ?, {values} FROM {table.name}"
        f" WHERE session_id = ?{condition} ORDER BY rowid",
        (new_session_id, *form_parameters, session_id, *parameters),
    )


def agent_named(connection: sqlite3.Connection, session_id: str, agent_id: str | None) -> str:
    """Return the id of a session's agent; None means the only one.

    Raises:
        ValueError: If none is named and there are several.
        SessionNotFoundException: If there is no such agent.
    """
    agent_ids = ids_of(connection, "agents", session_id)
    if agent_id is None and len(agent_ids) > 1:
        raise ValueError(
            f"agent_id | session {session_id} has several agents; name one of {', '.join(map(str, agent_ids))}"
        )
    if agent_id is None and agent_ids:
        return str(agent_ids[0])
    if agent_id is None or agent_id not in agent_ids:
        name = "an agent" if agent_id is None else f"Agent {agent_id}"
        raise errors.SessionNotFoundException(f"{name} in session {session_id} does not exist")
    return agent_id
