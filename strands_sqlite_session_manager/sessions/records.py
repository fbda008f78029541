"""Strands' records as rows: sessions, agents, messages and orchestrators by their ids.

These functions implement Strands' `SessionRepository` on a `Database`. They validate ids, so that every caller is
refused the same ids.
"""

import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .. import errors
from ..context.checkpoints import read_checkpoint, read_messages
from ..context.strands_private import as_resumed, internal_state_of
from ..database.database import Database, Row
from ..database.identifiers import validate_id, validate_message_id
from ..database.tables import AGENTS, MESSAGES, MULTI_AGENTS, SESSIONS
from ..database.values import UnreadableError, decode, decode_state, encode, encode_state, exact_copy, timestamp
from .listing import check_range

_AGENT = "agent_id, state, conversation_manager_state, internal_state, created_at, updated_at"
_MESSAGE = "message_id, message, redact_message, created_at, updated_at"
_THIS_AGENT = "session_id = ? AND agent_id = ?"

# -- sessions --


def create_session(database: Database, session: Session) -> None:
    """Store a new session."""
    database.write(SESSIONS.insert, session_row(session), exists=f"Session {session.session_id} already exists")


def read_session(database: Database, session_id: str) -> Session | None:
    """Return a session, or None if there is none."""
    rows = database.read(
        "SELECT session_id, session_type, created_at, updated_at FROM sessions WHERE session_id = ?",
        (validate_id(session_id, "session"),),
    )
    for session_id, session_type, created_at, updated_at in rows:
        try:
            return Session(session_id, SessionType(session_type), created_at, updated_at)
        except ValueError as error:
            raise errors.SessionException(
                f"Session {session_id} is of the type {session_type!r}, unknown to this version of strands-agents:"
                " upgrade it"
            ) from error
    return None


def session_row(session: Session) -> Row:
    """Return a session as a row of `sessions`."""
    session_id = validate_id(session.session_id, "session")
    return session_id, SessionType(session.session_type).value, session.created_at, session.updated_at, "", None, None


# -- agents --


def create_agent(database: Database, session_id: str, agent: SessionAgent) -> None:
    """Store a new agent of a session."""
    database.write(
        AGENTS.insert,
        agent_row(session_id, agent),
        exists=f"Agent {agent.agent_id} already exists in session {session_id}",
        orphan=f"Session {session_id} does not exist",
    )


def read_agent(database: Database, session_id: str, agent_id: str) -> SessionAgent | None:
    """Return an agent, or None if there is none."""
    agents = database.read(
        f"SELECT {_AGENT} FROM agents WHERE {_THIS_AGENT}",
        (validate_id(session_id, "session"), validate_id(agent_id, "agent")),
        partial(_agent_from_row, session_id),
    )
    return agents[0] if agents else None


def update_agent(database: Database, session_id: str, agent: SessionAgent) -> tuple[int, int]:
    """Replace a stored agent, except for its creation time.

    Returns:
        The agent's revision before and after.
    """
    keys = (validate_id(session_id, "session"), validate_id(agent.agent_id, "agent"))
    state, conversation_manager_state, internal_state = _agent_columns(agent)

    def update(connection: sqlite3.Connection) -> tuple[str, int, int]:
        row = connection.execute(f"SELECT created_at, revision FROM agents WHERE {_THIS_AGENT}", keys).fetchone()
        if row is None:
            raise errors.SessionNotFoundException(f"Agent {agent.agent_id} in session {session_id} does not exist")
        connection.execute(
            "UPDATE agents SET updated_at = ?, state = ?, internal_state = ?, revision = random() >> 2,"
            # If the conversation manager's state changes, the next resume derives the context from it, as upstream
            # does.
            " context = CASE WHEN conversation_manager_state = ? THEN context END, conversation_manager_state = ?"
            f" WHERE {_THIS_AGENT}",
            (agent.updated_at, state, internal_state, conversation_manager_state, conversation_manager_state, *keys),
        )
        return *row, _revision(connection, keys)

    agent.created_at, before, after = database.transaction(update)
    return before, after


def update_agent_state(database: Database, session_id: str, agent_id: str, changes: Mapping[str, Any]) -> None:
    """Merge values into the state of an agent; see `SQLiteSessionRepository.update_agent_state`."""
    keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"))
    if not isinstance(changes, Mapping):
        raise TypeError(f"changes=<{type(changes).__name__}> | must be a mapping")
    for key in changes:
        if not isinstance(key, str) or not key.strip():  # Strands' rule for state keys
            raise ValueError(f"changes[{key!r}] | keys must be strings that are not blank")
    merged = exact_copy(dict(changes), "changes")

    def update(connection: sqlite3.Connection) -> None:
        row = connection.execute(f"SELECT state FROM agents WHERE {_THIS_AGENT}", keys).fetchone()
        if row is None:
            raise errors.SessionNotFoundException(f"Agent {agent_id} in session {session_id} does not exist")
        state = decode(row[0], "the state of agent", agent_id, "in session", session_id) | merged
        state = {key: value for key, value in state.items() if key not in merged or value is not None}
        connection.execute(
            f"UPDATE agents SET updated_at = ?, state = ?, revision = random() >> 2 WHERE {_THIS_AGENT}",
            (timestamp(), encode(state, "state"), *keys),
        )

    database.transaction(update)


