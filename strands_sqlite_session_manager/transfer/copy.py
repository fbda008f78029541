"""Copying a session from one store to another."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from . import transfer
from .codec import decode, encode_state
from .errors import first_line, harmless
from .identifiers import validate_id
from .records import (
    INSERT_AGENT,
    INSERT_MESSAGE,
    INSERT_MULTI_AGENT,
    INSERT_SESSION,
    agent_row,
    message_row,
    session_row,
)
from .repository import SQLiteSessionRepository
from .stores import FileSessionRepository, S3SessionRepository
from .window import read_window

Progress = Callable[[int, int], None]


@dataclass
class Content:
    """All that a store holds of a session."""

    session: Session
    agents: list[tuple[SessionAgent, list[SessionMessage]]]
    multi_agents: dict[str, dict[str, Any]]

    @property
    def message_count(self) -> int:
        """How many messages its agents have together."""
        return sum(len(messages) for _, messages in self.agents)


def copy_session(
    source: SessionRepository,
    target: SessionRepository,
    session_id: str,
    *,
    agent_ids: Sequence[str] | None = None,
    multi_agent_ids: Sequence[str] | None = None,
    new_session_id: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Copy a session from one Strands store to another.

    Between two SQLite files everything is copied. Other stores get what they can hold: the session, its agents with
    their state, the messages with their ids, redactions and times, and the states of orchestrators. An agent resumes
    there to the conversation that it has here, as far as it is the end of its history, behind a summary or not.

    Args:
        source: Where the session is.
        target: Where it is to be as well. A SQLite target gets all of it or nothing.
        session_id: The session's id.
        agent_ids: Its agents; None where the source can tell: ours, files, S3, and what has a `list_agents`. Where they
            are given, a SQLite source is described as to any other store.
        multi_agent_ids: Its orchestrators; None where the source can tell: ours, files and S3.
        new_session_id: The id of the copy; None is the same.
        progress: Is called with how many messages were copied, and how many there are.

    Raises:
        ValueError: If an id is not allowed, or the source cannot tell the agents or orchestrators and they are not
            given.
        SessionException: If the session does not exist in the source, or exists in the target; or if reading or
            writing fails, and then it says what was written.
    """
    new_id = validate_id(session_id if new_session_id is None else new_session_id, "session")
    validate_id(session_id, "session")
    everything = agent_ids is None and multi_agent_ids is None
    if isinstance(source, SQLiteSessionRepository) and isinstance(target, SQLiteSessionRepository) and everything:
        count = transfer.copy_rows(source._database, target._database, session_id, new_id)
        if progress is not None:
            progress(count, count)
        return
    content = read_content(source, session_id, agent_ids, multi_agent_ids)
    content.session = replace(content.session, session_id=new_id)
    if _exists(target, new_id):
        raise SessionException(f"Session {new_id} already exists")
    if isinstance(target, SQLiteSessionRepository):
        for error in write_contents(target, [content]).values():
            raise error
        if progress is not None:
            progress(content.message_count, content.message_count)
    else:
        _write_records(target, content, progress)


def read_content(
    source: SessionRepository,
    session_id: str,
    agent_ids: Sequence[str] | None = None,
    multi_agent_ids: Sequence[str] | None = None,
) -> Content:
    """Return all that a store holds of a session; see `copy_session`."""
    if isinstance(source, SQLiteSessionRepository):
        with source._database.transaction(write=False) as connection:
            content = _read(source, session_id, agent_ids, multi_agent_ids)
            content.agents = [
                _as_elsewhere(connection, session_id, agent, messages) for agent, messages in content.agents
            ]
            return content
    try:
        return _read(source, session_id, agent_ids, multi_agent_ids)
    except (SessionException, _UnknownIdsError):
        raise
    except Exception as error:  # of any kind: what a store does with files that are not its own is its affair
        problem, cause = first_line(error), harmless(error)
    raise SessionException(f"Session {session_id} cannot be read: {problem}") from cause


class _UnknownIdsError(ValueError):
    """The source cannot tell what a session has."""


