"""Commands that read sessions: list, show, search. They do not change the file; only `show --context` needs Strands."""

import argparse
import sys
import time
from dataclasses import asdict
from typing import NoReturn

from ..database.database import Database
from ..sessions.listing import Filter, SessionSummary, list_sessions
from ..sessions.orchestrators import orchestrators_of
from ..sessions.search import MessageMatch, search_messages
from . import output, teams, times
from .checkpoints import show_context
from .conversation import FORMATS, count_messages, last_sequence, print_folded, read_added, read_conversation
from .errors import UsageError
from .ids import full_id, session_of
from .layout import cut, space, width, wrap
from .paging import limit_of, print_rest
from .selection import between
from .summaries import print_summaries, short_id, summaries_of, titles_of

_SHORTEST_TITLE = 20  # columns
_PAUSE = 0.3  # seconds between two checks for new messages


def list_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the sessions."""
    selected = Filter.of(dict(arguments.metadata), arguments.since, arguments.before)
    limit = limit_of(arguments)
    summaries = list_sessions(database, selected, limit=limit)
    if arguments.json:
        for summary in summaries:
            output.print_json(asdict(summary))
        return
    print_summaries(database, summaries, long=arguments.long)
    if space() is not None and len(summaries) == limit:
        more = database.snapshot(selected.count) - len(summaries)
        if more:
            print_rest(f"{more:,} more")


def show(database: Database, arguments: argparse.Namespace) -> None:
    """Print a session as a conversation, or the context of one of its agents."""
    arguments.session = session_of(database, arguments)
    if arguments.context:
        show_context(database, arguments)
        return
    if arguments.through is not None:
        raise UsageError("--through goes with --context")
    format_ = "json" if arguments.json else arguments.format
    (summary,) = summaries_of(database, [arguments.session])
    with_agent = len(summary.agent_ids) > 1
    limit = limit_of(arguments)
    moments = between(arguments)
    # Before the conversation is read, so that no message added meanwhile is missed.
    last = last_sequence(database) if arguments.follow else 0
    conversation = list(read_conversation(database, arguments.session, arguments.agent, limit, *moments))
    if space() is not None and format_ == "text" and len(conversation) == limit:
        earlier = count_messages(database, arguments.session, arguments.agent, *moments) - len(conversation)
        if earlier > 0:
            print_rest(f"{earlier:,} earlier messages")
            print()
    if format_ == "text" and not arguments.full:
        print_folded(conversation, with_agent, with_times=arguments.times)
    else:
        for said in conversation:
            FORMATS[format_](arguments.session, said, with_agent)
    if arguments.follow:
        _follow(database, arguments, format_, with_agent, last)
    if arguments.agent is None:
        for orchestrator in database.snapshot(lambda connection: orchestrators_of(connection, arguments.session)):
            teams.FORMATS[format_](arguments.session, orchestrator)


def _follow(database: Database, arguments: argparse.Namespace, format_: str, with_agent: bool, last: int) -> NoReturn:
    """Print new messages of a conversation, until the user interrupts."""
    while True:
        sys.stdout.flush()
        time.sleep(_PAUSE)
        now = last_sequence(database)
        for said in read_added(database, arguments.session, arguments.agent, last, now):
            FORMATS[format_](arguments.session, said, with_agent)
        last = now


def search(database: Database, arguments: argparse.Namespace) -> None:
    """Print the messages that contain a text."""
    limit = limit_of(arguments)
    matches = search_messages(
        database,
        arguments.text,
        session_id=None if arguments.session is None else full_id(database, arguments.session),
        agent_id=arguments.agent,
        metadata=dict(arguments.metadata),
        limit=None if limit is None else limit + 1,
        between=between(arguments),
    )
    has_more = limit is not None and len(matches) > limit
    matches = matches[:limit]
    if arguments.json:
        for match in matches:
            output.print_json(asdict(match))
        return
    if not matches:
        print("no message contains this text")
    summaries = summaries_of(database, dict.fromkeys(match.session_id for match in matches))
    titles = titles_of(database, summaries)
    named = {summary.session_id: (title, summary) for title, summary in zip(titles, summaries, strict=True)}
    for match in matches:
        _print_match(database, match, *named[match.session_id], folded=arguments.text.casefold())
    if space() is not None and has_more:
        print_rest("more")


def _print_match(database: Database, match: MessageMatch, title: str, summary: SessionSummary, folded: str) -> None:
    """Print where a text was found: in which session, who said it and when; and below, the words around it."""
    columns = space()
    id_ = match.session_id if columns is None else short_id(database, match.session_id)
    who = match.role if summary.agent_ids == [match.agent_id] else f"{match.role} ({match.agent_id})"
    number = [] if match.message_id is None else [f"#{match.message_id}"]
    facts = "  ".join(map(output.safe, (who, times.ago(match.created_at), *number, id_)))
    if columns is not None and width(title) + 2 + width(facts) > columns:
        title = cut(title, max(columns - width(facts) - 2, _SHORTEST_TITLE))
    heading = f"{output.style(title or '-', 'bold')}  {output.style(facts, 'dim')}"
    if columns is not None and width(title or "-") + 2 + width(facts) > columns:
        heading = (
            f"{output.style(cut(title or '-', columns), 'bold')}\n  {output.style(cut(facts, columns - 2), 'dim')}"
        )
    print(heading)
    for line in wrap(output.safe(match.snippet), columns and columns - 2):
        print(f"  {_highlighted(line, folded)}")


def _highlighted(line: str, folded: str) -> str:
    """Return a line with every occurrence of a text highlighted."""
    if len(line.casefold()) != len(line):  # then the positions differ
        return line
    highlighted, end = "", 0
    while (begin := line.casefold().find(folded, end)) >= 0:
        highlighted += line[end:begin] + output.style(line[begin : begin + len(folded)], "yellow")
        end = begin + len(folded)
    return highlighted + line[end:]
