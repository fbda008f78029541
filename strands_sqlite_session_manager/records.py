"""What Strands' `SessionRepository` is asked for: sessions, agents, messages and orchestrators by their ids."""

import operator
from functools import partial
from typing import TYPE_CHECKING, Any

from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from . import deletion
from .codec import decode, decode_state, encode, encode_state, timestamp
from .database import MOST, Database, Row
from .erasure import erase
from .errors import UnreadableError
from .identifiers import validate_id, validate_message_id
from .tables import found_in

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase


INSERT_SESSION = "INSERT INTO sessions (session_id, session_type, created_at, updated_at) VALUES (?, ?, ?, ?)"
INSERT_AGENT = (
    "INSERT INTO agents (session_id, agent_id, created_at, updated_at, state, conversation_manager_state,"
    " internal_state) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_MESSAGE = (
    "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message, redact_message)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_MULTI_AGENT = (
    "INSERT INTO multi_agents (session_id, multi_agent_id, created_at, updated_at, state) VALUES (?, ?, ?, ?, ?)"
)


class Records(SessionRepository):
    """The interface of Strands on a database; see `SQLiteSessionRepository`, which is it and more."""

    _database: Database

    # -- sessions --

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Store a new session.

        Args:
            session: The session.
            **kwargs: For future extensibility of the interface.

        Returns:
            The same session.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If it exists already, or cannot be written.
        """
        self._database.write(
            INSERT_SESSION,
            session_row(session),
            lambda error: _violation(error, f"Session {session.session_id} already exists"),
        )
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, or None where there is none.

        Args:
            session_id: The session's id.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        rows = self._database.read(
            "SELECT session_id, session_type, created_at, updated_at FROM sessions WHERE session_id = ?",
            (validate_id(session_id, "session"),),
        )
        for session_id, session_type, created_at, updated_at in rows:
            try:
                return Session(session_id, SessionType(session_type), created_at, updated_at)
            except ValueError as error:
                raise SessionException(f"Session {session_id} is of the unknown type {session_type!r}") from error
        return None

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with its agents, messages and orchestrators; the file's log is emptied of them as well.

        Args:
            session_id: The session's id.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If there is no such session, or it cannot be deleted.
        """
        deletion.delete_session(self._database, validate_id(session_id, "session"))

    # -- agents --

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Store a new agent of a session.

        Args:
            session_id: The session's id.
            session_agent: The agent.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such session, the agent exists already, or it cannot be written.
        """
        self._database.write(
            INSERT_AGENT,
            agent_row(session_id, session_agent),
            lambda error: _violation(
                error,
                f"Agent {session_agent.agent_id} already exists in session {session_id}",
                f"Session {session_id} does not exist",
            ),
        )

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent of a session, or None where there is none.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """
        agents = self._database.read(
            f"SELECT {_AGENT} FROM {found_in('agents')} WHERE found.session_id = ? AND found.agent_id = ?",
            (validate_id(session_id, "session"), validate_id(agent_id, "agent")),
            partial(_agent_from_row, session_id),
        )
        return agents[0] if agents else None

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Replace what is stored of an agent, but for when it was created.

        An agent that is live elsewhere on these ids becomes stale by it. If the conversation manager's
        state changes, a later resume derives the messages from that state, as upstream does.

        Args:
            session_id: The session's id.
            session_agent: The agent; its `created_at` is set to the stored one.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such agent, or it cannot be written.
        """
        keys = (validate_id(session_id, "session"), validate_id(session_agent.agent_id, "agent"))
        state, conversation_manager_state, internal_state = _agent_columns(session_agent)
        with self._database.transaction() as connection:
            created = connection.execute(
                "SELECT created_at FROM agents WHERE session_id = ? AND agent_id = ?", keys
            ).fetchone()
            if created is None:
                raise SessionException(f"Agent {session_agent.agent_id} in session {session_id} does not exist")
            connection.execute(
                "UPDATE agents SET updated_at = ?, state = ?, internal_state = ?, revision = revision + 1,"
                " live_messages = CASE WHEN conversation_manager_state = ? THEN live_messages END,"
                " conversation_manager_state = ? WHERE session_id = ? AND agent_id = ?",
                (
                    session_agent.updated_at,
                    state,
                    internal_state,
                    conversation_manager_state,
                    conversation_manager_state,
                    *keys,
                ),
            )
        (session_agent.created_at,) = created

    def list_agents(self, session_id: str) -> list[SessionAgent]:
        """Return the agents of a session in the order of their creation; none where there is no session.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        return self._database.read(
            f"SELECT {_AGENT} FROM {found_in('agents')} WHERE found.session_id = ?"
            " ORDER BY stored.created_at, found.agent_id",
            (validate_id(session_id, "session"),),
            partial(_agent_from_row, session_id),
        )

    # -- messages --

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Store a new message of an agent.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            session_message: The message.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such agent, the message exists already, its content has no
                exact form in JSON, or it cannot be written.
        """
        self._database.write(
            INSERT_MESSAGE,
            message_row(session_id, agent_id, session_message),
            lambda error: _violation(
                error,
                f"Message {session_message.message_id} already exists for agent {agent_id} in session {session_id}",
                f"Agent {agent_id} in session {session_id} does not exist",
            ),
        )

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message, or None where there is none.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            message_id: The message's id.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """
        messages = self._database.read(
            f"SELECT {_MESSAGE} FROM {found_in('messages')}"
            " WHERE found.session_id = ? AND found.agent_id = ? AND found.message_id = ?",
            (validate_id(session_id, "session"), validate_id(agent_id, "agent"), validate_message_id(message_id)),
            partial(_message_from_row, session_id, agent_id),
        )
        return messages[0] if messages else None

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Replace what is stored of a message, but for when it was created.

        An agent that is live elsewhere on these ids becomes stale by it.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            session_message: The message; its `created_at` is set to the stored one.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such message, its content has no exact form in JSON, or it
                cannot be written.
        """
        agent_keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"))
        keys = (*agent_keys, validate_message_id(session_message.message_id))
        columns = _message_columns(session_message)
        with self._database.transaction() as connection:
            created = connection.execute(
                "SELECT created_at FROM messages WHERE session_id = ? AND agent_id = ? AND message_id = ?", keys
            ).fetchone()
            if created is None:
                raise SessionException(f"Message {session_message.message_id} does not exist")
            connection.execute(
                "UPDATE messages SET updated_at = ?, message = ?, redact_message = ?, live_message = NULL"
                " WHERE session_id = ? AND agent_id = ? AND message_id = ?",
                (session_message.updated_at, *columns, *keys),
            )
            connection.execute(
                "UPDATE agents SET revision = revision + 1 WHERE session_id = ? AND agent_id = ?", agent_keys
            )
        (session_message.created_at,) = created
        if session_message.redact_message is not None:
            erase(self._database, ids=False)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return an agent's messages as they were said, in the order of their ids.

        Args:
            session_id: The session's id.
            agent_id: The agent's id.
            limit: How many at most; None is all.
            offset: How many to pass over first.
            **kwargs: For future extensibility of the interface.

        Returns:
            The messages; none where there is no such agent. What the agent trimmed or summarised is
            there, what was redacted is not.

        Raises:
            TypeError: If a number is no integer.
            ValueError: If an id is not allowed, or a number is negative.
            SessionException: If the file cannot be read.
        """
        most, first = MOST if limit is None else operator.index(limit), operator.index(offset)
        if most < 0 or first < 0:
            raise ValueError(f"limit=<{limit}>, offset=<{offset}> | must not be negative")
        return self._database.read(
            f"SELECT {_MESSAGE} FROM {found_in('messages')} WHERE found.session_id = ? AND found.agent_id = ?"
            " ORDER BY found.message_id LIMIT ? OFFSET ?",
            (
                validate_id(session_id, "session"),
                validate_id(agent_id, "agent"),
                min(most, MOST),
                min(first, MOST),
            ),
            partial(_message_from_row, session_id, agent_id),
        )

    # -- orchestrators --

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Store the state of an orchestrator, replacing what is stored of it.

        Args:
            session_id: The session's id.
            multi_agent: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such session, the state has no exact form in JSON, or it
                cannot be written.
        """
        now = timestamp()
        self._database.write(
            f"{INSERT_MULTI_AGENT} ON CONFLICT (session_id, multi_agent_id) DO UPDATE"
            " SET updated_at = excluded.updated_at, state = excluded.state, revision = revision + 1",
            (
                validate_id(session_id, "session"),
                validate_id(multi_agent.id, "agent"),
                now,
                now,
                encode_state(multi_agent.serialize_state(), "state"),
            ),
            lambda error: _violation(error, "", f"Session {session_id} does not exist"),
        )

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of an orchestrator, or None where there is none.

        Args:
            session_id: The session's id.
            multi_agent_id: The orchestrator's id.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If the file cannot be read.
        """

        def decoded(row: Row) -> dict[str, Any]:
            state: dict[str, Any] = decode_state(row[0], "the state of", multi_agent_id, "in session", session_id)
            return state

        states = self._database.read(
            f"SELECT stored.state FROM {found_in('multi_agents')}"
            " WHERE found.session_id = ? AND found.multi_agent_id = ?",
            (validate_id(session_id, "session"), validate_id(multi_agent_id, "agent")),
            decoded,
        )
        return states[0] if states else None

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Replace the stored state of an orchestrator.

        Args:
            session_id: The session's id.
            multi_agent: The Graph, Swarm or other orchestrator.
            **kwargs: For future extensibility of the interface.

        Raises:
            ValueError: If an id is not allowed.
            SessionException: If there is no such orchestrator, the state has no exact form in JSON, or
                it cannot be written.
        """
        changed = self._database.write(
            "UPDATE multi_agents SET updated_at = ?, state = ?, revision = revision + 1"
            " WHERE session_id = ? AND multi_agent_id = ?",
            (
                timestamp(),
                encode_state(multi_agent.serialize_state(), "state"),
                validate_id(session_id, "session"),
                validate_id(multi_agent.id, "agent"),
            ),
        )
        if not changed:
            raise SessionException(f"MultiAgent state {multi_agent.id} in session {session_id} does not exist")

    def list_multi_agents(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators; none where there is no session.

        Raises:
            ValueError: If the id is not allowed.
            SessionException: If the file cannot be read.
        """
        rows = self._database.read(
            "SELECT multi_agent_id FROM multi_agents WHERE session_id = ? ORDER BY multi_agent_id",
            (validate_id(session_id, "session"),),
        )
        return [multi_agent_id for (multi_agent_id,) in rows]


