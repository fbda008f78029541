"""Sessions as a table, and in a few words."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from ..database.database import Database
from ..database.identifiers import validate_id
from ..sessions.listing import SessionSummary, summarize
from ..sessions.orchestrators import kind_of
from . import output


def summaries_of(database: Database, session_ids: Iterable[str]) -> list[SessionSummary]:
    """Return the summaries of sessions that must exist.

    Raises:
        ValueError: If an id is not allowed.
        SessionNotFoundException: If a session does not exist.
    """
    checked = [validate_id(session_id, "session") for session_id in session_ids]
    return database.snapshot(lambda connection: [summarize(connection, session_id) for session_id in checked])


def print_summaries(database: Database, summaries: Sequence[SessionSummary]) -> None:
    """Print a table with a row for each session."""
    kinds = _kinds(database, [summary.session_id for summary in summaries if summary.multi_agent_ids])
    rows = [
        (
            summary.session_id,
            output.local_time(summary.updated_at),
            str(summary.message_count),
            pairs(summary.metadata),
            f"{kinds[summary.session_id]}: {summary.preview}" if summary.session_id in kinds else summary.preview,
        )
        for summary in summaries
    ]
    output.print_table(("session", "last activity", "messages", "metadata", "preview"), rows)


def _kinds(database: Database, session_ids: Sequence[str]) -> dict[str, str]:
    """Return which of these sessions are a Graph's, a Swarm's or the like."""

    def read(connection: sqlite3.Connection) -> dict[str, str]:
        return {session_id: kind_of(connection, session_id) for session_id in session_ids}

    return database.snapshot(read)


def pairs(metadata: Mapping[str, str]) -> str:
    """Return metadata as they are typed: `user_id=42 app=web`."""
    return " ".join(f"{key}={value}" for key, value in metadata.items())


def counted(count: int, noun: str) -> str:
    """Return a number of things: `1 session`, `2,000 messages`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
