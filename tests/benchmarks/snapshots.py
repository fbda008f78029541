"""Snapshots in a SQLite file and in a folder: what `SQLiteStorage` writes, and how long that takes.

`SnapshotSessionManager` hands over a whole conversation at every save. `LocalFileStorage` writes all of it,
`SQLiteStorage` only new blocks. Messages have about 350 bytes, and the agent holds all of them
(`NullConversationManager`).

A turn is a message of the user and the model's answer, with one save at the end. "bytes" is what a turn hands to the
system to be written (`wchar` of `/proc/self/io`), with a checkpoint of the write-ahead log at the end. "A save alone"
is the storage's part of a turn. With FULL it waits for the disk, with NORMAL it does not, and neither do files.

Checkpoints are saved at regular intervals of a growing conversation, each under its own key.

Reading back is compared with one blob of the same bytes in a file of the same kind, which a thread reads as well, and
with a file. "First" is the first read by a new storage after a write to the file, which empties SQLite's cache, as when
a conversation is resumed. The other reads follow at once: SQLite has all pages, and the storage knows the blocks and
reads only their hashes.

Figures are medians, with the quartiles in brackets.
"""

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage

from strands_sqlite_session_manager import SQLiteStorage

from .filling import build_agent, conversation
from .report import Report, verdict
from .stores import DATABASE
from .timing import Task, Timing, bytes_written, interleave

FULL, NORMAL, FILES = "SQLiteStorage, FULL", "SQLiteStorage, NORMAL", "LocalFileStorage"
BLOB, FIRST_BLOB, FIRST = "one blob", "one blob, first", "SQLiteStorage, first"
WARM_UP = 3  # rounds
BYTES_BUDGET, TIME_BUDGET, CHECKPOINT_BUDGET, READ_BUDGET = 1 / 8, 1.0, 10.0, 1.3  # times
KEY = "session/benchmark/scopes/agent/default/snapshots/snapshot_latest.json"

