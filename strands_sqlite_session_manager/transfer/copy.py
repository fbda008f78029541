"""Copying a session from one store to another."""

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from strands.session.session_repository import SessionRepository

from .. import errors
from ..database.database import Database, Row
from ..database.identifiers import validate_id
from ..database.tables import AGENTS, MESSAGES, MULTI_AGENTS, SESSIONS, TABLES
from ..sessions.records import agent_row, message_row, multi_agent_row, session_row
from .content import Content, as_history, database_of, held, read_content
from .snapshots import SnapshotRepository

Progress = Callable[[int, int], None]


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

    Between two SQLite files, everything is copied. Other stores get what they can hold: the session, its agents with
    their state, the messages with their ids, redactions and times, and the states of orchestrators. Metadata stays
    behind. If an agent's context is the end of its history, with or without a summary in front, it resumes there with
    the same conversation. Snapshots get exactly what the agents hold, without the rest of the history; copied from
    snapshots, these messages become the history. What only a snapshot has, such as `app_data`, stays behind with a
    warning.

    Args:
        source: The store that has the session: any repository, or a session manager that is one.
        target: The store to copy it to. A SQLite file gets the whole session or nothing.
        session_id: The session's id.
        agent_ids: The ids of its agents. None asks the source, which must be a SQLite file, files, S3, snapshots, or a
            store with a `list_agents`. If you pass them, a SQLite source is treated like any other store.
        multi_agent_ids: The ids of its orchestrators. None asks the source, which must be a SQLite file, files, S3,
            snapshots, or a store with a `list_multi_agents`.
        new_session_id: The id of the copy; None keeps the id.
        progress: Called with the number of messages copied and the total number of messages.

    Raises:
        ValueError: If an id is not allowed, or the source cannot list the agents or orchestrators and they are not
            passed.
        SessionNotFoundException: If the session, or an agent or orchestrator that was passed, is not in the source.
        SessionExistsException: If the target has a session with this id.
        SessionException: If reading or writing fails; the error says what was written.
    """
    new_id = validate_id(session_id if new_session_id is None else new_session_id, "session")
    validate_id(session_id, "session")
    source_database, target_database = database_of(source), database_of(target)
    if source_database and target_database and agent_ids is None and multi_agent_ids is None:
        count = _copy_rows(source_database, target_database, session_id, new_id)
        if progress is not None:
            progress(count, count)
        return
    content = read_content(source, session_id, agent_ids, multi_agent_ids)
    content.session = replace(content.session, session_id=new_id)
    if _exists(target, new_id):
        raise errors.SessionExistsException(f"Session {new_id} already exists")
    if isinstance(source, SnapshotRepository) and not isinstance(target, SnapshotRepository):
        for what in source.left_behind(session_id):
            warnings.warn(f"Session {session_id}: {what} stayed behind, since the target cannot hold it", stacklevel=2)
    if isinstance(target, SnapshotRepository):
        target.write_session(new_id, held(source, session_id, content), content.multi_agents)
    elif target_database is None:
        _write_records(target, as_history(content), progress)
        return
    else:
        for error in write_contents(target_database, [content]).values():
            raise error
    if progress is not None:
        progress(content.message_count, content.message_count)


def _copy_rows(source: Database, target: Database, session_id: str, new_id: str) -> int:
    """Copy the rows of a session from one file to another, or within one; return the number of messages."""

    def read(connection: sqlite3.Connection) -> dict[str, list[Row]]:
        return {
            table.name: connection.execute(
                f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE session_id = ? ORDER BY rowid",
                (session_id,),
            ).fetchall()
            for table in TABLES
        }

    def write(connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (new_id,)).fetchone():
            raise errors.SessionExistsException(f"Session {new_id} already exists")
        for table in TABLES:
            connection.executemany(table.insert, [(new_id, *row[1:]) for row in found[table.name]])

    found = source.snapshot(read)
    if not found[SESSIONS.name]:
        raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
    target.transaction(write)
    return len(found[MESSAGES.name])


def write_contents(target: Database, contents: Iterable[Content]) -> dict[str, Exception]:
    """Store sessions in one transaction, each of them completely or not at all.

    Returns:
        The errors of those that could not be stored, by their ids.
    """

    def write(connection: sqlite3.Connection) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for content in contents:
            connection.execute("SAVEPOINT session")
            try:
                _write_content(connection, content)
            except (errors.SessionException, ValueError, TypeError) as error:
                connection.execute("ROLLBACK TO session")
                failures[content.session.session_id] = error
            connection.execute("RELEASE session")
        return failures

    return target.transaction(write)


def _write_content(connection: sqlite3.Connection, content: Content) -> None:
    session_id = content.session.session_id
    try:
        connection.execute(SESSIONS.insert, session_row(content.session))
    except connection.IntegrityError as error:
        errors.raise_violation(error, exists=f"Session {session_id} already exists")
    for agent, messages in content.agents:
        try:
            *columns, _ = agent_row(session_id, agent)
            connection.execute(AGENTS.insert, (*columns, content.contexts.get(agent.agent_id)))
            connection.executemany(
                MESSAGES.insert, (message_row(session_id, agent.agent_id, message) for message in messages)
            )
        except connection.IntegrityError as error:
            raise errors.SessionException(
                f"the source has agent {agent.agent_id} of session {session_id}, or one of its messages, twice"
            ) from error
    times = (content.session.created_at, content.session.updated_at)
    for multi_agent_id, state in content.multi_agents.items():
        connection.execute(MULTI_AGENTS.insert, multi_agent_row(session_id, multi_agent_id, state, *times))


def _exists(target: SessionRepository, session_id: str) -> bool:
    try:
        return target.read_session(session_id) is not None
    except errors.SessionException:
        raise
    except Exception as error:
        problem, cause = errors.first_line(error), errors.harmless(error)
    raise errors.SessionException(f"Session {session_id} was not copied: {problem}. Written so far: nothing") from cause


class _State:
    """The part of an orchestrator that a store needs."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]) -> None:
        self.id = multi_agent_id
        self._state = state

    def serialize_state(self) -> dict[str, Any]:
        """Return the state."""
        return self._state


def _write_records(target: SessionRepository, content: Content, progress: Progress | None) -> None:
    """Store a session record by record, in a store without transactions."""
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
        problem, cause = errors.first_line(error), errors.harmless(error)
    so_far = "; ".join(written) or "nothing"
    raise errors.SessionException(
        f"Session {session_id} was not copied: {problem}. Written so far: {so_far}"
    ) from cause
