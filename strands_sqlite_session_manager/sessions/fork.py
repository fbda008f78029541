"""Forking a session: an old conversation, continued in a new direction."""

import sqlite3
from typing import Any

from .. import errors
from ..context.ranges import read_context
from ..database.database import Database
from ..database.identifiers import validate_id, validate_message_id
from ..database.tables import AGENTS, MESSAGES, METADATA, MULTI_AGENTS, SESSIONS, Table
from ..database.values import decode, encode, timestamp
from .listing import ids_of


def fork_session(
    database: Database,
    session_id: str,
    new_session_id: str,
    *,
    agent_id: str | None = None,
    through_message: int | None = None,
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
    now = timestamp()

    def fork(connection: sqlite3.Connection) -> str:
        row = connection.execute("SELECT session_type FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
        if row is None:
            raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
        if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_session_id,)).fetchone():
            raise errors.SessionExistsException(f"Session {new_session_id} already exists")
        connection.execute(SESSIONS.insert, (new_session_id, *row, now, now, ""))
        for table in (METADATA, AGENTS, MULTI_AGENTS):
            _copy(connection, table, session_id, new_session_id)
        if through_message is None:
            _copy(connection, MESSAGES, session_id, new_session_id)
        else:
            cut_agent_id = _agent_to_cut(connection, session_id, agent_id)
            _cut(connection, session_id, new_session_id, cut_agent_id, through_message)
            kept = " AND (agent_id <> ? OR message_id <= ?)"
            _copy(connection, MESSAGES, session_id, new_session_id, kept, (cut_agent_id, through_message))
        return str(row[0])

    return database.transaction(fork), now


def _copy(
    connection: sqlite3.Connection,
    table: Table,
    session_id: str,
    new_session_id: str,
    condition: str = "",
    parameters: tuple[Any, ...] = (),
) -> None:
    columns = ", ".join(table.columns[1:])
    connection.execute(
        f"INSERT INTO {table.name} (session_id, {columns}) SELECT ?, {columns} FROM {table.name}"
        f" WHERE session_id = ?{condition} ORDER BY rowid",
        (new_session_id, session_id, *parameters),
    )


def _agent_to_cut(connection: sqlite3.Connection, session_id: str, agent_id: str | None) -> str:
    agent_ids = ids_of(connection, "agents", session_id)
    if agent_id is None and len(agent_ids) > 1:
        raise ValueError(
            f"agent_id | session {session_id} has several agents, name one: {', '.join(map(str, agent_ids))}"
        )
    if agent_id is None and agent_ids:
        return str(agent_ids[0])
    if agent_id is None or agent_id not in agent_ids:
        name = "an agent" if agent_id is None else f"Agent {agent_id}"
        raise errors.SessionNotFoundException(f"{name} in session {session_id} does not exist")
    return agent_id


def _cut(
    connection: sqlite3.Connection, session_id: str, new_session_id: str, agent_id: str, through_message: int
) -> None:
    """Let the copied agent hold the messages up to one, in a state that fits them."""
    keys = (session_id, agent_id)
    first, last, known = connection.execute(
        "SELECT min(message_id), max(message_id), sum(message_id = ?) FROM messages"
        " WHERE session_id = ? AND agent_id = ?",
        (through_message, *keys),
    ).fetchone()
    if not known:
        raise errors.SessionNotFoundException(
            f"Message {through_message} of agent {agent_id} in session {session_id} does not exist"
        )
    context, state, internal_state = connection.execute(
        "SELECT context, conversation_manager_state, internal_state FROM agents WHERE session_id = ? AND agent_id = ?",
        keys,
    ).fetchone()
    known_state = decode(state, "conversation_manager_state", "of agent", agent_id, "in session", session_id)
    if context is None:
        parts = _derived(connection, keys, known_state)
    else:
        parts = read_context(context, "context", "of agent", agent_id, "in session", session_id)
    held = _behind_a_summary(parts, through_message)
    if held is None:
        held = [[first, None]]
        state = encode(_with_nothing_removed(known_state), "conversation_manager_state")
    connection.execute(
        "UPDATE agents SET context = ?, conversation_manager_state = ?, internal_state = ?"
        " WHERE session_id = ? AND agent_id = ?",
        (
            encode(held, "context"),
            state,
            # Interrupts, and what the model's server keeps, belong to the end of the conversation.
            internal_state if through_message == last else "{}",
            *(new_session_id, agent_id),
        ),
    )


def _derived(connection: sqlite3.Connection, keys: tuple[str, str], state: Any) -> list[Any]:
    """Return what an agent from another store holds, by upstream's rule, if there is a summary in it."""
    if not isinstance(state, dict) or not isinstance(state.get("summary_message"), dict):
        return []
    first = connection.execute(
        "SELECT message_id FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id LIMIT 1 OFFSET ?",
        (*keys, int(state.get("removed_message_count") or 0)),
    ).fetchone()
    return [state["summary_message"], [*first, None]] if first else []


def _behind_a_summary(parts: list[Any], through_message: int) -> list[Any] | None:
    """Return what the agent holds up to a message, if it holds that message behind a summary; otherwise None.

    What was summarized may be more than a model can take. What was only trimmed comes back.
    """
    for index, part in enumerate(parts):
        if isinstance(part, list) and part[0] <= through_message and (part[1] is None or through_message <= part[1]):
            # What was put before it, but is later in the history, is not copied.
            before = [
                [other[0], min(other[1], through_message)] if isinstance(other, list) else other
                for other in parts[:index]
                if isinstance(other, dict) or other[0] <= through_message
            ]
            return [*before, [part[0], None]] if any(isinstance(other, dict) for other in before) else None
    return None


def _with_nothing_removed(state: Any) -> Any:
    """Return the state of a conversation manager as it is before anything was removed."""
    nothing_removed = {"removed_message_count": 0, "summary_message": None}
    return {key: nothing_removed.get(key, value) for key, value in state.items()} if isinstance(state, dict) else state
