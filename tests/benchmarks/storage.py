"""Appending, reading back and opening, against bare SQLite and against `FileSessionManager`.

Read the ratios: what the package takes over what SQLite takes for the same row, in the same round, in files
with the same tables, pragmas and content. Bare SQLite is handed text that is ready to be stored, in a
statement that is prepared, and commits it. Beside it

- `bare + json.dumps` makes the text first, as nobody who stores messages can avoid;
- `create_message` takes a message, as `FileSessionManager.create_message` does (which never syncs to disk);
- `live agent` is what happens when Strands announces a message of a live agent, the call of the hooks included;
- `list_messages` reads a session of 100 messages back; the bare side is `SELECT` and `json.loads`;
- a manager is constructed for a session that exists, while another manager is alive.

Appends go to sessions at random, the same ones on all sides. "stored" is what a file held before them. Each
session that is appended to has a live agent, so that with many stored, most appends find their agent's window
out of the processor's cache. Figures are medians, with the quartiles in brackets.
"""

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from strands.session.file_session_manager import FileSessionManager

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .contenders import (
    Synchronous,
    append,
    appends_to,
    connect,
    connect_to_append,
    create,
    dump_and_insert,
    each,
    insert,
    list_messages,
    select,
)
from .filling import HISTORY, fill_database, fill_folder, session_ids
from .timing import Task, Timing, measure, print_table, verdict

Contenders = dict[tuple[int, str], Iterator[Task]]

APPEND_BUDGET = READ_BUDGET = FLAT_BUDGET = 1.5  # times
OPEN_BUDGET = 150  # microseconds
FILES_STORED = 10_000  # messages, at most, in a folder
BARE, DUMPED, FILES = "bare SQLite", "bare + json.dumps", "FileSessionManager"
REPOSITORY, LIVE, READ = "create_message", "live agent", "list_messages"


class Stock(NamedTuple):
    """Messages that are stored already, with us and, if they are not too many, as files."""

    ids: list[str]
    database: Path
    files: Path | None


def run(folder: Path, quick: bool) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take smaller files, and fewer rounds.
    """
    rounds = 10 if quick else 40
    stocks = {}
    for stored in (100, 10_000) if quick else (100, 10_000, 1_000_000):
        ids, database = session_ids(stored // HISTORY), folder / f"{stored}.db"
        files = folder / f"{stored}" if stored <= FILES_STORED else None
        fill_database(database, len(ids))
        if files:
            fill_folder(files, len(ids))
        stocks[stored] = Stock(ids, database, files)
    measure_reads(stocks, rounds)
    measure_appends(stocks, rounds, "FULL")
    measure_appends(stocks, rounds, "NORMAL")
    measure_opening(folder, 10_000 if quick else 100_000, rounds)


def measure_reads(stocks: Mapping[int, Stock], rounds: int) -> None:
    """Read whole sessions back."""
    with ExitStack() as stack:
        contenders: Contenders = {}
        for stored, (ids, database, files) in stocks.items():
            contenders[stored, BARE] = select(stack.enter_context(closing(connect(database, "FULL"))), ids)
            contenders[stored, READ] = list_messages(stack.enter_context(SQLiteSessionRepository(database)), ids)
            if files:
                contenders[stored, FILES] = list_messages(FileSessionManager(ids[0], str(files)), ids)
        timings = measure(contenders, rounds, batch=5)
    _print_against_bare(f"Read back {HISTORY} messages: µs per message", timings, READ_BUDGET, HISTORY)


def measure_appends(stocks: Mapping[int, Stock], rounds: int, synchronous: Synchronous) -> None:
    """Append single messages, each in a transaction of its own."""
    batch = 25
    with ExitStack() as stack:
        contenders: Contenders = {}
        for stored, (ids, database, files) in stocks.items():
            appends = list(itertools.islice(appends_to(ids), (rounds + 1) * batch))
            bare, dumped, repository, live = (
                _copy(database, name) for name in ("bare", "dumped", "repository", "live")
            )
            contenders[stored, BARE] = insert(
                stack.enter_context(closing(connect_to_append(bare, synchronous))), appends
            )
            contenders[stored, DUMPED] = dump_and_insert(
                stack.enter_context(closing(connect_to_append(dumped, synchronous))), appends
            )
            contenders[stored, REPOSITORY] = create(
                stack.enter_context(SQLiteSessionRepository(repository, synchronous=synchronous)), appends
            )
            managers = {
                session_id: stack.enter_context(SQLiteSessionManager(session_id, live, synchronous=synchronous))
                for session_id in dict.fromkeys(session_id for session_id, _, _ in appends)
            }
            contenders[stored, LIVE] = append(managers, appends)
            if files:
                copy = shutil.copytree(files, f"{files}-{synchronous}")
                contenders[stored, FILES] = create(FileSessionManager(ids[0], copy), appends)
        timings = measure(contenders, rounds, batch)
    _print_against_bare(f"Append one message, synchronous={synchronous}: µs", timings, APPEND_BUDGET)


def measure_opening(folder: Path, sessions: int, rounds: int) -> None:
    """Construct managers for sessions that exist."""
    database, files, ids = folder / "sessions.db", folder / "sessions", session_ids(sessions)
    few = ids[:1000]
    fill_database(database, sessions, history=0)
    fill_folder(files, len(few), history=0)
    with SQLiteSessionManager(ids[0], database):
        contenders = {
            "SQLiteSessionManager": each(partial(SQLiteSessionManager, db_path=database), ids),
            FILES: each(partial(FileSessionManager, storage_dir=str(files)), few),
        }
        ours, theirs = measure(contenders, rounds, batch=25).values()
    budget = verdict(ours.spread().middle, OPEN_BUDGET)
    print_table(
        "Construct a manager for a session that exists, while another one is alive: µs",
        ("", "sessions", "µs", "over ours", "budget"),
        [
            ("SQLiteSessionManager", f"{sessions:,}", str(ours.spread()), "", budget),
            (FILES, f"{len(few):,}", str(theirs.spread()), str(theirs.ratio(ours)), ""),
        ],
        labels=1,
    )


def _print_against_bare(title: str, timings: dict[tuple[int, str], Timing], budget: float, scale: float = 1) -> None:
    """Print every time over that of bare SQLite, and over the same with the fewest messages stored."""
    fewest = min(stored for stored, _ in timings)
    rows = []
    for name in (BARE, DUMPED, READ, REPOSITORY, LIVE, FILES):
        for stored in sorted(stored for stored, found in timings if found == name):
            timing = timings[stored, name]
            cells = [name, f"{stored:,}", str(timing.spread(scale))]
            for other, limit in ((timings[stored, BARE], budget), (timings[fewest, name], FLAT_BUDGET)):
                ratio = timing.ratio(other)
                judged = name in (READ, REPOSITORY, LIVE)
                cells += ["", ""] if timing is other else [str(ratio), verdict(ratio.middle, limit) if judged else ""]
            rows.append(cells)
    print_table(title, ("", "stored", "µs", "over bare", "budget", f"over {fewest}", "budget"), rows, labels=1)


def _copy(path: Path, name: str) -> Path:
    """Copy a database that nobody has open, and wait until it is on disk, lest that goes on while we measure."""
    copy = path.with_name(f"{path.stem}-{name}.db")
    shutil.copyfile(path, copy)
    with copy.open("rb+") as file:
        os.fsync(file.fileno())
    return copy
