"""How much space conversations take.

Messages of about 350 bytes, in sessions of 100 that an agent holds whole: in one database, as one file for each message
(or one object of S3), or as one snapshot for each session. "bare SQLite" has the same rows in the same table, and no
sessions or agents. "on disk" counts the blocks of the file system, which files fill only partly.

Then comes the size of a database after many turns under a sliding window of 40 messages, over the size of the messages
alone: the cost of resuming exactly, from the end and from every earlier message. Last comes what a turn then writes,
with and without the versions that forks and rewinds need.
"""

import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from strands.agent.conversation_manager import NullConversationManager

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .filling import HISTORY, WINDOW, build_agent, conversation, session_ids
from .names import BARE, OURS, S3, without_mode
from .report import Bars, Report, verdict
from .stores import DATABASE, Open, close, s3_server, stores

SIZE_BUDGET = 1.4  # times
TURN_BUDGET = 1.2  # times


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take fewer messages.
        report: Where the figures go.
    """
    measure_stores(folder / "stores", 10 if quick else 100, report)
    measure_window(folder / "window", 200 if quick else 1000, report)
    measure_turns(folder / "turns", 50 if quick else 200, report)


def measure_stores(folder: Path, sessions: int, report: Report) -> None:
    """Store the same conversations everywhere, and measure the space."""
    sizes: dict[str, list[int]] = {}
    on_disk: dict[str, int] = {}
    with s3_server() as server:
        openers = stores(server)
        del openers[OURS["NORMAL"]]  # stores the same as FULL
        for name, open_store in openers.items():
            _store(open_store, folder / name, sessions, threads=8 if name == S3 else 1)
        sizes[S3] = list(server.sizes(folder / S3))
    _copy_messages(folder / OURS["FULL"] / DATABASE, folder / BARE["FULL"] / DATABASE)
    for name in (BARE["FULL"], *openers):
        if name != S3:
            stats = [path.stat() for path in (folder / name).rglob("*") if path.is_file()]
            sizes[name] = [stat.st_size for stat in stats]
            on_disk[name] = sum(getattr(stat, "st_blocks", 0) * 512 for stat in stats)
    total = {name: sum(sizes[name]) for name in (BARE["FULL"], *openers)}
    report.table(
        f"{sessions * HISTORY:,} messages in {sessions} sessions",
        ("", "files or objects", "bytes", "for each message", "over bare", "over ours", "on disk"),
        [
            (
                without_mode(name),
                f"{len(sizes[name]):,}",
                f"{size:,}",
                f"{size / sessions / HISTORY:,.0f}",
                "" if name in BARE.values() else f"{size / total[BARE['FULL']]:.2f}",
                "" if name in OURS.values() else f"{size / total[OURS['FULL']]:.2f}",
                f"{on_disk[name]:,}" if on_disk.get(name) else "",
            )
            for name, size in total.items()
        ],
    )
    title = f"What {sessions * HISTORY:,} messages of 350 bytes take (less is better)"
    notes = {}
    for name, size in total.items():
        files = f"{len(sizes[name]):,} {'object' if name == S3 else 'file'}{'s' if len(sizes[name]) > 1 else ''}"
        blocks = f", {on_disk[name] / 1e6:,.1f} MB on disk" if on_disk.get(name) else ""
        notes[name] = f"{size / 1e6:,.1f} MB in {files}{blocks}"
    report.chart(Bars("size", title, "MB", {name: size / 1e6 for name, size in total.items()}, notes))


def measure_window(folder: Path, turns: int, report: Report) -> None:
    """Continue a conversation under a sliding window, and measure the file."""
    path, alone = folder / DATABASE, folder / "alone" / DATABASE
    with SQLiteSessionManager("benchmark", path, synchronous="NORMAL") as manager:
        agent = build_agent(manager, replies=turns)
        for message in itertools.islice(conversation(7), turns):
            agent(message["content"][0]["text"])
    _copy_messages(path, alone)
    size, size_alone = path.stat().st_size, alone.stat().st_size
    report.table(
        f"The file after {turns:,} turns under a sliding window of {WINDOW} messages: bytes",
        ("the file", "messages alone", "ratio", "budget"),
        [(f"{size:,}", f"{size_alone:,}", f"{size / size_alone:.2f}", verdict(size / size_alone, SIZE_BUDGET))],
        labels=0,
    )


def measure_turns(folder: Path, turns: int, report: Report) -> None:
    """Count the pages that a turn under a sliding window writes to the write-ahead log."""
    pages: dict[bool, float] = {}
    for versions in (True, False):
        path = folder / str(versions) / DATABASE
        manager = SQLiteSessionManager("benchmark", path, synchronous="NORMAL")
        with manager, closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if not versions:
                connection.execute("DROP TRIGGER agents_version")
            agent = build_agent(manager, replies=WINDOW + turns)
            for number in range(WINDOW):
                agent(f"turn {number}")
            written = 0
            for number in range(turns):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                agent(f"turn {number}")
                written += connection.execute("PRAGMA wal_checkpoint").fetchone()[1]
            pages[versions] = written / turns
    ratio = pages[True] / pages[False]
    report.table(
        f"A turn under a sliding window of {WINDOW} messages: pages of 4,096 bytes that it writes",
        ("with versions", "without", "ratio", "budget"),
        [(f"{pages[True]:.1f}", f"{pages[False]:.1f}", f"{ratio:.2f}", verdict(ratio, TURN_BUDGET))],
        labels=0,
    )


def _store(open_store: Open, folder: Path, sessions: int, threads: int) -> None:
    """Have agents store their conversations."""

    def store(session_id: str, start: int) -> None:
        messages = list(itertools.islice(conversation(start), HISTORY))
        manager = open_store(folder, session_id)
        manager.sync_agent(build_agent(manager, messages, NullConversationManager()))
        close(manager)

    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(store, session_ids(sessions), range(sessions)))


def _copy_messages(path: Path, alone: Path) -> None:
    """Create a file with only the messages of another."""
    names = "session_id, agent_id, message_id, created_at, updated_at, message"
    with SQLiteSessionRepository(alone), closing(sqlite3.connect(alone)) as connection:
        connection.execute("ATTACH ? AS whole", (str(path),))
        connection.execute(f"INSERT INTO messages ({names}) SELECT {names} FROM whole.messages ORDER BY rowid")
        connection.commit()
