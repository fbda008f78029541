"""The shape of the table `messages`, and its page size.

A session store appends one message to one of many live sessions, reads one whole session back in order, and deletes a
session. The table's shape decides what these cost in a large file:

- `clustered`: WITHOUT ROWID, PRIMARY KEY (session_id, agent_id, message_id). A session is stored together, but rows
  arrive in the middle of the tree, and full pages rebalance;
- `sequence`: an integer primary key, and the ids in a separate index. Rows go to the end of the table, and a session is
  scattered over as many pages as messages. The package has this one;
- `keyed`: WITHOUT ROWID, PRIMARY KEY (agent_key, message_id), where `agent_key` is the integer key of the agent's row.
  No text ids in messages: the compact reference.

Messages arrive interleaved: each round gives every session one message, in a shuffled order. Most are loaded in large
transactions. The rest is appended, one transaction each, and read in turns that rotate over all files, so that noise
hits all alike; the median turn counts. Then follow cold reads, growth of the write-ahead log, large messages and
deletions. Means stand beside medians because few statements pay for a checkpoint.

The columns: `load_s`, seconds to load; `file_mib`, the size. Microseconds of an append: `append` (median), `p95`,
`mean`, and `small` (median in a small file). Microseconds for each message of a session that is read: `read` (again),
`reopened` (first, by a new connection), `cold` (first, off the disk). `wal_b`: bytes of the write-ahead log for each
append. `big_append`, `big_read`: microseconds of a message of 20 KB. `del_ms`, `del_mean`: milliseconds to delete a
session.
"""

import itertools
import json
import os
import random
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, quantiles
from typing import NamedTuple

from .report import Report

MESSAGE_BYTES, MESSAGES_OF_A_SESSION = 350, 100
TURNS, APPENDS, READS, WAL_APPENDS, DELETES, COLD_READS = 3, 20_000, 2_000, 2_000, 200, 100
LARGE_MESSAGES, LARGE_BYTES, SMALL_MESSAGES, SMALL_APPENDS = 200, 20_000, 10_000, 6_000
LOAD_BATCH, LOAD_CACHE = 50_000, "PRAGMA cache_size = -262144"
AGENT_ID, NOW = "default", "2025-01-01T00:00:00.000000+00:00"
Values = tuple[object, ...]

TIMES = "created_at TEXT NOT NULL, updated_at TEXT NOT NULL"
SESSIONS = f"CREATE TABLE sessions (session_id TEXT PRIMARY KEY NOT NULL, {TIMES}) WITHOUT ROWID;"
AGENT = "session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, agent_id TEXT NOT NULL"
AGENTS = f"""CREATE TABLE agents ({AGENT}, {TIMES},
    PRIMARY KEY (session_id, agent_id)) WITHOUT ROWID;"""
KEYED_AGENTS = f"""CREATE TABLE agents (agent_key INTEGER PRIMARY KEY, {AGENT}, {TIMES},
    UNIQUE (session_id, agent_id));"""
BODY = f"""message_id INTEGER NOT NULL, message TEXT NOT NULL,
    redact_message TEXT, edited_message TEXT, {TIMES}"""
MESSAGES = f"""CREATE TABLE messages (%s session_id TEXT NOT NULL, agent_id TEXT NOT NULL, {BODY},
    %s (session_id, agent_id, message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents ON DELETE CASCADE)"""
KEYED_MESSAGES = f"""CREATE TABLE messages (
    agent_key INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE, {BODY},
    PRIMARY KEY (agent_key, message_id)) WITHOUT ROWID;"""
ADD_SESSION = "INSERT INTO sessions VALUES (?, ?, ?)"
ADD_AGENT = "INSERT INTO agents (session_id, agent_id, created_at, updated_at) VALUES (?, ?, ?, ?)"
COLUMNS = "session_id, agent_id, message_id, message, redact_message, edited_message, created_at, updated_at"
DELETE = "DELETE FROM sessions WHERE session_id = ?"
KEY = "(SELECT agent_key FROM agents WHERE session_id = ? AND agent_id = ?)"
SELECT = "SELECT message_id, message, redact_message, edited_message FROM messages"


