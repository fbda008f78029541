"""The tables: their hand-written DDL, and what the rest of the code knows of their columns.

Every table has a rowid. Clustered by their keys, messages of more than 1 KB would spill to overflow pages and double
the file (`python -m tests.benchmarks table` measures it).
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """One table of a session's rows.

    Attributes:
        name: Its name.
        keys: The columns that identify a row, the session's id first.
        ddl: The statement that creates it, one column a line.
        json: The columns that hold JSON.
        columns: All columns that hold what was stored, in order. Left out are those that SQLite or a trigger fills:
            `sequence`, and `revision`, which guards a row and is not a part of it.
        insert: The statement that stores a row: one parameter for each of `columns`.
    """

    name: str
    keys: tuple[str, ...]
    ddl: str
    json: frozenset[str] = frozenset()
    columns: tuple[str, ...] = field(init=False)
    insert: str = field(init=False)

    def __post_init__(self) -> None:
        names = re.findall(r"^    ([a-z_]+) ", self.ddl, re.MULTILINE)
        stored = tuple(name for name in names if name not in ("sequence", "revision"))
        object.__setattr__(self, "columns", stored)
        parameters = ", ".join("?" * len(stored))
        object.__setattr__(self, "insert", f"INSERT INTO {self.name} ({', '.join(stored)}) VALUES ({parameters})")


# `active_at` is the last activity, kept by triggers (`schema.py`).
SESSIONS = Table(
    "sessions",
    ("session_id",),
    """
CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    session_type TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    active_at TEXT NOT NULL DEFAULT ''
)
""",
)

# Rows, so that one index finds every key equally fast.
METADATA = Table(
    "session_metadata",
    ("session_id", "key"),
    """
CREATE TABLE session_metadata (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (session_id, key)
)
""",
)

# `revision` changes with every write but a plain append: a writer that knows another value is stale. It is random, so
# that a deleted agent that was created again is not taken for the one before, and a writer knows its own.
# `context` says which messages the agent holds, see `context/ranges.py`; NULL is unknown.
AGENTS = Table(
    "agents",
    ("session_id", "agent_id"),
    """
CREATE TABLE agents (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    agent_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    state TEXT NOT NULL,
    conversation_manager_state TEXT NOT NULL,
    internal_state TEXT NOT NULL,
    context TEXT,
    revision INTEGER NOT NULL DEFAULT (random() >> 2),
    PRIMARY KEY (session_id, agent_id)
)
""",
    json=frozenset({"state", "conversation_manager_state", "internal_state", "context"}),
)

# `message` is what was said and stays; `edited_message` is how the agent holds it now, where that differs.
# `sequence` is the order of storing, which VACUUM keeps because the column has a name.
MESSAGES = Table(
    "messages",
    ("session_id", "agent_id", "message_id"),
    """
CREATE TABLE messages (
    sequence INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    message TEXT NOT NULL,
    redact_message TEXT,
    edited_message TEXT,
    UNIQUE (session_id, agent_id, message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents ON DELETE CASCADE
)
""",
    json=frozenset({"message", "redact_message", "edited_message"}),
)

MULTI_AGENTS = Table(
    "multi_agents",
    ("session_id", "multi_agent_id"),
    """
CREATE TABLE multi_agents (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    multi_agent_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    state TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT (random() >> 2),
    PRIMARY KEY (session_id, multi_agent_id)
)
""",
    json=frozenset({"state"}),
)

TABLES = (SESSIONS, METADATA, AGENTS, MESSAGES, MULTI_AGENTS)
"""Parents first."""
