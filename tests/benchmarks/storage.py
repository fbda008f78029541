"""Appending, reading back and opening, in files of up to a million messages.

Read the ratios: the package's time over SQLite's time for the same row, in the same round, in files with the same
tables, pragmas and content. Bare SQLite gets ready-made JSON in a prepared statement, and commits it. Beside it:

- `bare + json.dumps` makes the JSON first, as every store of messages must;
- `SQLiteSessionManager`, like the managers of files and S3, stores a message with `create_message`;
- `a live agent` is what happens when Strands announces a message of a live agent, the call of the hooks in an event
  loop included;
- reading back is `list_messages` of a session of 100 messages; the bare side is `SELECT` and `json.loads`. It is
  the same in both modes;
- a manager is constructed for a session that exists, while another manager is alive.

With FULL, an append returns when the message is on the disk. With NORMAL it does not wait for that, and neither do
files. The S3 server runs on this machine and keeps objects in memory: a real one also takes time for the network and
for its disks.

Appends go to sessions at random, the same ones on all sides. "stored" is what a file held before them. Each session
that is appended to has a live agent, so that with many stored, most appends find their agent's window out of the CPU
cache. Figures are medians, with the quartiles in brackets.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .contenders import (
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
from .filling import HISTORY, copy_database, fill_bucket, fill_database, fill_folder, session_ids
from .names import BARE, DUMPED, FILES, LIVE, MODES, OURS, S3, Synchronous
from .report import Chart, Report, verdict
from .stores import S3Server, s3_server
from .timing import Spread, Task, Timing, measure

Contenders = dict[tuple[int, str], Iterator[Task]]
Curves = dict[str, dict[int, Spread]]

APPEND_BUDGETS = {"FULL": 1.2, "NORMAL": 2.5}  # times
READ_BUDGET, FLAT_BUDGET = 1.2, 1.5
OPEN_BUDGET = 150  # microseconds
FILES_STORED = 10_000  # messages, at most, in a folder or a bucket
COUNTED = "messages stored"


class Stock(NamedTuple):
    """Messages that are already stored, in our file and, if they are not too many, as files and objects."""

    ids: list[str]
    database: Path
    files: Path | None
    objects: S3SessionManager | None


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take smaller files, and fewer rounds.
        report: Where the figures go.
    """
    rounds = 10 if quick else 40
    with s3_server() as server:
        stocks = {
            stored: _stock(folder, stored, server) for stored in ((100, 10_000) if quick else (100, 10_000, 1_000_000))
        }
        reads = measure_reads(stocks, rounds, report)
        appends: Curves = {}
        for mode in MODES:
            appends |= measure_appends(stocks, rounds, mode, report)
    title = "Append one message: time (less is better)"
    report.chart(Chart("append", title, (COUNTED, "µs"), {"": appends}, writes=True))
    title = "Read a session of 100 messages back: time for each message (less is better)"
    report.chart(Chart("read", title, (COUNTED, "µs"), {"": reads}, writes=False))
    measure_opening(folder, 10_000 if quick else 100_000, rounds, report)


def measure_reads(stocks: Mapping[int, Stock], rounds: int, report: Report) -> Curves:
    """Read whole sessions back."""
    with ExitStack() as stack:
        contenders: Contenders = {}
        for stored, (ids, database, files, objects) in stocks.items():
            contenders[stored, BARE["FULL"]] = select(stack.enter_context(closing(connect(database, "FULL"))), ids)
            contenders[stored, OURS["FULL"]] = list_messages(
                stack.enter_context(SQLiteSessionRepository(database)), ids
            )
            if files:
                contenders[stored, FILES] = list_messages(FileSessionManager(ids[0], str(files)), ids)
            if objects:
                contenders[stored, S3] = list_messages(objects, ids)
        timings = measure(contenders, rounds, batch=5, slow=[key for key in contenders if key[1] == S3])
    _report(f"Read back {HISTORY} messages: µs per message", timings, "FULL", READ_BUDGET, report, HISTORY)
    return _curves(timings, HISTORY)