class Shape(NamedTuple):
    """The statements that differ between table shapes."""

    schema: str
    insert: str = f"INSERT INTO messages ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    select: str = f"{SELECT} WHERE session_id = ? AND agent_id = ? ORDER BY message_id"


SHAPES = {
    "clustered": Shape(SESSIONS + AGENTS + MESSAGES % ("", "PRIMARY KEY") + "WITHOUT ROWID"),
    "sequence": Shape(SESSIONS + AGENTS + MESSAGES % ("sequence INTEGER PRIMARY KEY,", "UNIQUE")),
    "keyed": Shape(
        SESSIONS + KEYED_AGENTS + KEYED_MESSAGES,
        f"INSERT INTO messages VALUES ({KEY}, ?, ?, ?, ?, ?, ?)",
        f"{SELECT} WHERE agent_key = {KEY} ORDER BY message_id",
    ),
}


@dataclass
class Row:
    """One line of the printed table: a combination, and its figures by column name."""

    shape: str
    page: int
    figures: dict[str, float] = field(default_factory=dict)


def message(session_id: str, message_id: int, size: int) -> Values:
    """Return the values of one messages row with `size` bytes of JSON."""
    text = json.dumps({"role": "assistant", "content": "x" * (size - 36)})
    return session_id, AGENT_ID, message_id, text, None, None, NOW, NOW


def message_stream(session_ids: Iterable[str], size: int) -> Iterator[Values]:
    """Yield messages within 30% of `size` forever: a shuffled round has one per session."""
    rng, order = random.Random(1), list(session_ids)
    for message_id in itertools.count(1):
        rng.shuffle(order)
        for session_id in order:
            yield message(session_id, message_id, int(size * rng.uniform(0.7, 1.3)))


def timed(connection: sqlite3.Connection, sql: str, values: Values) -> tuple[float, list[Values]]:
    """Run one statement to its end; return microseconds and rows."""
    start = time.perf_counter_ns()
    rows = connection.execute(sql, values).fetchall()
    return (time.perf_counter_ns() - start) / 1000, rows


