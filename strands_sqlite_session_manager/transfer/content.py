"""Everything that a store holds of a session, read through Strands' repository interface."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .. import errors
from ..context.ranges import read_context as parse_context
from ..context.ranges import write_context
from ..context.strands_private import as_resumed
from ..database.database import Database
from ..database.values import decode
from ..sessions.records import read_agent, read_context
from .snapshots import SnapshotRepository
from .stores import FileSessionRepository, S3SessionRepository


@dataclass
class Content:
    """Everything that a store holds of a session.

    Attributes:
        session: The session.
        agents: Its agents, each with its messages.
        multi_agents: The states of its orchestrators, by their ids.
        contexts: The agents' `context` columns, by agent id, where the conversation managers do not describe them.
    """

    session: Session
    agents: list[tuple[SessionAgent, list[SessionMessage]]]
    multi_agents: dict[str, dict[str, Any]]
    contexts: dict[str, str] = field(default_factory=dict)

    @property
    def message_count(self) -> int:
        """The number of messages of all its agents."""
        return sum(len(messages) for _, messages in self.agents)


def database_of(repository: Any) -> Database | None:
    """Return the SQLite file of one of our repositories or managers; None for any other."""
    database = getattr(repository, "_database", None)
    return database if isinstance(database, Database) else None


def read_content(
    source: SessionRepository,
    session_id: str,
    agent_ids: Sequence[str] | None = None,
    multi_agent_ids: Sequence[str] | None = None,
) -> Content:
    """Return everything that a store holds of a session; see `copy_session`."""
    database = database_of(source)
    if database is not None:

        def read(connection: sqlite3.Connection) -> Content:
            content = _read(source, session_id, agent_ids, multi_agent_ids)
            content.agents = [_for_other_stores(connection, session_id, *agent) for agent in content.agents]
            return content

        return database.snapshot(read)
    try:
        return _read(source, session_id, agent_ids, multi_agent_ids)
    except (errors.SessionException, _UnlistedError):
        raise
    except Exception as error:  # of any type: every store fails in its own way
        problem, cause = errors.first_line(error), errors.harmless(error)
    raise errors.SessionException(f"Session {session_id} cannot be read: {problem}") from cause


class _UnlistedError(ValueError):
    """The source cannot list what a session has."""


def _store_of(repository: SessionRepository) -> SessionRepository:
    """Return the store of a file or S3 manager, which can list what it holds; return any other repository as it is."""
    if isinstance(repository, FileSessionManager):
        return FileSessionRepository(repository.storage_dir)
    if isinstance(repository, S3SessionManager):
        return S3SessionRepository(repository.bucket, repository.prefix, client=repository.client)
    return repository


def _read(
    source: SessionRepository, session_id: str, agent_ids: Sequence[str] | None, multi_agent_ids: Sequence[str] | None
) -> Content:
    store = _store_of(source)
    if type(source) is FileSessionManager:  # a subclass may read its files differently
        source = store
    session = source.read_session(session_id)
    if session is None:
        raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
    agents = []
    for agent_id in _agent_ids(store, session_id) if agent_ids is None else agent_ids:
        agent = source.read_agent(session_id, agent_id)
        if agent is None:
            raise errors.SessionNotFoundException(f"Agent {agent_id} in session {session_id} does not exist")
        messages = source.list_messages(session_id, agent_id)
        agents.append((_with_text_times(agent), [_with_text_times(message) for message in messages]))
    multi_agents = {}
    for multi_agent_id in _multi_agent_ids(store, session_id) if multi_agent_ids is None else multi_agent_ids:
        state = source.read_multi_agent(session_id, multi_agent_id)
        if state is None:
            raise errors.SessionNotFoundException(
                f"MultiAgent state {multi_agent_id} in session {session_id} does not exist"
            )
        multi_agents[multi_agent_id] = state
    session = replace(session, session_id=session_id, session_type=SessionType(session.session_type))
    contexts = {}
    if isinstance(source, SnapshotRepository):
        contexts = {agent.agent_id: write_context(range(len(messages)), len(messages)) for agent, messages in agents}
    return Content(_with_text_times(session), agents, multi_agents, contexts)


def as_history(content: Content) -> Content:
    """Describe agents from snapshots so that they resume with the same messages under the rules of other stores."""
    agents = [
        _as_history(agent, messages) if agent.agent_id in content.contexts else (agent, messages)
        for agent, messages in content.agents
    ]
    return replace(content, agents=agents)


def _as_history(agent: SessionAgent, messages: list[SessionMessage]) -> tuple[SessionAgent, list[SessionMessage]]:
    state = agent.conversation_manager_state
    if "removed_message_count" in state:
        state = {**state, "removed_message_count": 0}
    if state.get("summary_message") is not None:
        if messages and messages[0].message == state["summary_message"]:  # such a store puts it in front itself
            messages = [replace(message, message_id=number) for number, message in enumerate(messages[1:])]
        else:
            state = {**state, "summary_message": None}
    return replace(agent, conversation_manager_state=state), messages


def held(source: SessionRepository, session_id: str, content: Content) -> list[tuple[SessionAgent, list[Message]]]:
    """Return the agents of a session, each with the messages that it would resume with."""
    database = database_of(source)
    if database is not None:
        # As the agent holds them, not as other stores want them.
        agents = [(read_agent(database, session_id, agent.agent_id) or agent) for agent, _ in content.agents]
        return [(agent, read_context(database, session_id, agent.agent_id)) for agent in agents]
    return [
        (
            agent,
            [message.to_message() for message in messages]
            if agent.agent_id in content.contexts
            else _by_upstreams_rule(agent, messages),
        )
        for agent, messages in content.agents
    ]


def _by_upstreams_rule(agent: SessionAgent, messages: list[SessionMessage]) -> list[Message]:
    state = agent.conversation_manager_state
    summary = state.get("summary_message")
    said = [message.to_message() for message in messages[int(state.get("removed_message_count") or 0) :]]
    return as_resumed([summary, *said] if isinstance(summary, dict) else said)  # type: ignore[list-item]


def _agent_ids(store: Any, session_id: str) -> list[str]:
    if hasattr(store, "list_agent_ids"):
        return list(store.list_agent_ids(session_id))
    if hasattr(store, "list_agents"):
        return [agent.agent_id for agent in store.list_agents(session_id)]
    raise _UnlistedError(f"agent_ids | {type(store).__name__} cannot list the agents of a session: pass their ids")


def _multi_agent_ids(store: Any, session_id: str) -> list[str]:
    if hasattr(store, "list_multi_agent_ids"):
        return list(store.list_multi_agent_ids(session_id))
    if hasattr(store, "list_multi_agents"):
        return list(store.list_multi_agents(session_id))
    raise _UnlistedError(
        f"multi_agent_ids | {type(store).__name__} cannot list the orchestrators of a session: pass their ids, or () if"
        " there are none"
    )


def _with_text_times(record: Any) -> Any:
    """Return a record whose times are text; some stores have naive datetimes, in UTC."""
    times = {}
    for name in ("created_at", "updated_at"):
        value = getattr(record, name)
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            times[name] = moment.astimezone(timezone.utc).isoformat()
        elif not isinstance(value, str):
            raise errors.SessionException(f"{type(record).__name__} has a {name} that is not a time")
    return replace(record, **times) if times else record


def _for_other_stores(
    connection: sqlite3.Connection, session_id: str, agent: SessionAgent, messages: list[SessionMessage]
) -> tuple[SessionAgent, list[SessionMessage]]:
    """Describe an agent so that it resumes with its context under the rules of other stores.

    There, an agent resumes with its conversation manager's summary, followed by the messages after the removed ones,
    each in its redacted form if it has one. An agent with any other context resumes as its conversation manager says.
    """
    keys = (session_id, agent.agent_id)
    (context,) = connection.execute("SELECT context FROM agents WHERE session_id = ? AND agent_id = ?", keys).fetchone()
    parts = [] if context is None else parse_context(context, "context", "of agent", keys[1], "in session", keys[0])
    state = agent.conversation_manager_state
    summary = state.get("summary_message")
    in_front, end = parts[:-1], parts[-1] if parts else None
    if not isinstance(end, list) or "removed_message_count" not in state or in_front not in ([], [summary]):
        return agent, messages
    first = end[0] or 0
    state = {**state, "removed_message_count": sum(message.message_id < first for message in messages)}
    if not in_front and summary is not None:
        state["summary_message"] = None
    edited = dict(
        connection.execute(
            "SELECT message_id, edited_message FROM messages"
            " WHERE session_id = ? AND agent_id = ? AND edited_message IS NOT NULL AND message_id >= ?",
            (*keys, first),
        ).fetchall()
    )
    held = [
        replace(message, redact_message=decode(edited[message.message_id], "edited_message", message.message_id))
        if message.message_id in edited
        else message
        for message in messages
    ]
    return replace(agent, conversation_manager_state=state), held
