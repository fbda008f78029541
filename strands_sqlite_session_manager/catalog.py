"""The sessions of a file, as a list: newest activity first, by metadata, by age."""

import operator
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone

from . import metadata as session_metadata
from .activity import RECENT_ACTIVITY
from .codec import decode
from .content import texts
from .database import MOST, Database, Row
from .errors import UnreadableError

_PREVIEW = 100  # characters
_AFTER_ALL = "\U0010ffff"  # the last text that there is


@dataclass(frozen=True)
class SessionSummary:
    """A session, as a list of conversations shows it.

    Attributes:
        session_id: Its id.
        session_type: Strands' type of it.
        created_at: When it was created, ISO 8601.
        updated_at: Its last activity: when the newest thing happened in it, whatever agent did it. Metadata are
            about a session, and changing them is no activity.
        metadata: What is known of it.
        agent_ids: Its agents, in the order of their creation.
        message_count: How many messages they have together.
        preview: The start of the first text that the user said, on one line; empty if there is none.
    """

    session_id: str
    session_type: str
    created_at: str
    updated_at: str
    metadata: dict[str, str]
    agent_ids: list[str]
    message_count: int
    preview: str


@dataclass(frozen=True)
class Filter:
    """Which sessions are meant: those with these metadata, whose last activity lies between these moments."""

    metadata: Mapping[str, str | None]
    after: str = ""
    before: str = _AFTER_ALL

    @classmethod
    def of(
        cls, metadata: Mapping[str, str] | None, updated_after: datetime | None, updated_before: datetime | None
    ) -> "Filter":
        """Check what a caller asks for.

        Raises:
            TypeError: If the metadata hold anything but strings, or a moment is no datetime.
            ValueError: If a moment has no time zone.
        """
        given = session_metadata.checked({} if metadata is None else metadata)
        return cls(
            given,
            "" if updated_after is None else _moment(updated_after, "updated_after"),
            _AFTER_ALL if updated_before is None else _moment(updated_before, "updated_before"),
        )

    def select(self, connection: sqlite3.Connection, limit: int = MOST, offset: int = 0) -> list[Row]:
        """Return the ids and last activities of the sessions that are meant, the newest first."""
        condition, parameters = session_metadata.condition(connection, self.metadata)
        return connection.execute(
            f"""
            WITH recent AS MATERIALIZED ({RECENT_ACTIVITY}),
            found AS (
                SELECT session_id, max(sessions.active_at, recent.active_at) AS active_at
                FROM recent CROSS JOIN sessions USING (session_id)
                WHERE {condition}
                UNION ALL
                SELECT * FROM (
                    SELECT session_id, active_at
                    FROM sessions
                    WHERE {condition} AND active_at > ? AND active_at < ?
                        AND session_id NOT IN (SELECT session_id FROM recent)
                    ORDER BY active_at DESC, session_id DESC
                    LIMIT ?
                )
            )
            SELECT session_id, active_at
            FROM found
            WHERE active_at > ? AND active_at < ?
            ORDER BY active_at DESC, session_id DESC
            LIMIT ? OFFSET ?
            """,
            (
                *(*parameters, *parameters, self.after, self.before, min(limit + offset, MOST)),
                *(self.after, self.before, limit, offset),
            ),
        ).fetchall()


def list_sessions(database: Database, wanted: Filter, *, limit: int | None, offset: int) -> list[SessionSummary]:
    """Return the sessions that are meant, newest activity first; see `SQLiteSessionRepository.list_sessions`."""
    most, first = MOST if limit is None else operator.index(limit), operator.index(offset)
    if most < 0 or first < 0:
        raise ValueError(f"limit=<{limit}>, offset=<{offset}> | must not be negative")
    most, first = min(most, MOST), min(first, MOST)
    with database.transaction(write=False) as connection:
        return [summarize(connection, *row) for row in wanted.select(connection, most, first)]


def summarize(connection: sqlite3.Connection, session_id: str, active_at: str) -> SessionSummary:
    """Return the summary of a session that exists."""
    row = connection.execute(
        "SELECT session_type, created_at, metadata,"
        " (SELECT count(*) FROM messages WHERE session_id = sessions.session_id)"
        " FROM sessions WHERE session_id = ?",
        (session_id,),
    ).fetchone()
    if row is None:
        raise UnreadableError(f"Session {session_id} is in an index and not in its table")
    session_type, created_at, metadata, message_count = row
    agents = connection.execute(
        "SELECT agent_id FROM agents WHERE session_id = ? ORDER BY created_at, agent_id", (session_id,)
    ).fetchall()
    agent_ids = [agent_id for (agent_id,) in agents]
    beginnings = [_first_user_text(connection, session_id, agent_id) for agent_id in agent_ids]
    return SessionSummary(
        session_id,
        session_type,
        created_at,
        active_at,
        session_metadata.of_row(metadata, session_id),
        agent_ids,
        message_count,
        min((beginning for beginning in beginnings if beginning), default=("", ""), key=lambda found: str(found[0]))[1],
    )


def _first_user_text(connection: sqlite3.Connection, session_id: str, agent_id: str) -> tuple[str, str] | None:
    rows = connection.execute(
        "SELECT message_id, created_at, coalesce(redact_message, message) FROM messages"
        " WHERE session_id = ? AND agent_id = ? ORDER BY message_id",
        (session_id, agent_id),
    )
    with closing(rows):
        for message_id, created_at, text in rows:
            message = decode(text, "message", message_id, "of agent", agent_id, "in session", session_id)
            if isinstance(message, dict) and message.get("role") == "user":
                preview = " ".join(texts(message).split(None, _PREVIEW)[:_PREVIEW])
                if preview:
                    return created_at, preview[:_PREVIEW]
    return None


def _moment(value: datetime, name: str) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{name}=<{type(value).__name__}> | must be a datetime")
    if value.utcoffset() is None:
        raise ValueError(f"{name}=<{value}> | must have a time zone")
    try:
        return value.astimezone(timezone.utc).isoformat()
    except OverflowError:  # the first or the last day that there is
        return "" if value.year == 1 else _AFTER_ALL