def list_agents(database: Database, session_id: str) -> list[SessionAgent]:
    """Return the agents of a session in order of creation."""
    return database.read(
        f"SELECT {_AGENT} FROM agents WHERE session_id = ? ORDER BY created_at, agent_id",
        (validate_id(session_id, "session"),),
        partial(_agent_from_row, session_id),
    )


def agent_row(session_id: str, agent: SessionAgent) -> Row:
    """Return an agent as a row of `agents`; its context is unknown."""
    keys = (validate_id(session_id, "session"), validate_id(agent.agent_id, "agent"))
    return *keys, agent.created_at, agent.updated_at, *_agent_columns(agent), None


def _agent_columns(agent: SessionAgent) -> tuple[str, str, str]:
    return (
        encode(agent.state, "state"),
        encode(agent.conversation_manager_state, "conversation_manager_state"),
        encode(internal_state_of(agent), "_internal_state"),
    )


def _agent_from_row(session_id: str, row: Row) -> SessionAgent:
    agent_id, state, conversation_manager_state, internal_state, created_at, updated_at = row
    where = ("the agent", agent_id, "of session", session_id)
    return SessionAgent(
        agent_id,
        decode(state, *where),
        decode(conversation_manager_state, *where),
        decode(internal_state, *where),
        created_at,
        updated_at,
    )


def _revision(connection: sqlite3.Connection, keys: tuple[str, str]) -> int:
    row = connection.execute(f"SELECT revision FROM agents WHERE {_THIS_AGENT}", keys).fetchone()
    if row is None or not isinstance(row[0], int):
        raise UnreadableError(f"agent {keys[1]} in session {keys[0]} has no revision")
    return row[0]


# -- messages --


def create_message(database: Database, session_id: str, agent_id: str, message: SessionMessage) -> None:
    """Store a new message of an agent."""
    database.write(
        MESSAGES.insert,
        message_row(session_id, agent_id, message),
        exists=f"Message {message.message_id} already exists for agent {agent_id} in session {session_id}",
        orphan=f"Agent {agent_id} in session {session_id} does not exist",
    )


def read_message(database: Database, session_id: str, agent_id: str, message_id: int) -> SessionMessage | None:
    """Return a message, or None if there is none."""
    messages = database.read(
        f"SELECT {_MESSAGE} FROM messages WHERE {_THIS_AGENT} AND message_id = ?",
        (validate_id(session_id, "session"), validate_id(agent_id, "agent"), validate_message_id(message_id)),
        partial(_message_from_row, session_id, agent_id),
    )
    return messages[0] if messages else None


def update_message(database: Database, session_id: str, agent_id: str, message: SessionMessage) -> tuple[int, int]:
    """Replace a stored message, except for its creation time.

    Returns:
        The agent's revision before and after.
    """
    agent_keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"))
    keys = (*agent_keys, validate_message_id(message.message_id))
    columns = _message_columns(message)

    def update(connection: sqlite3.Connection) -> tuple[str, int, int]:
        row = connection.execute(
            f"SELECT created_at FROM messages WHERE {_THIS_AGENT} AND message_id = ?", keys
        ).fetchone()
        if row is None:
            raise errors.SessionNotFoundException(f"Message {message.message_id} does not exist")
        connection.execute(
            "UPDATE messages SET updated_at = ?, message = ?, redact_message = ?, edited_message = NULL"
            f" WHERE {_THIS_AGENT} AND message_id = ?",
            (message.updated_at, *columns, *keys),
        )
        before = _revision(connection, agent_keys)
        connection.execute(f"UPDATE agents SET revision = random() >> 2 WHERE {_THIS_AGENT}", agent_keys)
        return *row, before, _revision(connection, agent_keys)

    message.created_at, before, after = database.transaction(update)
    if message.redact_message is not None:
        database.empty_wal()
    return before, after