def measure_appends(stocks: Mapping[int, Stock], rounds: int, mode: Synchronous, report: Report) -> Curves:
    """Append single messages, each in a transaction of its own."""
    batch = 25
    with ExitStack() as stack:
        contenders: Contenders = {}
        for stored, (ids, database, files, objects) in stocks.items():
            appends = list(itertools.islice(appends_to(ids), (rounds + 1) * batch))
            bare, dumped, repository, live = (
                copy_database(database, name) for name in ("bare", "dumped", "repository", "live")
            )
            contenders[stored, BARE[mode]] = insert(
                stack.enter_context(closing(connect_to_append(bare, mode))), appends
            )
            contenders[stored, DUMPED[mode]] = dump_and_insert(
                stack.enter_context(closing(connect_to_append(dumped, mode))), appends
            )
            contenders[stored, OURS[mode]] = create(
                stack.enter_context(SQLiteSessionRepository(repository, synchronous=mode)), appends
            )
            managers = {
                session_id: stack.enter_context(SQLiteSessionManager(session_id, live, synchronous=mode))
                for session_id in dict.fromkeys(session_id for session_id, _, _ in appends)
            }
            contenders[stored, LIVE[mode]] = append(managers, appends)
            if mode == "NORMAL" and files and objects:
                contenders[stored, FILES] = create(FileSessionManager(ids[0], str(files)), appends)
                contenders[stored, S3] = create(objects, appends)
        timings = measure(contenders, rounds, batch)
    title = f"Append one message, {'waiting' if mode == 'FULL' else 'not waiting'} for the disk: µs"
    _report(title, timings, mode, APPEND_BUDGETS[mode], report)
    return _curves({key: timing for key, timing in timings.items() if key[1] not in (DUMPED[mode], LIVE[mode])})


def measure_opening(folder: Path, sessions: int, rounds: int, report: Report) -> None:
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
    report.table(
        "Construct a manager for a session that exists, while another one is alive: µs",
        ("", "sessions", "µs", "over ours", "budget"),
        [
            ("SQLiteSessionManager", f"{sessions:,}", str(ours.spread()), "", budget),
            (FILES, f"{len(few):,}", str(theirs.spread()), str(theirs.ratio(ours)), ""),
        ],
    )


def _stock(folder: Path, stored: int, server: S3Server) -> Stock:
    ids, database = session_ids(stored // HISTORY), folder / f"{stored}.db"
    fill_database(database, len(ids))
    if stored > FILES_STORED:
        return Stock(ids, database, None, None)
    files = folder / f"{stored}"
    objects = server.open(files, ids[0])
    fill_folder(files, len(ids))
    fill_bucket(objects, len(ids))
    return Stock(ids, database, files, objects)


def _report(
    title: str,
    timings: Mapping[tuple[int, str], Timing],
    mode: Synchronous,
    budget: float,
    report: Report,
    scale: float = 1,
) -> None:
    """Show each time over bare SQLite's, over ours, and over the same with the fewest messages stored."""
    fewest = min(stored for stored, _ in timings)
    names = list(dict.fromkeys(name for _, name in timings))
    rows = []
    for name, stored in itertools.product(names, dict.fromkeys(stored for stored, _ in timings)):
        timing = timings.get((stored, name))
        if timing is None:
            continue
        over = {other: _over(timing, timings[stored, other]) for other in (BARE[mode], OURS[mode])}
        judged = name == OURS[mode]
        rows.append(
            [
                name,
                f"{stored:,}",
                str(timing.spread(scale)),
                over[BARE[mode]],
                verdict(timing.ratio(timings[stored, BARE[mode]]).middle, budget) if judged else "",
                over[OURS[mode]],
                _over(timing, timings[fewest, name]),
                verdict(timing.ratio(timings[fewest, name]).middle, FLAT_BUDGET) if judged and stored > fewest else "",
            ]
        )
    header = ("", "stored", "µs", "over bare", "budget", "over ours", f"over {fewest} stored", "budget")
    report.table(title, header, rows)


def _over(timing: Timing, other: Timing) -> str:
    return "" if timing is other else str(timing.ratio(other))


def _curves(timings: Mapping[tuple[int, str], Timing], scale: float = 1) -> Curves:
    curves: Curves = defaultdict(dict)
    for (stored, name), timing in timings.items():
        curves[name][stored] = timing.spread(scale)
    return curves
