"""What a deletion costs in small and in large files.

Sessions of 100 messages are deleted one by one from files that hold many like them. A deletion returns when what it
removed is overwritten, and gone from the write-ahead log as well. Its cost must not depend on the size of the file:
"over the smallest" is the time over that in the smallest file, in the same round. "Bare SQLite" deletes the same rows
with the same pragmas and empties the write-ahead log, too.

A redaction overwrites the newest message of a live agent.

Figures are medians, with the quartiles in brackets.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from strands.types.content import Message

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .contenders import connect
from .filling import HISTORY, build_agent, copy_database, fill_database, session_ids
from .names import BARE, OURS, without_mode
from .report import Report, verdict
from .timing import Task, Timing, measure

SESSIONS_PER_MB = 15  # of 100 messages
BUDGET = 1.5  # times
BATCH = 3
REDACTION = "a redaction"
REDACTED: Message = {"role": "user", "content": [{"text": "[redacted]"}]}


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take a smaller file, and fewer rounds.
        report: Where the figures go.
    """
    megabytes = (6, 60) if quick else (6, 600)
    rounds = 5 if quick else 12
    with ExitStack() as stack:
        contenders: dict[tuple[int, str], Iterator[Task]] = {}
        sizes: dict[int, float] = {}
        for size in megabytes:
            filled = folder / f"{size}.db"
            fill_database(filled, size * SESSIONS_PER_MB)
            sizes[size] = filled.stat().st_size / 1e6
            ids = _spread(session_ids(size * SESSIONS_PER_MB), (rounds + 1) * BATCH)
            for name, tasks in _TASKS.items():
                contenders[size, name] = tasks(copy_database(filled, without_mode(name)), ids, stack)
        timings = measure(contenders, rounds, BATCH)
    report.table(
        f"Delete a session of {HISTORY} messages: milliseconds",
        ("", "file, MB", "ms", "over bare", "over the smallest", "budget"),
        [_row(timings, size, name, sizes[size], megabytes[0]) for name in _TASKS for size in megabytes],
    )


def _row(timings: dict[tuple[int, str], Timing], size: int, name: str, megabytes: float, smallest: int) -> list[str]:
    timing = timings[size, name]
    ratio = timing.ratio(timings[smallest, name])
    is_ours, is_smallest = name not in BARE.values(), size == smallest
    return [
        without_mode(name),
        f"{megabytes:,.0f}",
        str(timing.spread(1000)),
        str(timing.ratio(timings[size, BARE["FULL"]])) if name in OURS.values() else "",
        "" if is_smallest else str(ratio),
        verdict(ratio.middle, BUDGET) if is_ours and not is_smallest else "",
    ]


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """Return some of the ids, from all over the file."""
    return [ids[index * len(ids) // count] for index in range(count)]


def _bare(path: Path, ids: Sequence[str], stack: ExitStack) -> Iterator[Task]:
    connection = stack.enter_context(closing(connect(path, "FULL")))

    def delete(session_id: str) -> None:
        connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    return (partial(delete, session_id) for session_id in ids)


def _ours(path: Path, ids: Sequence[str], stack: ExitStack) -> Iterator[Task]:
    repository = stack.enter_context(SQLiteSessionRepository(path))
    return (partial(repository.delete_session, session_id) for session_id in ids)


def _redactions(path: Path, ids: Sequence[str], stack: ExitStack) -> Iterator[Task]:
    for session_id in itertools.cycle(ids):
        with SQLiteSessionManager(session_id, path) as manager:
            agent = build_agent(manager)
            agent("a secret")
            yield partial(manager.redact_latest_message, REDACTED, agent)


_TASKS = {BARE["FULL"]: _bare, OURS["FULL"]: _ours, REDACTION: _redactions}
