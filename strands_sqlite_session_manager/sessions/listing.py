"""The sessions of a file as a list: newest activity first, by metadata, by time."""

import operator
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .. import errors
from ..database.database import MAX_INTEGER, Database, Row
from ..database.identifiers import validate_id
from ..database.values import decode
from .metadata import check_metadata, condition, read_metadata
from .orchestrators import orchestrators_of
from .text import texts

_PREVIEW = 100  # characters
END_OF_TIME = "\U0010ffff"  # sorts after every other text
_FEW = 2000  # sessions that are checked one by one rather than sorted


@dataclass(frozen=True)
class SessionSummary:
    """One entry in a list of sessions.

    Attributes:
        session_id: The session's id.
        session_type: Strands' type of session, such as `AGENT`.
        created_at: When it was created, ISO 8601.
        updated_at: Its last activity, ISO 8601: when one of its agents or orchestrators last did something. Changing
            metadata is not activity.
        metadata: Its metadata.
        agent_ids: The ids of its agents, in order of creation.
        multi_agent_ids: The ids of its orchestrators, in order of creation.
        message_count: The number of messages of all its agents.
        preview: The start of the first text that a user wrote, or else of an orchestrator's task, on one line. Empty if
            there is neither.
        forked_from: The id of the session that this one was forked from, even if it has since been deleted; None if it
            is not a fork.
        forked_through: The id of the last message that the fork was asked to copy; None if it copied all.
    """

    session_id: str
    session_type: str
    created_at: str
    updated_at: str
    metadata: dict[str, str]
    agent_ids: list[str]
    multi_agent_ids: list[str]
    message_count: int
    preview: str
    forked_from: str | None = None
    forked_through: int | None = None


@dataclass(frozen=True)
class Filter:
    """Selects sessions with some metadata, and last activity between two times, both exclusive."""

    metadata: Mapping[str, str | None]
    after: str = ""
    before: str = END_OF_TIME

    @classmethod
    def of(
        cls,
        metadata: Mapping[str, str] | None = None,
        updated_after: datetime | str | None = None,
        updated_before: datetime | str | None = None,
    ) -> "Filter":
        """Check a caller's arguments and return the filter.

        Raises:
            TypeError: If the metadata holds anything but strings, or a time is neither a datetime nor text.
            ValueError: If a time has no time zone, or is not ISO 8601.
        """
        return cls(
            check_metadata(metadata),
            "" if updated_after is None else moment(updated_after, "updated_after"),
            END_OF_TIME if updated_before is None else moment(updated_before, "updated_before"),
        )

    def select(self, connection: sqlite3.Connection, limit: int = MAX_INTEGER, offset: int = 0) -> list[Row]:
        """Return the ids and last activities of the selected sessions, newest first."""
        clauses, parameters = self.condition("sessions")
        in_order = "ORDER BY active_at DESC, session_id DESC LIMIT ? OFFSET ?"
        select = f"SELECT session_id, active_at FROM sessions WHERE {clauses}"
        if not self.metadata:
            return connection.execute(f"{select} {in_order}", (*parameters, limit, offset)).fetchall()
        key, count = self._rarest(connection)
        # Two ways to find the newest sessions with a value. If it is frequent, walk along the newest `_FEW` sessions.
        # Otherwise fetch all sessions that have it, and sort them.
        if count == _FEW and limit + offset < _FEW:
            is_new = (
                "active_at >= coalesce((SELECT active_at FROM sessions ORDER BY active_at DESC LIMIT 1 OFFSET ?), '')"
            )
            newest = connection.execute(
                f"{select} AND {is_new} {in_order}", (*parameters, _FEW - 1, limit, offset)
            ).fetchall()
            if len(newest) == limit:
                return newest
        return connection.execute(
            "SELECT session_id, active_at FROM session_metadata CROSS JOIN sessions USING (session_id)"
            f" WHERE key = ? AND value = ? AND {clauses} {in_order}",
            (key, self.metadata[key], *parameters, limit, offset),
        ).fetchall()

    def count(self, connection: sqlite3.Connection) -> int:
        """Return how many sessions are selected."""
        clauses, parameters = self.condition("sessions")
        return int(connection.execute(f"SELECT count(*) FROM sessions WHERE {clauses}", parameters).fetchone()[0])

    def condition(self, table: str) -> tuple[str, list[str | None]]:
        """Return the SQL condition that a selected row of `sessions` meets, and its parameters."""
        clauses, parameters = condition(self.metadata, table)
        return f"active_at > ? AND active_at < ?{clauses}", [self.after, self.before, *parameters]

    def _rarest(self, connection: sqlite3.Connection) -> tuple[str, int]:
        """Return the key whose value the fewest sessions have, and how many do, counted up to `_FEW`."""
        counts = {
            key: connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM session_metadata WHERE key = ? AND value = ? LIMIT ?)",
                (key, value, _FEW),
            ).fetchone()[0]
            for key, value in self.metadata.items()
        }
        return min(counts.items(), key=lambda item: item[1])