_AGENT = (
    "found.agent_id, stored.state, stored.conversation_manager_state, stored.internal_state, stored.created_at,"
    " stored.updated_at"
)
_MESSAGE = "found.message_id, stored.message, stored.redact_message, stored.created_at, stored.updated_at"


def _violation(error: Exception, exists: str, orphan: str = "") -> SessionException | None:
    """Say what a violated constraint means: the row exists, or what it belongs to does not; None is something else."""
    meaning = {"UNIQUE": exists, "FOREIGN KEY": orphan}.get(str(error).partition(" constraint")[0])
    return SessionException(meaning) if meaning else None


def _agent_columns(agent: SessionAgent) -> tuple[str, str, str]:
    return (
        encode(agent.state, "state"),
        encode(agent.conversation_manager_state, "conversation_manager_state"),
        encode(agent._internal_state, "_internal_state"),
    )


def session_row(session: Session) -> Row:
    """Return the values of `INSERT_SESSION`."""
    session_id = validate_id(session.session_id, "session")
    return session_id, SessionType(session.session_type).value, session.created_at, session.updated_at


def agent_row(session_id: str, agent: SessionAgent) -> Row:
    """Return the values of `INSERT_AGENT`."""
    keys = (validate_id(session_id, "session"), validate_id(agent.agent_id, "agent"))
    return *keys, agent.created_at, agent.updated_at, *_agent_columns(agent)