Storages = dict[str, Any]


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take fewer rounds.
        report: Where the figures go.
    """
    rounds = 8 if quick else 40
    with ExitStack() as stack:
        for history in (40, 400, 4000):
            measure_turns(_open(folder / f"turns-{history}", stack), history, rounds, report)
            measure_saves(_open(folder / f"saves-{history}", stack), history, rounds, report)
        measure_checkpoints(folder / "checkpoints", 1000, 100, report)
        measure_reading(folder / "reading", 4000, rounds, report)


def _open(folder: Path, stack: ExitStack) -> dict[str, tuple[Path, Any]]:
    folder.mkdir()
    return {
        FULL: (folder / "full.db", stack.enter_context(SQLiteStorage(folder / "full.db"))),
        NORMAL: (
            folder / "normal.db",
            stack.enter_context(SQLiteStorage(folder / "normal.db", synchronous="NORMAL")),
        ),
        FILES: (folder / "files", LocalFileStorage(str(folder / "files"))),
    }


def measure_turns(storages: dict[str, tuple[Path, Any]], history: int, rounds: int, report: Report) -> None:
    """Have turns of an agent that holds a history, with every storage."""
    messages = list(itertools.islice(conversation(), history))
    contenders = {}
    for name, (_, storage) in storages.items():
        manager = SnapshotSessionManager("benchmark", storage=storage)
        agent = build_agent(manager, list(messages), NullConversationManager(), replies=WARM_UP + rounds)
        contenders[name] = _turns(agent)
    _report(f"A turn: a conversation of {history:,} messages", storages, contenders, history, rounds, report)


def _turns(agent: Agent) -> Iterator[Task]:
    for message in conversation(7):
        yield partial(agent, message["content"][0]["text"])


def measure_saves(storages: dict[str, tuple[Path, Any]], history: int, rounds: int, report: Report) -> None:
    """Have the storages alone store the snapshots of such turns."""
    loop = asyncio.new_event_loop()
    messages = list(itertools.islice(conversation(), history + 2 * (WARM_UP + rounds)))
    values = [snapshot(messages[: history + 2 * turn], turn) for turn in range(WARM_UP + rounds)]

    def saves(storage: Any) -> Iterator[Task]:
        return (partial(_wait, loop, storage.write, KEY, value) for value in values)

    contenders = {name: saves(storage) for name, (_, storage) in storages.items()}
    _report(f"A save alone: a conversation of {history:,} messages", storages, contenders, history, rounds, report)
    loop.close()


def _report(
    title: str,
    storages: dict[str, tuple[Path, Any]],
    contenders: dict[str, Iterator[Task]],
    history: int,
    rounds: int,
    report: Report,
) -> None:
    interleave(contenders, WARM_UP, 1)
    for path, _ in storages.values():
        _checkpoint(path)
    timings = interleave(contenders, rounds, 1)
    for name, (path, _) in storages.items():
        before = bytes_written()
        _checkpoint(path)
        timings[name].written += bytes_written() - before
    files = timings[FILES]
    has_budget, is_turn = history >= 4000, title.startswith("A turn")  # a short conversation is a few blocks
    report.table(
        title,
        ("", "ms", "over files", "budget", "bytes", "over files", "budget"),
        [
            (
                name,
                str(timing.spread(1000)),
                "" if timing is files else str(timing.ratio(files)),
                verdict(timing.ratio(files).middle, TIME_BUDGET)
                if timing is not files and is_turn and has_budget
                else "",
                f"{timing.written / timing.count:,.0f}",
                "" if timing is files else f"{timing.written / files.written:.3f}",
                verdict(timing.written / files.written, BYTES_BUDGET) if timing is not files and has_budget else "",
            )
            for name, timing in timings.items()
        ],
    )


def measure_checkpoints(folder: Path, history: int, count: int, report: Report) -> None:
    """Save a conversation again and again while it grows, and measure the files."""
    messages = list(itertools.islice(conversation(), history))
    values = [snapshot(messages[: history * number // count], number) for number in range(1, count + 1)]
    with ExitStack() as stack:
        storages = _open(folder, stack)
        for name in (NORMAL, FILES):
            for number, value in enumerate(values):
                asyncio.run(storages[name][1].write(KEY.replace("latest", f"{number:032}"), value))
        _checkpoint(storages[NORMAL][0])
        sizes = {
            NORMAL: storages[NORMAL][0].stat().st_size,
            FILES: sum(file.stat().st_size for file in storages[FILES][0].rglob("*.json")),
        }
    report.table(
        f"{count} checkpoints of a conversation that grows to {history:,} messages: bytes",
        ("", "all", "the last alone", "ratio", "budget"),
        [
            (
                name.partition(",")[0],
                f"{size:,}",
                f"{len(values[-1]):,}",
                f"{size / len(values[-1]):.2f}",
                verdict(size / len(values[-1]), CHECKPOINT_BUDGET) if name == NORMAL else "",
            )
            for name, size in sizes.items()
        ],
    )


def measure_reading(folder: Path, history: int, rounds: int, report: Report) -> None:
    """Read back a conversation that was saved many times."""
    loop = asyncio.new_event_loop()
    messages = list(itertools.islice(conversation(), history))
    with ExitStack() as stack:
        storages = _open(folder, stack)
        for start in range(history - 40, history + 1, 2):
            for name in (NORMAL, FILES):
                asyncio.run(storages[name][1].write(KEY, snapshot(messages[:start], start)))
        value = snapshot(messages, history)
        database, blobs = storages[NORMAL][0], folder / DATABASE
        connection = stack.enter_context(closing(sqlite3.connect(blobs, isolation_level=None, check_same_thread=False)))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE blobs (key TEXT NOT NULL PRIMARY KEY, data BLOB NOT NULL)")
        connection.execute("INSERT INTO blobs VALUES (?, ?)", (KEY, value))
        for path in (database, blobs):
            _checkpoint(path)

        def read_blob() -> bytes:
            ((read,),) = connection.execute("SELECT data FROM blobs WHERE key = ?", (KEY,)).fetchall()
            return bytes(read)

        async def check(read: Callable[[], Awaitable[bytes]]) -> None:
            assert await read() == value

        def repeated(read: Callable[[], Awaitable[bytes]]) -> Iterator[Task]:
            return itertools.repeat(partial(_wait, loop, check, read))

        def first(path: Path, build: Callable[[], Callable[[], Awaitable[bytes]]]) -> Iterator[Task]:
            while True:
                read = build()
                _touch(path)
                yield partial(_wait, loop, check, read)

        blob = partial(asyncio.to_thread, read_blob)
        timings = interleave(
            {
                BLOB: repeated(blob),
                NORMAL: repeated(partial(storages[NORMAL][1].read, KEY)),
                FILES: repeated(partial(storages[FILES][1].read, KEY)),
                FIRST_BLOB: first(blobs, lambda: blob),
                FIRST: first(database, lambda: partial(SQLiteStorage(database).read, KEY)),
            },
            5 * rounds,
            3,
        )
    loop.close()
    report.table(
        f"Read a conversation of {history:,} messages back: milliseconds",
        ("", "ms", "over one blob", "budget"),
        [
            _reading(name, timing, timings[FIRST_BLOB if name in (FIRST, FIRST_BLOB) else BLOB])
            for name, timing in timings.items()
        ],
    )


def _reading(name: str, timing: Timing, blob: Timing) -> tuple[str, ...]:
    name = name.removesuffix(", NORMAL")
    if timing is blob:
        return name, str(timing.spread(1000)), "", ""
    ratio = timing.ratio(blob)
    return name, str(timing.spread(1000)), str(ratio), "" if name == FILES else verdict(ratio.middle, READ_BUDGET)


def snapshot(messages: list[Any], turn: int) -> bytes:
    """Return the bytes that `SnapshotSessionManager` stores."""
    front = {"scope": "agent", "schema_version": "1.0", "created_at": f"2026-01-31T09:30:00.{turn:06}Z"}
    data = {"messages": messages, "state": {}, "conversation_manager_state": {"removed_message_count": 0}}
    return json.dumps({**front, "data": data, "app_data": {}}, ensure_ascii=False).encode()


def _wait(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *arguments: Any) -> None:
    loop.run_until_complete(call(*arguments))


def _checkpoint(path: Path) -> None:
    """Checkpoint the write-ahead log, if the file is a database."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _touch(path: Path) -> None:
    """Write to a database, which empties the caches of its readers."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version}")
