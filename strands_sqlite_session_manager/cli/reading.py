"""Commands that look into sessions: list, show, search. They leave the file untouched, and do not need Strands."""

import argparse
from dataclasses import asdict

from ..database.database import Database
from ..sessions.listing import Filter, list_sessions
from ..sessions.search import search_messages
from . import output, teams
from .checkpoints import show_context
from .conversation import FORMATS, read_conversation
from .errors import UsageError
from .summaries import print_summaries, summaries_of


def list_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the sessions."""
    summaries = list_sessions(database, Filter.of(dict(arguments.metadata)), limit=arguments.limit)
    if arguments.json:
        for summary in summaries:
            output.print_json(asdict(summary))
    else:
        print_summaries(database, summaries)


def show(database: Database, arguments: argparse.Namespace) -> None:
    """Print a session as a conversation, or what an agent of it holds."""
    if arguments.context:
        show_context(database, arguments)
        return
    if arguments.through is not None:
        raise UsageError("--through goes with --context")
    format_ = "json" if arguments.json else arguments.format
    print_message = FORMATS[format_]
    (summary,) = summaries_of(database, [arguments.session])
    with_agent = len(summary.agent_ids) > 1
    for said in read_conversation(database, arguments.session, arguments.agent, arguments.limit):
        print_message(arguments.session, said, with_agent)
    if arguments.agent is None:
        for orchestrator in teams.read_orchestrators(database, arguments.session):
            teams.FORMATS[format_](arguments.session, orchestrator)


def search(database: Database, arguments: argparse.Namespace) -> None:
    """Print the messages that contain a text."""
    matches = search_messages(
        database,
        arguments.text,
        session_id=arguments.session,
        agent_id=arguments.agent,
        metadata=dict(arguments.metadata),
        limit=arguments.limit,
    )
    if arguments.json:
        for match in matches:
            output.print_json(asdict(match))
        return
    rows = [
        (
            match.session_id,
            match.agent_id,
            "-" if match.message_id is None else str(match.message_id),
            match.role,
            output.local_time(match.created_at),
            match.snippet,
        )
        for match in matches
    ]
    output.print_table(("session", "agent", "message", "role", "time", "text"), rows)
