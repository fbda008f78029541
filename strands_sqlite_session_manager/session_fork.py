"""Forking a session: an old conversation, continued in a new direction."""

import sqlite3
from typing import Any

from .codec import decode, encode, timestamp
from .database import Database
from .errors import session_exception
from .tables import COLUMNS
from .window import read_window


def fork_session(
    database: Database, session_id: str, new_session_id: str, *, agent_id: str | None, through_message: int | None
) -> tuple[str, str]:
    """Copy a session under a new id; see `SQLiteSessionRepository.fork_session`.

    Returns:
        The type of the new session, and when it was created.
    """
    now = timestamp()
    with database.transaction() as connection:
        row = connection.execute("SELECT session_type FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
        if row is None:
            raise session_exception(f"Session {session_id} does not exist")
        if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_session_id,)).fetchone():
            raise session_exception(f"Session {new_session_id} already exists")
        connection.execute(
            "INSERT INTO sessions (session_id, session_type, metadata, created_at, updated_at)"
            " SELECT ?, session_type, metadata, ?, ? FROM sessions WHERE session_id = ?",
            (new_session_id, now, now, session_id),
        )
        for table in ("agents", "multi_agents"):
            columns = ", ".join(COLUMNS[table])
            connection.execute(
                f"INSERT INTO {table} (session_id, {columns}) SELECT ?, {columns} FROM {table} WHERE session_id = ?",
                (new_session_id, session_id),
            )
        cut_agent_id = None
        if through_message is not None:
            cut_agent_id = _agent_to_cut(connection, session_id, agent_id)
            _cut(connection, session_id, new_session_id, cut_agent_id, through_message)
        messages = ", ".join(COLUMNS["messages"])
        connection.execute(
            f"INSERT INTO messages (session_id, {messages}) SELECT ?, {messages} FROM messages"
            " WHERE session_id = ? AND (agent_id IS NOT ? OR message_id <= ?) ORDER BY rowid",
            (new_session_id, session_id, cut_agent_id, through_message),
        )
    return row[0], now


def _agent_to_cut(connection: sqlite3.Connection, session_id: str, agent_id: str | None) -> str:
    rows = connection.execute(
        "SELECT agent_id FROM agents WHERE session_id = ? ORDER BY created_at, agent_id", (session_id,)
    ).fetchall()
    agent_ids = [known for (known,) in rows]
    if agent_id is None and len(agent_ids) > 1:
        raise ValueError(
            f"agent_id | session {session_id} has several agents, name one: {', '.join(map(str, agent_ids))}"
        )
    if agent_id is None and agent_ids:
        return str(agent_ids[0])
    if agent_id is None or agent_id not in agent_ids:
        name = "an agent" if agent_id is None else f"Agent {agent_id}"
        raise session_exception(f"{name} in session {session_id} does not exist")
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
        raise session_exception(f"Message {through_message} of agent {agent_id} in session {session_id} does not exist")
    window, state, internal_state = connection.execute(
        "SELECT live_messages, conversation_manager_state, internal_state FROM agents"
        " WHERE session_id = ? AND agent_id = ?",
        keys,
    ).fetchone()
    known_state = decode(state, "conversation_manager_state", "of agent", agent_id, "in session", session_id)
    if window is None:
        parts = _derived(connection, keys, known_state)
    else:
        parts = read_window(window, "live_messages", "of agent", agent_id, "in session", session_id)
    held = _behind_a_summary(parts, through_message)
    if held is None:
        held = [[first, None]]
        state = encode(_with_nothing_removed(known_state), "conversation_manager_state")
    connection.execute(
        "UPDATE agents SET live_messages = ?, conversation_manager_state = ?, internal_state = ?"
        " WHERE session_id = ? AND agent_id = ?",
        (
            encode(held, "live_messages"),
            state,
            # Interrupts, and what the model's server keeps, belong to the end of the conversation.
            internal_state if through_message == last else "{}",
            *(new_session_id, agent_id),
        ),
    )


def _derived(connection: sqlite3.Connection, keys: tuple[str, str], state: Any) -> list[Any]:
    """Return what an agent that comes from elsewhere holds, by upstream's rule, if there is a summary in it."""
    if not isinstance(state, dict) or not isinstance(state.get("summary_message"), dict):
        return []
    first = connection.execute(
        "SELECT message_id FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id LIMIT 1 OFFSET ?",
        (*keys, int(state.get("removed_message_count") or 0)),
    ).fetchone()
    return [state["summary_message"], [*first, None]] if first else []


def _behind_a_summary(parts: list[Any], through_message: int) -> list[Any] | None:
    """Return what the agent holds, up to a message, if it holds this one behind a summary; otherwise None.

    What was summarised may be more than a model can take. What was only left out comes back.
    """
    for index, part in enumerate(parts):
        if isinstance(part, list) and part[0] <= through_message and (part[1] is None or through_message <= part[1]):
            # What was put before it and came later in the log is not there any more.
            before = [
                [other[0], min(other[1], through_message)] if isinstance(other, list) else other
                for other in parts[:index]
                if isinstance(other, dict) or other[0] <= through_message
            ]
            return [*before, [part[0], None]] if any(isinstance(other, dict) for other in before) else None
    return None


def _with_nothing_removed(state: Any) -> Any:
    """Return the state of a conversation manager as it is when nothing was removed yet."""
    nothing_removed = {"removed_message_count": 0, "summary_message": None}
    return {key: nothing_removed.get(key, value) for key, value in state.items()} if isinstance(state, dict) else state
