"""Deleting sessions, one or many; the cost depends only on what is deleted."""

import sqlite3
import time
from collections.abc import Callable, Sequence

from .. import errors
from ..database.database import Database
from ..database.identifiers import validate_id
from .listing import Filter

_DELETING = 0.02  # seconds that a transaction of `delete_sessions` lasts; other writers wait for it
_PAUSE = 0.01  # seconds between two of them, in which others write


def delete_session(database: Database, *session_ids: str) -> None:
    """Delete sessions with all that they hold, in one transaction; see `SQLiteSessionRepository.delete_session`."""
    for session_id in session_ids:
        validate_id(session_id, "session")

    def delete(connection: sqlite3.Connection) -> None:
        for session_id in session_ids:
            if not connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,)).rowcount:
                raise errors.SessionNotFoundException(f"Session {session_id} does not exist")

    database.transaction(delete)
    database.empty_wal()


def delete_sessions(database: Database, selected: Filter, progress: Callable[[int], None] | None = None) -> int:
    """Delete the selected sessions, a few at a time; see `SQLiteSessionRepository.delete_sessions`."""
    if selected == Filter({}):
        raise ValueError("metadata, updated_before | at least one is needed, or every session would be deleted")
    remaining = [session_id for session_id, _ in database.snapshot(selected.select)]
    deleted = 0
    while remaining:
        looked_at, count = database.transaction(lambda connection: _delete_some(connection, selected, remaining))
        del remaining[-looked_at:]
        deleted += count
        if progress is not None:
            progress(deleted)
        time.sleep(_PAUSE)
    if deleted:
        database.empty_wal()
    return deleted


def _delete_some(connection: sqlite3.Connection, selected: Filter, session_ids: Sequence[str]) -> tuple[int, int]:
    """Delete sessions from the end of a list, for a short time, if they are still selected.

    Returns:
        How many sessions of the list were checked, and how many of them were deleted.
    """
    clauses, parameters = selected.condition("sessions")
    end = time.monotonic() + _DELETING
    looked_at = count = 0
    for session_id in reversed(session_ids):
        count += connection.execute(
            f"DELETE FROM sessions WHERE session_id = ? AND {clauses}", (session_id, *parameters)
        ).rowcount
        looked_at += 1
        if time.monotonic() > end:
            break
    return looked_at, count