def check_range(limit: int | None, offset: int = 0) -> tuple[int, int]:
    """Return a limit and an offset as SQLite takes them; a limit of None means all.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If one is negative.
    """
    checked = (MAX_INTEGER if limit is None else operator.index(limit), operator.index(offset))
    if min(checked) < 0:
        raise ValueError(f"limit=<{limit}>, offset=<{offset}> | must be 0 or more")
    return min(checked[0], MAX_INTEGER), min(checked[1], MAX_INTEGER)


def list_sessions(
    database: Database, selected: Filter, *, limit: int | None = None, offset: int = 0
) -> list[SessionSummary]:
    """Return the selected sessions, newest activity first; see `SQLiteSessionRepository.list_sessions`."""
    limit, offset = check_range(limit, offset)
    return database.snapshot(
        lambda connection: [
            summarize(connection, session_id) for session_id, _ in selected.select(connection, limit, offset)
        ]
    )


def read_session_summary(database: Database, session_id: str) -> SessionSummary | None:
    """Return the summary of a session, or None if there is none."""
    validate_id(session_id, "session")

    def read(connection: sqlite3.Connection) -> SessionSummary | None:
        exists = connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
        return summarize(connection, session_id) if exists else None

    return database.snapshot(read)


def summarize(connection: sqlite3.Connection, session_id: str) -> SessionSummary:
    """Return the summary of a session.

    Raises:
        SessionNotFoundException: If there is no such session.
    """
    row = connection.execute(
        "SELECT session_type, created_at, active_at, forked_from, forked_through,"
        " (SELECT count(*) FROM messages WHERE session_id = sessions.session_id)"
        " FROM sessions WHERE session_id = ?",
        (session_id,),
    ).fetchone()
    if row is None:
        raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
    session_type, created_at, active_at, forked_from, forked_through, message_count = row
    agent_ids = ids_of(connection, "agents", session_id)
    multi_agent_ids = ids_of(connection, "multi_agents", session_id)
    beginnings = [_first_user_text(connection, session_id, agent_id) for agent_id in agent_ids]
    if multi_agent_ids and not any(beginnings):
        beginnings = [(found.updated_at, preview_of(found.task)) for found in orchestrators_of(connection, session_id)]
    _, preview = min(
        (found for found in beginnings if found and found[1]), default=("", ""), key=lambda found: str(found[0])
    )
    return SessionSummary(
        session_id,
        session_type,
        created_at,
        active_at,
        read_metadata(connection, session_id),
        agent_ids,
        multi_agent_ids,
        message_count,
        preview,
        forked_from,
        forked_through,
    )


def ids_of(connection: sqlite3.Connection, table: str, session_id: str) -> list[str]:
    """Return the ids of a session's `agents` or `multi_agents`, in order of creation."""
    key = f"{table[:-1]}_id"
    rows = connection.execute(
        f"SELECT {key} FROM {table} WHERE session_id = ? ORDER BY created_at, {key}", (session_id,)
    ).fetchall()
    return [found for (found,) in rows]


def _first_user_text(connection: sqlite3.Connection, session_id: str, agent_id: str) -> tuple[str, str] | None:
    for message_id, created_at, text in connection.execute(
        "SELECT message_id, created_at, coalesce(redact_message, message) FROM messages"
        " WHERE session_id = ? AND agent_id = ? ORDER BY message_id",
        (session_id, agent_id),
    ):
        message = decode(text, "message", message_id, "of agent", agent_id, "in session", session_id)
        if isinstance(message, dict) and message.get("role") == "user":
            preview = preview_of(message)
            if preview:
                return created_at, preview
    return None


def preview_of(message: Any) -> str:
    """Return the start of a message's text, on one line."""
    return " ".join(texts(message).split(None, _PREVIEW)[:_PREVIEW])[:_PREVIEW]


def moment(value: datetime | str, name: str) -> str:
    """Return a time in the form in which the file holds it."""
    found = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError as error:
            raise ValueError(f"{name}=<{value}> | must be ISO 8601, such as 2026-05-01T00:00:00+00:00") from error
    if not isinstance(found, datetime):
        raise TypeError(f"{name}=<{type(value).__name__}> | must be a datetime or ISO 8601 text")
    if found.utcoffset() is None:
        raise ValueError(f"{name}=<{value}> | must have a time zone")
    try:
        return found.astimezone(timezone.utc).isoformat()
    except OverflowError:  # the first or the last day of the calendar
        return "" if found.year == 1 else END_OF_TIME