class Database:
    """One database file, the messages that it has yet to receive, and its result row."""

    def __init__(self, row: Row, path: Path, ids: list[str]) -> None:
        """Create the file, empty but for its sessions."""
        self.row, self.shape, self.path, self.ids = row, SHAPES[row.shape], path, ids
        self.stream = message_stream(ids, MESSAGE_BYTES)
        self.pragmas = f"""PRAGMA page_size = {row.page}; PRAGMA journal_mode = WAL;
            PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;"""
        path.unlink(missing_ok=True)
        with closing(self.connect()) as connection:
            connection.executescript(self.shape.schema)
            self.add_sessions(connection, ids)

    def connect(self) -> sqlite3.Connection:
        """Open the file in autocommit mode with the pragmas under test."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.executescript(self.pragmas)
        return connection

    def add_sessions(self, connection: sqlite3.Connection, ids: Iterable[str]) -> None:
        """Insert sessions with one agent each, in one transaction."""
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for name in ids:
                connection.execute(ADD_SESSION, (name, NOW, NOW))
                connection.execute(ADD_AGENT, (name, AGENT_ID, NOW, NOW))

    def load(self, count: int) -> float:
        """Load `count` messages in large transactions; return seconds."""
        seconds = 0.0
        with closing(self.connect()) as connection:
            connection.execute(LOAD_CACHE)
            for first in range(0, count, LOAD_BATCH):
                batch = list(itertools.islice(self.stream, min(LOAD_BATCH, count - first)))
                start = time.perf_counter()
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(self.shape.insert, batch)
                seconds += time.perf_counter() - start
        return seconds

    def append(self, connection: sqlite3.Connection, messages: Iterable[Values]) -> list[float]:
        """Append messages one by one; return microseconds."""
        return [timed(connection, self.shape.insert, values)[0] for values in list(messages)]

    def read(self, connection: sqlite3.Connection, session_id: str) -> float:
        """Read one session back; return microseconds per message."""
        elapsed, rows = timed(connection, self.shape.select, (session_id, AGENT_ID))
        return elapsed / len(rows)

    def warm(self) -> None:
        """Bring the file into the OS cache."""
        with self.path.open("rb") as file:
            while file.read(2**24):
                pass

    def take_turn(self, appends: int, seed: int) -> dict[str, float]:
        """Append, reopen, and read each of some sessions twice."""
        self.warm()
        with closing(self.connect()) as connection:
            times = self.append(connection, itertools.islice(self.stream, appends))
        names = random.Random(seed).choices(self.ids, k=READS // TURNS)
        with closing(self.connect()) as connection:
            reads = [(self.read(connection, name), self.read(connection, name)) for name in names]
        first, again = map(median, zip(*reads, strict=True))
        figures = {"append": median(times), "p95": quantiles(times, n=20)[-1], "mean": mean(times)}
        return figures | {"read": again, "reopened": first}

    def read_cold(self) -> float:
        """Drop the file from the OS cache, where the platform can; return the median read."""
        if not hasattr(os, "posix_fadvise"):
            return float("nan")
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        names = random.Random(2).choices(self.ids, k=COLD_READS)
        with closing(self.connect()) as connection:
            return median(self.read(connection, name) for name in names)

    def write(self) -> dict[str, float]:
        """Measure WAL growth, then large messages, then deletes of whole sessions."""
        self.warm()
        with closing(self.connect()) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self.append(connection, itertools.islice(self.stream, WAL_APPENDS))
            wal = Path(f"{self.path}-wal").stat().st_size
        figures = {"wal_b": wal / WAL_APPENDS}
        doomed = random.Random(3).sample(self.ids, min(DELETES, len(self.ids)))
        with closing(self.connect()) as connection:
            self.add_sessions(connection, ["large"])
            large = (message("large", number, LARGE_BYTES) for number in range(LARGE_MESSAGES))
            figures["big_append"] = median(self.append(connection, large))
            figures["big_read"] = median(self.read(connection, "large") for _ in range(5))
            times = [timed(connection, DELETE, (name,))[0] / 1000 for name in doomed]
        return figures | {"del_ms": median(times), "del_mean": mean(times)}


def grow(folder: Path, pages: Iterable[int], messages: int, appends: int) -> list[Database]:
    """Load a database per page size and shape, then append the rest in rotating turns."""
    rng = random.Random(0)
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(messages // MESSAGES_OF_A_SESSION)]
    databases = []
    for page, name in itertools.product(pages, SHAPES):
        path = folder / f"{name}-{page}-{messages}.db"
        databases.append(Database(Row(name, page), path, ids))
        databases[-1].row.figures["load_s"] = databases[-1].load(messages - appends)
    turns: dict[Path, list[dict[str, float]]] = {database.path: [] for database in databases}
    for turn in range(TURNS):
        first = turn * len(databases) // TURNS
        for database in databases[first:] + databases[:first]:
            turns[database.path].append(database.take_turn(appends // TURNS, turn))
    for database in databases:
        database.row.figures["file_mib"] = database.path.stat().st_size / 2**20
        for key in turns[database.path][0]:
            database.row.figures[key] = median(taken[key] for taken in turns[database.path])
    return databases


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure every combination.

    Args:
        folder: Where the files go.
        quick: Take smaller files, and fewer page sizes.
        report: Where the figures go.
    """
    messages = 50_000 if quick else 1_000_000
    pages = (4096, 16384) if quick else (4096, 8192, 16384)
    databases = grow(folder, pages, messages, min(APPENDS, messages // 2))
    small = grow(folder, pages, SMALL_MESSAGES, SMALL_APPENDS)
    for database, reference in zip(databases, small, strict=True):
        database.row.figures["small"] = reference.row.figures["append"]
        database.row.figures["cold"] = database.read_cold()
        database.row.figures.update(database.write())
    rows = [database.row for database in databases]
    report.table(
        f"{messages:,} messages, NORMAL",
        ("shape", "page", *rows[0].figures),
        [(row.shape, f"{row.page:,}", *(f"{figure:,.1f}" for figure in row.figures.values())) for row in rows],
    )
