"""Commands on the file as a whole: stats, backup, check, vacuum."""

import argparse
import os
import sqlite3
from typing import Any

from ..database.database import Database
from ..sessions import maintenance
from ..sessions.listing import Filter
from ..sessions.text import size
from . import output
from .errors import CommandError
from .summaries import counted


def stats(database: Database, arguments: argparse.Namespace) -> None:
    """Print what the file holds."""
    facts = database.snapshot(lambda connection: _facts(connection, database.path))
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
        print(f"{words:16}{output.safe(value)}")


def _facts(connection: sqlite3.Connection, path: str) -> dict[str, Any]:
    counts = {
        name: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for name, table in (
            ("sessions", "sessions"),
            ("agents", "agents"),
            ("messages", "messages"),
            ("orchestrators", "multi_agents"),
            ("storage_keys", "storage_values"),
        )
    }
    tokens = connection.execute(
        "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM usage"
    ).fetchone()
    unused, pages, page_size, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("freelist_count", "page_count", "page_size", "user_version")
    )
    newest = Filter({}).select(connection, 1)
    (stored,) = connection.execute("SELECT coalesce(sum(size), 0) FROM storage_values").fetchone()
    (oldest,) = connection.execute("SELECT min(created_at) FROM sessions").fetchone()
    return {
        "file": path,
        "bytes": pages * page_size,
        "unused_bytes": unused * page_size,
        "wal_bytes": _size_of(f"{path}-wal"),
        "schema_version": version,
        **counts,
        "storage_bytes": stored,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "oldest_session": oldest,
        "last_activity": newest[0][1] if newest else None,
    }


def backup(database: Database, arguments: argparse.Namespace) -> None:
    """Copy the file."""
    if not database.read("PRAGMA database_list")[0][2]:  # read-only, an older schema is upgraded in memory
        raise CommandError(f"{database.path} | has an older schema: copy the file itself, or upgrade it with vacuum")
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
        raise CommandError(f"{database.path} | {counted(len(problems), 'problem')} found: replace it with a backup")
    if not arguments.json:
        print("ok")


def vacuum(database: Database, arguments: argparse.Namespace) -> None:
    """Rewrite the file without unused space."""
    before = _size_of(database.path)
    database.vacuum()
    print(f"{size(before)} before, {size(_size_of(database.path))} now")


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
