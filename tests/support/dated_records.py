"""Stores sessions of the past: records of the minute that a test names."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

from .records import query

_DAY = datetime(2024, 5, 6, tzinfo=timezone.utc)


def moment(minute: float) -> datetime:
    """Return a time on a day long ago."""
    return _DAY + timedelta(minutes=minute)


def at(minute: float) -> str:
    """Return that time as Strands writes it."""
    return moment(minute).isoformat()


def said(text: str, role: str = "user") -> Message:
    """Return a message of one text."""
    return {"role": role, "content": [{"text": text}]}  # type: ignore[typeddict-item]


def add_session(
    repository: SQLiteSessionRepository, session_id: str, minute: float = 0, agent_ids: Sequence[str] = ("ada",)
) -> None:
    """Store a session and its agents, in which nothing has happened since."""
    repository.create_session(Session(session_id, SessionType.AGENT, at(minute), at(minute)))
    for agent_id in agent_ids:
        repository.create_agent(
            session_id, SessionAgent(agent_id, {}, {}, created_at=at(minute), updated_at=at(minute))
        )


def add_message(
    repository: SQLiteSessionRepository,
    session_id: str,
    minute: float,
    message: Any = "hello",
    *,
    agent_id: str = "ada",
    message_id: int = 0,
    redacted: Message | None = None,
) -> None:
    """Store what was said at a minute; a text is the user's."""
    content = said(message) if isinstance(message, str) else message
    repository.create_message(
        session_id, agent_id, SessionMessage(content, message_id, redacted, at(minute), at(minute))
    )


def listed(repository: SQLiteSessionRepository, **filters: Any) -> list[str]:
    """Return the ids of the sessions that a listing shows, in its order."""
    return [summary.session_id for summary in repository.list_sessions(**filters)]


TABLES = ("sessions", "session_metadata", "agents", "messages", "multi_agents")


def stored_rows(path: Path, session_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of a session, in the order of storing."""
    return {
        table: query(path, f"SELECT * FROM {table} WHERE session_id = ? ORDER BY rowid", session_id) for table in TABLES
    }
