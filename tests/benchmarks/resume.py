"""What it costs to be able to resume exactly: the time and the bytes of a turn, and the size of the file.

A turn is a message of the user and the model's answer, of some 350 bytes each. "history" is what the
conversation held before: with "all", the agent holds it all (`NullConversationManager`), with "40" it holds a
sliding window of 40 messages. "overhead" is what a turn takes beyond the same turn without a session manager,
in the same round; "bytes" is what a turn hands to the system to be written (`wchar` of `/proc/self/io`), here
with a checkpoint of the write-ahead log in the end. The built-in managers write plain files and sync none of
them to disk; `FileSessionManager` does not resume exactly. Figures are medians, with the quartiles in brackets.

Last comes the size of a file after many turns under a sliding window of 40 messages, over the size of the
same messages alone in the same table.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.session.file_session_manager import FileSessionManager
from strands.session.session_manager import SessionManager

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .filling import WINDOW, build_agent, conversation
from .timing import Task, Timing, bytes_written, interleave, print_table, verdict

WARM_UP, BATCH = 2, 2  # rounds, and the turns that each contender has in one
DATABASE = "sessions.db"
SIZE_BUDGET = 1.3  # times
NONE, OURS = "no session manager", "SQLiteSessionManager, FULL"
Open = Callable[[Path], SessionManager | None]


def _snapshots(folder: Path) -> SessionManager:
    from strands.session.snapshot_session_manager import SnapshotSessionManager
    from strands.storage import LocalFileStorage

    return SnapshotSessionManager("benchmark", storage=LocalFileStorage(str(folder)))


MANAGERS: dict[str, Open] = {
    NONE: lambda folder: None,
    OURS: lambda folder: SQLiteSessionManager("benchmark", folder / DATABASE),
    "SQLiteSessionManager, NORMAL": lambda folder: SQLiteSessionManager(
        "benchmark", folder / DATABASE, synchronous="NORMAL"
    ),
    "SnapshotSessionManager": _snapshots,
    "FileSessionManager": lambda folder: FileSessionManager("benchmark", str(folder)),
}


def run(folder: Path, quick: bool) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take shorter histories, and fewer rounds.
    """
    rounds = 10 if quick else 50
    for history, window in itertools.product((100, 1000) if quick else (100, 1000, 5000), ("all", str(WINDOW))):
        measure_turns(folder / f"{history}-{window}", history, window, rounds)
    measure_file(folder / "size", 200 if quick else 1000)


def measure_turns(folder: Path, history: int, window: str, rounds: int) -> None:
    """Have turns with every session manager."""
    agents = {}
    for name, open_manager in MANAGERS.items():
        try:
            manager = open_manager(folder / name)
        except ImportError:  # this Strands has no snapshots yet
            continue
        agents[name] = _begin(manager, history, window, (WARM_UP + rounds) * BATCH)
    contenders = {name: _turns(agent) for name, agent in agents.items()}
    interleave(contenders, WARM_UP, BATCH)
    for name in agents:
        _checkpoint(folder / name)
    timings = interleave(contenders, rounds, BATCH)
    for name, timing in timings.items():
        before = bytes_written()
        _checkpoint(folder / name)
        timing.written += bytes_written() - before
    print_table(
        f"A turn: history {history:,}, window {window}",
        ("", "turn, ms", "overhead, ms", "over ours", "bytes", "over ours"),
        _rows(timings),
        labels=1,
    )


def measure_file(folder: Path, turns: int) -> None:
    """Let a conversation go on under a sliding window, and look at the file."""
    path, alone = folder / DATABASE, folder / "alone" / DATABASE
    with SQLiteSessionManager("benchmark", path, synchronous="NORMAL") as manager:
        for turn in itertools.islice(_turns(_begin(manager, 0, str(WINDOW), turns)), turns):
            turn()
    with SQLiteSessionRepository(alone), closing(sqlite3.connect(alone)) as connection:
        connection.execute("ATTACH ? AS whole", (str(path),))
        names = "session_id, agent_id, message_id, created_at, updated_at, message"
        connection.execute(f"INSERT INTO messages ({names}) SELECT {names} FROM whole.messages ORDER BY message_id")
        connection.commit()
    for place in (folder, alone.parent):
        _checkpoint(place)
    size, size_alone = path.stat().st_size, alone.stat().st_size
    print_table(
        f"The file after {turns:,} turns under a sliding window of {WINDOW} messages: bytes",
        ("", "the file", "messages alone", "ratio", "budget"),
        [("", f"{size:,}", f"{size_alone:,}", f"{size / size_alone:.2f}", verdict(size / size_alone, SIZE_BUDGET))],
        labels=1,
    )


def _begin(session_manager: SessionManager | None, history: int, window: str, turns: int) -> Agent:
    """Build an agent with a history, and with answers for so many turns."""
    messages = list(itertools.islice(conversation(), history))
    kind = NullConversationManager() if window == "all" else None
    return build_agent(session_manager, messages, kind, replies=turns)


def _turns(agent: Agent) -> Iterator[Task]:
    for message in conversation(7):
        yield partial(agent, message["content"][0]["text"])


def _checkpoint(folder: Path) -> None:
    """Move what is in the write-ahead log into the database, if there is one."""
    path = folder / DATABASE
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rows(timings: dict[str, Timing]) -> Iterator[Sequence[str]]:
    none, ours = timings[NONE], timings[OURS]
    written = {name: (timing.written - none.written) / timing.count for name, timing in timings.items()}
    for name, timing in timings.items():
        cells = [name, str(timing.spread(scale=1000))]
        if timing is none:
            yield (*cells, "", "", "", "")
            continue
        overhead, ours_overhead = timing.excess(none, scale=1000), ours.excess(none, scale=1000)
        yield (
            *cells,
            str(overhead),
            _over(overhead.middle, ours_overhead.middle),
            f"{written[name]:,.0f}",
            _over(written[name], written[OURS]),
        )


def _over(figure: float, ours: float) -> str:
    """Divide, unless there is too little, or too much noise, to divide by."""
    return f"{figure / ours:.2f}" if ours > 0 else "?"
