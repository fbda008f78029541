"""Deleting sessions, one or many, with all that they hold and every trace of it."""

import sqlite3
import time
from collections.abc import Callable

from . import metadata as session_metadata
from .activity import ACTIVE_AT
from .catalog import Filter
from .database import Database
from .erasure import erase
from .errors import session_exception

_DELETING = 0.02  # seconds that one transaction of `delete_sessions` goes on for; other writers wait for it
_PAUSE = 0.01  # seconds between two of them, which others take to write


def delete_session(database: Database, *session_ids: str) -> None:
    """Delete sessions with all that they hold; see `SQLiteSessionRepository.delete_session`."""
    deleted = False
    try:
        for session_id in session_ids:
            if not database.write("DELETE FROM sessions WHERE session_id = ?", (session_id,)):
                raise session_exception(f"Session {session_id} does not exist")
            deleted = True
    finally:
        if deleted:
            erase(database, ids=True)  # which reads the whole file, so once for all of them


def delete_sessions(database: Database, wanted: Filter, progress: Callable[[int], None] | None = None) -> int:
    """Delete the sessions that are meant, a few at a time; see `SQLiteSessionRepository.delete_sessions`."""
    with database.transaction(write=False) as connection:
        going = [session_id for session_id, _ in wanted.select(connection)]
    deleted = 0
    try:
        while going:
            with database.transaction() as connection:
                count = _delete_some(connection, wanted, going)
            deleted += count
            if progress is not None:
                progress(deleted)
            time.sleep(_PAUSE)
    finally:
        if deleted:
            erase(database, ids=True)
    return deleted


def _delete_some(connection: sqlite3.Connection, wanted: Filter, going: list[str]) -> int:
    """Delete from the end of a list, for a moment, the sessions that still are meant; return how many were."""
    condition, parameters = session_metadata.condition(connection, wanted.metadata)
    delete = f"DELETE FROM sessions WHERE session_id = ? AND {condition} AND {ACTIVE_AT} > ? AND {ACTIVE_AT} < ?"
    end = time.monotonic() + _DELETING
    count = 0
    while going:
        count += connection.execute(delete, (going.pop(), *parameters, wanted.after, wanted.before)).rowcount
        if time.monotonic() > end:
            break
    return count
