"""What each command does. Those that only read leave the file untouched, and none of them needs Strands."""

import argparse
import functools
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from .. import catalog, deletion, files, maintenance, metadata, search, session_fork, transfer
from ..activity import ACTIVE_AT
from ..catalog import Filter, SessionSummary
from ..content import size
from ..database import Database
from ..identifiers import validate_id, validate_message_id
from . import output
from .conversation import FORMATS, conversation
from .errors import CommandError, UsageError


def list_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the sessions."""
    wanted = Filter(dict(arguments.metadata))
    summaries = catalog.list_sessions(database, wanted, limit=arguments.limit, offset=0)
    if arguments.json:
        for summary in summaries:
            output.print_json(asdict(summary))
    else:
        _print_summaries(summaries)


def show(database: Database, arguments: argparse.Namespace) -> None:
    """Print a session as a conversation."""
    print_message = FORMATS["json" if arguments.json else arguments.format]
    with database.transaction(write=False) as connection:
        summary = _summary(connection, arguments.session)
        if arguments.agent is not None and arguments.agent not in summary.agent_ids:
            raise CommandError(f"agent {arguments.agent} in session {arguments.session} does not exist")
        with_agent = len(summary.agent_ids) > 1
        for said in conversation(connection, arguments.session, arguments.agent, arguments.limit):
            print_message(arguments.session, said, with_agent)


def search_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the messages in which a text was said."""
    if not arguments.text:
        raise UsageError("the text to search for is empty")
    matches = search.search_messages(
        database, arguments.text, session_id=arguments.session, agent_id=arguments.agent, limit=arguments.limit
    )
    if arguments.json:
        for match in matches:
            output.print_json(asdict(match))
        return
    rows = [
        (
            match.session_id,
            match.agent_id,
            str(match.message_id),
            match.role,
            output.local_time(match.created_at),
            match.snippet,
        )
        for match in matches
    ]
    output.print_table(("session", "agent", "message", "role", "time", "text"), rows)


def stats(database: Database, arguments: argparse.Namespace) -> None:
    """Print what the file holds."""
    with database.transaction(write=False) as connection:
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for name, table in (
                ("sessions", "sessions"),
                ("agents", "agents"),
                ("messages", "messages"),
                ("orchestrators", "multi_agents"),
            )
        }
        tokens = connection.execute(
            "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM usage"
        ).fetchone()
        free, pages, page_size, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count", "page_size", "user_version")
        )
        newest = Filter({}).select(connection, 1)
        (oldest,) = connection.execute("SELECT min(created_at) FROM sessions").fetchone()
    facts: dict[str, Any] = {
        "file": database.path,
        "bytes": pages * page_size,
        "unused_bytes": free * page_size,
        "log_bytes": _size_of(database.path + "-wal"),
        "schema_version": version,
        **counts,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "oldest_session": oldest,
        "last_activity": newest[0][1] if newest else None,
    }
    if arguments.json:
        output.print_json(facts)
        return
    for name, value in facts.items():
        words = name.replace("_", " ")
        if name.endswith("bytes"):
            words, value = words.replace("bytes", "size").replace("unused size", "unused"), size(value)
        elif name in ("oldest_session", "last_activity"):
            value = "-" if value is None else output.local_time(value)
        elif isinstance(value, int):
            value = f"{value:,}"
        print(f"{words:16}{output.safe(str(value))}")


def fork(database: Database, arguments: argparse.Namespace) -> None:
    """Copy a session under a new id."""
    for session_id in (arguments.source, arguments.new):
        validate_id(session_id, "session")
    if arguments.agent is not None and arguments.through is None:
        raise UsageError("--agent says whose message --through is: give both")
    if arguments.through is not None:
        validate_message_id(arguments.through)
    session_fork.fork_session(
        database, arguments.source, arguments.new, agent_id=arguments.agent, through_message=arguments.through
    )
    print(f"forked {output.safe(arguments.source)} to {output.safe(arguments.new)}")


def delete(database: Database, arguments: argparse.Namespace) -> None:
    """Delete sessions."""
    session_ids = list(dict.fromkeys(arguments.session))
    with database.transaction(write=False) as connection:
        summaries = [_summary(connection, session_id) for session_id in session_ids]
    if _may_go(summaries, arguments):
        deletion.delete_session(database, *session_ids)
        print(f"deleted {_sessions(len(session_ids))}")


def prune(database: Database, arguments: argparse.Namespace) -> None:
    """Delete sessions without activity for long."""
    before = datetime.now(timezone.utc) - arguments.older_than
    wanted = Filter.of(dict(arguments.metadata), None, before)
    summaries = catalog.list_sessions(database, wanted, limit=None, offset=0)
    if not summaries:
        print("no session is that old")
    elif _may_go(summaries, arguments):
        report = output.progress("sessions")
        progress = None if report is None else lambda deleted: report(deleted, len(summaries))
        print(f"deleted {_sessions(deletion.delete_sessions(database, wanted, progress))}")