def write_contents(target: SQLiteSessionRepository, contents: Iterable[Content]) -> dict[str, Exception]:
    """Store sessions in one transaction, each of them wholly or not at all.

    Returns:
        What kept sessions from being stored, by their ids.
    """
    failures: dict[str, Exception] = {}
    with target._database.transaction() as connection:
        for content in contents:
            connection.execute("SAVEPOINT session")
            try:
                _write_content(connection, content)
            except (SessionException, ValueError, TypeError) as error:
                connection.execute("ROLLBACK TO session")
                failures[content.session.session_id] = error
            connection.execute("RELEASE session")
    return failures


def _write_content(connection: sqlite3.Connection, content: Content) -> None:
    """Store a session as a part of a transaction."""
    session_id = content.session.session_id
    try:
        connection.execute(INSERT_SESSION, session_row(content.session))
    except connection.IntegrityError as error:
        raise SessionException(f"Session {session_id} already exists") from error
    for agent, messages in content.agents:
        try:
            connection.execute(INSERT_AGENT, agent_row(session_id, agent))
            connection.executemany(
                INSERT_MESSAGE, (message_row(session_id, agent.agent_id, message) for message in messages)
            )
        except connection.IntegrityError as error:
            raise SessionException(
                f"Agent {agent.agent_id} in session {session_id}, or a message of it, is there twice"
            ) from error
    for multi_agent_id, state in content.multi_agents.items():
        times = (content.session.created_at, content.session.updated_at)
        connection.execute(
            INSERT_MULTI_AGENT, (session_id, validate_id(multi_agent_id, "agent"), *times, encode_state(state, "state"))
        )


def _whole(repository: SessionRepository) -> SessionRepository:
    """Return a manager of files or S3 as its whole store, which knows what is in it."""
    if isinstance(repository, FileSessionManager) and not isinstance(repository, FileSessionRepository):
        return FileSessionRepository(repository.storage_dir)
    if isinstance(repository, S3SessionManager) and not isinstance(repository, S3SessionRepository):
        return S3SessionRepository(repository.bucket, repository.prefix, client=repository.client)
    return repository


def _read(
    source: SessionRepository,
    session_id: str,
    agent_ids: Sequence[str] | None,
    multi_agent_ids: Sequence[str] | None,
) -> Content:
    store = _whole(source)
    if type(source) is FileSessionManager:  # a subclass may read its files in another way
        source = store
    session = source.read_session(session_id)
    if session is None:
        raise SessionException(f"Session {session_id} does not exist")
    agents = []
    for agent_id in _agent_ids(store, session_id) if agent_ids is None else agent_ids:
        agent = source.read_agent(session_id, agent_id)
        if agent is None:
            raise SessionException(f"Agent {agent_id} in session {session_id} does not exist")
        messages = source.list_messages(session_id, agent_id)
        agents.append((_timed(agent), [_timed(message) for message in messages]))
    multi_agents = {}
    for multi_agent_id in _multi_agent_ids(store, session_id) if multi_agent_ids is None else multi_agent_ids:
        state = source.read_multi_agent(session_id, multi_agent_id)
        if state is None:
            raise SessionException(f"MultiAgent state {multi_agent_id} in session {session_id} does not exist")
        multi_agents[multi_agent_id] = state
    session_type = SessionType(session.session_type)
    return Content(_timed(replace(session, session_id=session_id, session_type=session_type)), agents, multi_agents)


def _agent_ids(source: Any, session_id: str) -> list[str]:
    if hasattr(source, "list_agent_ids"):
        return list(source.list_agent_ids(session_id))
    if hasattr(source, "list_agents"):
        return [agent.agent_id for agent in source.list_agents(session_id)]
    raise _UnknownIdsError(
        f"agent_ids | {type(source).__name__} cannot tell which agents a session has: give their ids"
    )


def _multi_agent_ids(source: Any, session_id: str) -> list[str]:
    if hasattr(source, "list_multi_agent_ids"):
        return list(source.list_multi_agent_ids(session_id))
    if hasattr(source, "list_multi_agents"):
        return list(source.list_multi_agents(session_id))
    raise _UnknownIdsError(
        f"multi_agent_ids | {type(source).__name__} cannot tell which orchestrators a session has:"
        " give their ids, or () if there are none"
    )