def message_row(session_id: str, agent_id: str, message: SessionMessage) -> Row:
    """Return the values of `INSERT_MESSAGE`."""
    keys = (validate_id(session_id, "session"), validate_id(agent_id, "agent"), validate_message_id(message.message_id))
    return *keys, message.created_at, message.updated_at, *_message_columns(message)


def _agent_from_row(session_id: str, row: Row) -> SessionAgent:
    """Build an agent from the columns `_AGENT`."""
    agent_id, state, conversation_manager_state, internal_state, created_at, updated_at = row
    where = ("the agent", agent_id, "of session", session_id)
    return SessionAgent(
        agent_id=agent_id,
        state=decode(state, *where),
        conversation_manager_state=decode(conversation_manager_state, *where),
        _internal_state=decode(internal_state, *where),
        created_at=created_at,
        updated_at=updated_at,
    )


def _message_columns(message: SessionMessage) -> tuple[str, str | None]:
    redacted = message.redact_message
    return (
        encode(message.message, "message"),
        None if redacted is None else encode(redacted, "redact_message"),
    )


def _message_from_row(session_id: str, agent_id: str, row: Row) -> SessionMessage:
    message_id, message, redact_message, created_at, updated_at = row
    where = ("message", message_id, "of agent", agent_id, "in session", session_id)
    if not isinstance(message_id, int):
        raise UnreadableError(f"a message of agent {agent_id} in session {session_id} has an id that is no integer")
    return SessionMessage(
        decode(message, *where),
        message_id,
        None if redact_message is None else decode(redact_message, *where),
        created_at,
        updated_at,
    )
