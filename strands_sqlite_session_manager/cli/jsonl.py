"""Commands that write sessions as JSON Lines, and read them: export, import."""

import argparse
import functools
import os
import sys
from collections.abc import Iterator

from ..database import files
from ..database.database import Database
from ..sessions.listing import Filter
from ..transfer.jsonl import export_sessions, import_sessions
from . import output
from .errors import CommandError, UsageError
from .ids import full_id, session_of
from .opening import connect_function, existing_file, resolve
from .selection import selected_sessions
from .summaries import counted


def export(database: Database, arguments: argparse.Namespace) -> None:
    """Write sessions as JSON Lines."""
    if arguments.last:
        if arguments.session or arguments.metadata or arguments.all:
            raise UsageError("--last is the session with the newest activity: name no others")
        arguments.session = [session_of(database, argparse.Namespace(last=True, session=None))]
    selected = selected_sessions(arguments, "export")
    if not isinstance(selected, Filter):
        selected = list(dict.fromkeys(full_id(database, session_id) for session_id in selected))
    report = None if arguments.output is None else output.progress("sessions")
    exported = 0

    def count(done: int, total: int) -> None:
        nonlocal exported
        exported = done
        if report is not None:
            report(done, total)

    lines = export_sessions(database, selected, count)
    if arguments.output is None:
        _print_lines(lines)
    else:
        _write_file(arguments.output, lines)
        print(f"exported {counted(exported, 'session')} to {output.safe(arguments.output)}")


def _print_lines(lines: Iterator[str]) -> None:
    if sys.stdout is None:
        raise CommandError("there is no standard output: export to a file with -o")
    sys.stdout.flush()
    for line in lines:
        sys.stdout.buffer.write(output.safe_json(line).encode() + b"\n")
    sys.stdout.buffer.flush()


def _write_file(path: str, lines: Iterator[str]) -> None:
    path = os.path.abspath(os.path.expanduser(path))
    try:
        with (
            files.new_file(path) as partial,
            open(partial, "w", encoding="utf-8", newline="\n", opener=files.open_existing) as file,
        ):
            file.writelines(f"{line}\n" for line in lines)
    except FileExistsError as error:
        raise CommandError(f"{path} | already exists: choose another name") from error


def import_(arguments: argparse.Namespace) -> None:
    """Read sessions from JSON Lines; with `--create`, the first complete one creates the file."""
    path = resolve(arguments.db) if arguments.create else existing_file(arguments.db)
    connect = connect_function(arguments.connect)
    report = output.progress("sessions")
    with open(0 if arguments.file == "-" else arguments.file, "rb", closefd=arguments.file != "-") as file:
        stored = import_sessions(
            functools.cache(lambda: Database(path, connect=connect)),
            (line.decode() for line in file),
            replace=arguments.replace,
            progress=None if report is None else lambda stored: report(stored, None),
        )
    print(f"imported {counted(stored, 'session')}")