def _timed(record: Any) -> Any:
    """Return a record whose times are text; some stores have them as naive datetimes in UTC."""
    times = {}
    for name in ("created_at", "updated_at"):
        value = getattr(record, name)
        if isinstance(value, datetime):
            moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            times[name] = moment.astimezone(timezone.utc).isoformat()
        elif not isinstance(value, str):
            raise SessionException(f"{type(record).__name__} has a {name} that is no time")
    return replace(record, **times) if times else record


def _as_elsewhere(
    connection: sqlite3.Connection, session_id: str, agent: SessionAgent, messages: list[SessionMessage]
) -> tuple[SessionAgent, list[SessionMessage]]:
    """Describe an agent so that it resumes by the rules of other stores to what it holds here.

    There, an agent resumes to its conversation manager's summary and the messages behind those it counts as removed,
    each as it was redacted. What holds other messages than that resumes as the conversation manager says.
    """
    keys = (session_id, agent.agent_id)
    (window,) = connection.execute(
        "SELECT live_messages FROM agents WHERE session_id = ? AND agent_id = ?", keys
    ).fetchone()
    parts = [] if window is None else read_window(window, "live_messages", "of agent", keys[1], "in session", keys[0])
    state = agent.conversation_manager_state
    summary = state.get("summary_message")
    in_front, last = parts[:-1], parts[-1] if parts else None
    if not isinstance(last, list) or "removed_message_count" not in state or in_front not in ([], [summary]):
        return agent, messages
    first = last[0] or 0
    state = {**state, "removed_message_count": sum(message.message_id < first for message in messages)}
    if not in_front and summary is not None:
        state["summary_message"] = None
    edited = dict(
        connection.execute(
            "SELECT message_id, live_message FROM messages"
            " WHERE session_id = ? AND agent_id = ? AND live_message IS NOT NULL AND message_id >= ?",
            (*keys, first),
        ).fetchall()
    )
    held = [
        replace(message, redact_message=decode(edited[message.message_id], "live_message", message.message_id))
        if message.message_id in edited
        else message
        for message in messages
    ]
    return replace(agent, conversation_manager_state=state), held


def _exists(target: SessionRepository, session_id: str) -> bool:
    try:
        return target.read_session(session_id) is not None
    except SessionException:
        raise
    except Exception as error:
        problem, cause = first_line(error), harmless(error)
    raise SessionException(f"Session {session_id} was not copied: {problem}. Written so far: nothing") from cause


class _State:
    """An orchestrator's state, as far as a store asks for it."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]) -> None:
        self.id = multi_agent_id
        self._state = state

    def serialize_state(self) -> dict[str, Any]:
        """Return the state."""
        return self._state


def _write_records(target: SessionRepository, content: Content, progress: Progress | None) -> None:
    """Store a session piece by piece, for stores that have no transactions."""
    session_id = content.session.session_id
    written: list[str] = []
    done, total = 0, content.message_count
    try:
        target.create_session(content.session)
        written.append("the session itself")
        for agent, messages in content.agents:
            target.create_agent(session_id, agent)
            written.append(f"agent {agent.agent_id} with none of its {len(messages)} messages")
            for count, message in enumerate(messages, 1):
                target.create_message(session_id, agent.agent_id, message)
                written[-1] = f"agent {agent.agent_id} with {count} of its {len(messages)} messages"
                done += 1
                if progress is not None:
                    progress(done, total)
        for multi_agent_id, state in content.multi_agents.items():
            target.create_multi_agent(session_id, _State(multi_agent_id, state))  # type: ignore[arg-type]
            written.append(f"orchestrator {multi_agent_id}")
        return
    except Exception as error:
        problem, cause = first_line(error), harmless(error)
    so_far = "; ".join(written) or "nothing"
    raise SessionException(f"Session {session_id} was not copied: {problem}. Written so far: {so_far}") from cause
