"""The file as a database of conversations: listing, searching, forking and copying.

Each figure is the median of several calls, with the quartiles in brackets. `usage` adds up the usage in every second
message. `copy` copies sessions of 20 messages from a folder of `FileSessionManager`; beside it is the time in which
Python reads and parses these files.
"""

import contextlib
import io
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.cli import main

from .filling import fill_database, fill_folder, session_ids
from .report import Report, verdict
from .timing import Task, measure

Row = tuple[str, str, str, str]

LIST_BUDGET, SEARCH_BUDGET, USAGE_BUDGET = 5.0, 150.0, 300.0  # milliseconds
COPY_BUDGET = 2.0  # times


def run(folder: Path, quick: bool, report: Report) -> None:
    """Fill files, and measure."""
    sessions, messages, files = (10_000, 10_000, 100) if quick else (100_000, 100_000, 1000)
    rounds = 3 if quick else 7
    rows = [
        *_listing(folder / "list.db", sessions, rounds),
        *_searching(folder / "search.db", messages, rounds),
        *_adding_up(folder / "usage.db", messages, rounds),
        *_forking(folder / "fork.db", messages // 10, rounds),
        *_copying(folder, files, rounds),
    ]
    report.table("The file as a database: milliseconds", ("what", "of", "time", "budget"), rows, labels=2)


def _time(tasks: Iterator[Task], rounds: int) -> str:
    return str(measure({0: tasks}, rounds, 1)[0].spread(1000))


def _timed(name: str, size: str, task: Task, rounds: int, budget: float | None = None) -> Row:
    timing = measure({0: itertools.repeat(task)}, rounds, 1)[0].spread(1000)
    return name, size, str(timing), "" if budget is None else verdict(timing.middle, budget)


def _listing(path: Path, sessions: int, rounds: int) -> Iterator[Row]:
    fill_database(path, sessions, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        for key, value in (("user_id", "abs(random() % 5000) || ''"), ("app_name", "'web'")):
            connection.execute(f"INSERT INTO session_metadata SELECT session_id, '{key}', {value} FROM sessions")
    with SQLiteSessionRepository(path) as repository:
        repository.update_session_metadata(session_ids(1)[0], {"user_id": "42", "app_name": "web", "title": "one"})
        size = f"{sessions:,} sessions"
        for name, metadata in (
            ("list 20", None),
            ("list 20 of a user", {"user_id": "42"}),
            ("list 20 of an app", {"app_name": "web"}),
            ("list 20 of a user in an app", {"app_name": "web", "user_id": "42"}),
        ):
            task = partial(repository.list_sessions, metadata=metadata, limit=20)
            yield _timed(name, size, task, rounds, LIST_BUDGET)


def _searching(path: Path, messages: int, rounds: int) -> Iterator[Row]:
    fill_database(path, messages // 100)
    with SQLiteSessionRepository(path) as repository:
        size = f"{messages:,} messages"
        for name, text in (("a text that is rare", "zzyzx"), ("one that is everywhere", "the"), ("Cyrillic", "привет")):
            yield _timed(f"search {name}", size, partial(repository.search_messages, text), rounds, SEARCH_BUDGET)


def _adding_up(path: Path, messages: int, rounds: int) -> Iterator[Row]:
    fill_database(path, messages // 100)
    usage = {"usage": {"inputTokens": 120, "outputTokens": 50, "totalTokens": 170}, "metrics": {"latencyMs": 1234}}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE messages SET message = json_set(message, '$.metadata', json(?)) WHERE message_id % 2 = 1",
            (json.dumps(usage),),
        )
        connection.execute("VACUUM")
    with SQLiteSessionRepository(path) as repository:
        for by in ("session", "day"):
            task = partial(repository.usage, by=by)
            yield _timed(f"usage by {by}", f"{messages:,} messages", task, rounds, USAGE_BUDGET)


def _forking(path: Path, messages: int, rounds: int) -> Iterator[Row]:
    fill_database(path, 1, messages)
    (session_id,) = session_ids(1)
    with SQLiteSessionRepository(path) as repository:
        forks = (partial(repository.fork_session, session_id, f"fork-{number}") for number in itertools.count())
        yield "fork", f"{messages:,} messages", _time(forks, rounds), ""


def _copying(folder: Path, files: int, rounds: int) -> Iterator[Row]:
    fill_folder(folder / "files", files, 20)

    def read() -> None:
        for place, _, names in os.walk(folder / "files"):
            for name in names:
                with open(os.path.join(place, name), encoding="utf-8") as file:
                    json.load(file)

    def copy(number: int) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            main(["copy", f"file:{folder / 'files'}", str(folder / f"copy-{number}.db"), "--all"])

    copies = (partial(copy, number) for number in itertools.count())
    timings = measure({"read": itertools.repeat(read), "copy": copies}, rounds, 1)
    size = f"{files:,} sessions"
    yield "read and parse files", size, str(timings["read"].spread(1000)), ""
    ratio = timings["copy"].ratio(timings["read"])
    yield f"copy them, {ratio} x", size, str(timings["copy"].spread(1000)), verdict(ratio.middle, COPY_BUDGET)
