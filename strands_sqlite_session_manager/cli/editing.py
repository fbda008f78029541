"""Commands that change sessions: delete, prune, tag."""

import argparse
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timezone

from ..database.database import Database
from ..database.identifiers import validate_id
from ..sessions import metadata
from ..sessions.delete import delete_session, delete_sessions
from ..sessions.listing import Filter, SessionSummary, list_sessions
from . import output
from .confirmation import confirm
from .selection import selected_sessions
from .summaries import counted, pairs, print_summaries, summaries_of


def delete(database: Database, arguments: argparse.Namespace) -> None:
    """Delete sessions."""
    selected = selected_sessions(arguments, "delete")
    if isinstance(selected, Filter):
        _delete_selected(database, selected, arguments, "no session has this metadata")
    elif _confirm_deletion(database, summaries_of(database, selected), arguments):
        delete_session(database, *selected)
        print(f"deleted {counted(len(selected), 'session')}")


def prune(database: Database, arguments: argparse.Namespace) -> None:
    """Delete sessions that have been inactive for some time."""
    before = datetime.now(timezone.utc) - arguments.older_than
    _delete_selected(database, Filter.of(dict(arguments.metadata), None, before), arguments, "no sessions are that old")


def _delete_selected(database: Database, selected: Filter, arguments: argparse.Namespace, if_none: str) -> None:
    summaries = list_sessions(database, selected)
    if not summaries:
        print(if_none)
    elif _confirm_deletion(database, summaries, arguments):
        report = output.progress("sessions")
        progress = None if report is None else lambda deleted: report(deleted, len(summaries))
        print(f"deleted {counted(delete_sessions(database, selected, progress), 'session')}")


def tag(database: Database, arguments: argparse.Namespace) -> None:
    """Change the metadata of a session."""
    session_id = validate_id(arguments.session, "session")
    changes = metadata.check_metadata({key: value or None for key, value in arguments.pairs}, removable=True)

    def change(connection: sqlite3.Connection) -> dict[str, str]:
        metadata.merge(connection, session_id, changes)
        return metadata.read_metadata(connection, session_id)

    print(output.safe(pairs(database.transaction(change))) or "no metadata")


def _confirm_deletion(database: Database, summaries: Sequence[SessionSummary], arguments: argparse.Namespace) -> bool:
    """Return whether to delete sessions."""
    messages = sum(summary.message_count for summary in summaries)
    what = f"{counted(len(summaries), 'session')} with {counted(messages, 'message')}"
    return confirm(what, lambda: print_summaries(database, summaries), arguments)