def tag(database: Database, arguments: argparse.Namespace) -> None:
    """Change what is known of a session."""
    changes = {key: value or None for key, value in arguments.pairs}
    with database.transaction() as connection:
        metadata.merge(connection, validate_id(arguments.session, "session"), changes)
        summary = _summary(connection, arguments.session)
    print(output.safe(_pairs(summary.metadata)) or "no metadata")


def export(database: Database, arguments: argparse.Namespace) -> None:
    """Write sessions as JSON Lines."""
    with database.transaction(write=False) as connection:
        # The oldest first: rows that are stored in the order of time are found faster.
        newest_first = Filter({}).select(connection) if not arguments.session else ()
        session_ids = list(dict.fromkeys(arguments.session)) or [session_id for session_id, _ in reversed(newest_first)]
        report = None if arguments.output is None else output.progress("sessions")

        def lines() -> Iterator[str]:
            for count, session_id in enumerate(session_ids, 1):
                yield from transfer.export_session(connection, session_id)
                if report is not None:
                    report(count, len(session_ids))

        if arguments.output is None:
            if sys.stdout is None:
                raise CommandError("there is no standard output to export to")
            sys.stdout.flush()
            for line in lines():
                sys.stdout.buffer.write(output.safe_json(line).encode() + b"\n")
            sys.stdout.buffer.flush()
        else:
            _write_file(arguments.output, lines())
            print(f"exported {_sessions(len(session_ids))} to {output.safe(arguments.output)}")


def import_(path: str, arguments: argparse.Namespace) -> None:
    """Read sessions from JSON Lines; a new file is created when the first one is complete."""
    report = output.progress("sessions")
    with open(0 if arguments.file == "-" else arguments.file, "rb", closefd=arguments.file != "-") as file:
        stored = transfer.import_sessions(
            functools.cache(lambda: Database(path)),
            (line.decode() for line in file),
            replace=arguments.replace,
            progress=None if report is None else lambda stored: report(stored, None),
        )
    print(f"imported {_sessions(stored)}")


def backup(database: Database, arguments: argparse.Namespace) -> None:
    """Copy the file."""
    if not database.read("PRAGMA database_list")[0][2]:  # read-only, an older layout is brought up to date in memory
        raise CommandError(f"{database.path} | has an older layout: copy the file itself, or upgrade it with vacuum")
    destination = os.path.expanduser(arguments.destination)
    maintenance.backup(database, destination, output.progress("pages"))
    print(f"backed up to {output.safe(destination)}, {size(_size_of(destination))}")


def check(database: Database, arguments: argparse.Namespace) -> None:
    """Examine the file."""
    problems = maintenance.check(database)
    for problem in problems:
        if arguments.json:
            output.print_json({"problem": problem})
        else:
            print(output.safe(problem))
    if problems:
        raise CommandError(f"{database.path} | {len(problems)} problem{'s' * (len(problems) > 1)} found")
    if not arguments.json:
        print("ok")


def vacuum(database: Database, arguments: argparse.Namespace) -> None:
    """Rewrite the file without unused space."""
    before = _size_of(database.path)
    maintenance.vacuum(database)
    print(f"{size(before)} before, {size(_size_of(database.path))} now")


def _summary(connection: sqlite3.Connection, session_id: str) -> SessionSummary:
    row = connection.execute(f"SELECT {ACTIVE_AT} FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if row is None:
        raise CommandError(f"session {session_id} does not exist")
    return catalog.summarize(connection, session_id, row[0])


def _print_summaries(summaries: Sequence[SessionSummary]) -> None:
    rows = [
        (
            summary.session_id,
            output.local_time(summary.updated_at),
            str(summary.message_count),
            _pairs(summary.metadata),
            summary.preview,
        )
        for summary in summaries
    ]
    output.print_table(("session", "last activity", "messages", "metadata", "preview"), rows)


def _may_go(summaries: Sequence[SessionSummary], arguments: argparse.Namespace) -> bool:
    """Tell whether sessions may be deleted: ask on a terminal, and elsewhere rely on `--yes`."""
    messages = sum(summary.message_count for summary in summaries)
    what = f"{_sessions(len(summaries))} with {messages:,} message{'s' * (messages != 1)}"
    if arguments.dry_run:
        _print_summaries(summaries)
        print(f"{what} would be deleted")
        return False
    if arguments.yes:
        return True
    if not output.is_terminal(sys.stdin):
        raise CommandError(f"{what} would be deleted: confirm with --yes, or look with --dry-run")
    _print_summaries(summaries)
    with suppress(EOFError):
        if input(f"Delete {what}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
    print("nothing was deleted")
    return False


def _write_file(path: str, lines: Iterator[str]) -> None:
    path = os.path.abspath(os.path.expanduser(path))
    try:
        with (
            files.new_file(path) as partial,
            open(partial, "w", encoding="utf-8", newline="\n", opener=files.open_existing) as file,
        ):
            file.writelines(f"{line}\n" for line in lines)
    except FileExistsError as error:
        raise CommandError(f"{path} | exists already; an export does not overwrite") from error


def _pairs(known: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in known.items())


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _sessions(count: int) -> str:
    return f"{count:,} session{'s' * (count != 1)}"