def list_messages(
    database: Database, session_id: str, agent_id: str, limit: int | None, offset: int, last: int | None = None
) -> list[SessionMessage]:
    """Return an agent's messages as they were said, in the order of their ids."""
    if last is not None and (limit is not None or offset != 0):
        raise ValueError(f"last=<{last}> | cannot be combined with limit or offset")
    keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"))
    order, bounds = ("", check_range(limit, offset)) if last is None else ("DESC", check_range(last))
    messages = database.read(
        f"SELECT {_MESSAGE} FROM messages WHERE {_THIS_AGENT} ORDER BY message_id {order} LIMIT ? OFFSET ?",
        (*keys, *bounds),
        partial(_message_from_row, session_id, agent_id),
    )
    return messages if last is None else messages[::-1]


def read_context(
    database: Database, session_id: str, agent_id: str, through_message: int | None = None
) -> list[Message]:
    """Return the messages that an agent would resume with; see `SQLiteSessionRepository.read_context`."""
    keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"))
    if through_message is not None:
        validate_message_id(through_message)

    def read(connection: sqlite3.Connection) -> list[Message]:
        checkpoint = read_checkpoint(connection, *keys, through_message)
        return as_resumed(read_messages(connection, *keys, checkpoint, through_message))

    return database.snapshot(read)


def read_history(database: Database, session_id: str, agent_id: str) -> list[Message]:
    """Return an agent's messages as they were said, redactions applied."""
    return [message.to_message() for message in list_messages(database, session_id, agent_id, None, 0)]


def message_row(session_id: str, agent_id: str, message: SessionMessage) -> Row:
    """Return a message as a row of `messages`; the agent holds it as it was said."""
    keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"), validate_message_id(message.message_id))
    return *keys, message.created_at, message.updated_at, *_message_columns(message), None


def _message_columns(message: SessionMessage) -> tuple[str, str | None]:
    redacted = message.redact_message
    return encode(message.message, "message"), None if redacted is None else encode(redacted, "redact_message")


def _message_from_row(session_id: str, agent_id: str, row: Row) -> SessionMessage:
    message_id, message, redact_message, created_at, updated_at = row
    where = ("message", message_id, "of agent", agent_id, "in session", session_id)
    if not isinstance(message_id, int):
        raise UnreadableError(f"a message of agent {agent_id} in session {session_id} has an id that is not an integer")
    return SessionMessage(
        decode(message, *where),
        message_id,
        None if redact_message is None else decode(redact_message, *where),
        created_at,
        updated_at,
    )


# -- orchestrators --


def create_multi_agent(
    database: Database, session_id: str, multi_agent_id: str, serialize: Callable[[], dict[str, Any]]
) -> None:
    """Store the state of an orchestrator, replacing any that is stored."""
    now = timestamp()
    database.write(
        f"{MULTI_AGENTS.insert} ON CONFLICT (session_id, multi_agent_id) DO UPDATE"
        " SET updated_at = excluded.updated_at, state = excluded.state, revision = random() >> 2",
        multi_agent_row(session_id, multi_agent_id, serialize(), now, now),
        orphan=f"Session {session_id} does not exist",
    )


def read_multi_agent(database: Database, session_id: str, multi_agent_id: str) -> dict[str, Any] | None:
    """Return the state of an orchestrator, or None if there is none."""
    found = database.read(
        "SELECT state FROM multi_agents WHERE session_id = ? AND multi_agent_id = ?",
        (validate_id(session_id, "session"), validate_id(multi_agent_id, "agent")),
        lambda row: decode_state(row[0], "the state of", multi_agent_id, "in session", session_id),
    )
    return found[0] if found else None


def update_multi_agent(
    database: Database, session_id: str, multi_agent_id: str, serialize: Callable[[], dict[str, Any]]
) -> None:
    """Replace the stored state of an orchestrator."""
    changed = database.write(
        "UPDATE multi_agents SET updated_at = ?, state = ?, revision = random() >> 2"
        " WHERE session_id = ? AND multi_agent_id = ?",
        (
            timestamp(),
            encode_state(serialize(), "state"),
            validate_id(session_id, "session"),
            validate_id(multi_agent_id, "agent"),
        ),
    )
    if not changed:
        raise errors.SessionNotFoundException(
            f"MultiAgent state {multi_agent_id} in session {session_id} does not exist"
        )


def list_multi_agents(database: Database, session_id: str) -> list[str]:
    """Return the ids of a session's orchestrators."""
    rows = database.read(
        "SELECT multi_agent_id FROM multi_agents WHERE session_id = ? ORDER BY multi_agent_id",
        (validate_id(session_id, "session"),),
    )
    return [multi_agent_id for (multi_agent_id,) in rows]


def multi_agent_row(
    session_id: str, multi_agent_id: str, state: dict[str, Any], created_at: str, updated_at: str
) -> Row:
    """Return the state of an orchestrator as a row of `multi_agents`."""
    keys = (validate_id(session_id, "session"), validate_id(multi_agent_id, "agent"))
    return *keys, created_at, updated_at, encode_state(state, "state")
