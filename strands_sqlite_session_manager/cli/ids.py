"""Finds the session that a reading command names by the beginning of its id, or with `--last`."""

import argparse

from ..database.database import Database
from ..database.identifiers import validate_id
from ..sessions.listing import Filter
from .errors import CommandError, UsageError

_NAMED = 5  # sessions that an error names


def full_id(database: Database, given: str) -> str:
    """Return the id that a text is, or that begins with it; the text itself if there is no such session.

    Raises:
        ValueError: If it is not a valid id.
        CommandError: If several ids begin with it.
    """
    validate_id(given, "session")
    beginning = given.removesuffix("…")  # as a list shows it
    if database.read("SELECT 1 FROM sessions WHERE session_id = ?", (given,)) or not beginning:
        return given
    found = ids_that_begin(database, beginning, _NAMED + 1)
    if len(found) > 1:
        more = ", …" if len(found) > _NAMED else ""
        raise CommandError(f"{given} | several ids begin like this: {', '.join(found[:_NAMED])}{more}")
    return found[0] if found else given


def ids_that_begin(database: Database, beginning: str, limit: int) -> list[str]:
    """Return the first ids of sessions that begin with a text."""
    rows = database.read(
        "SELECT session_id FROM sessions WHERE session_id >= ? AND substr(session_id, 1, ?) = ?"
        " ORDER BY session_id LIMIT ?",
        (beginning, len(beginning), beginning, limit),
    )
    return [session_id for (session_id,) in rows]


def session_of(database: Database, arguments: argparse.Namespace) -> str:
    """Return the id of the session that a command line names by its beginning, or with `--last`.

    Raises:
        ValueError: If it is not a valid id.
        UsageError: If neither is given, or both are.
        CommandError: If the file has no sessions, or several ids begin like this.
    """
    if arguments.last == (arguments.session is not None):
        raise UsageError("name a session, or use --last for the one with the newest activity")
    if not arguments.last:
        return full_id(database, arguments.session)
    newest = database.snapshot(lambda connection: Filter({}).select(connection, 1))
    if not newest:
        raise CommandError(f"{database.path} | there are no sessions")
    return str(newest[0][0])
