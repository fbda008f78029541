"""The tables: their hand-written DDL, and what the rest of the code knows about their columns.

Every table of sessions has a rowid. Clustered by key, messages of more than 1 KB would spill to overflow pages and
double the file (`python -m tests.benchmarks table` measures it).
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: Its name.
        keys: The columns that identify a row; in tables of sessions, the session's id comes first.
        ddl: The statement that creates it, one column a line.
        json: The columns that hold JSON.
        columns: All columns that hold stored content, in order. Columns that SQLite or a trigger fills are left out,
            such as `sequence`, and so is `revision`, which guards a row and is not part of its content.
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


# `active_at` is the last activity, kept by triggers (`schema.py`). A fork names the session that it was forked from,
# and the last copied message if one was asked for; it stays a fork when the original is deleted.
SESSIONS = Table(
    "sessions",
    ("session_id",),
    """
CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    session_type TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    active_at TEXT NOT NULL DEFAULT '',
    forked_from TEXT,
    forked_through INTEGER
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

# `revision` changes with every write except a plain append: a writer that knows another value is stale. It is random,
# so that an agent that was deleted and created again is not mistaken for the old one, and a writer recognizes its own.
# `context` says which messages the agent holds, see `context/ranges.py`; NULL means unknown.
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

# What an agent had until a message was added to its history: a row for each message after which something changed, with
# the changed columns. A `context` that was NULL is `[]`. Triggers (`schema.py`) write this table and the next one, and
# `context/checkpoints.py` reads them.
AGENT_VERSIONS = Table(
    "agent_versions",
    ("session_id", "agent_id", "before_message_id"),
    """
CREATE TABLE agent_versions (
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    before_message_id INTEGER NOT NULL,
    state TEXT,
    conversation_manager_state TEXT,
    internal_state TEXT,
    context TEXT,
    PRIMARY KEY (session_id, agent_id, before_message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents ON DELETE CASCADE
)
""",
    json=frozenset({"state", "conversation_manager_state", "internal_state", "context"}),
)

# The form in which the agent held a message until another was added; NULL means as it was said.
MESSAGE_VERSIONS = Table(
    "message_versions",
    ("session_id", "agent_id", "message_id", "before_message_id"),
    """
CREATE TABLE message_versions (
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    before_message_id INTEGER NOT NULL,
    edited_message TEXT,
    PRIMARY KEY (session_id, agent_id, message_id, before_message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents ON DELETE CASCADE
)
""",
    json=frozenset({"edited_message"}),
)

TABLES = (SESSIONS, METADATA, AGENTS, MESSAGES, MULTI_AGENTS, AGENT_VERSIONS, MESSAGE_VERSIONS)
"""Parents first."""

# What `SQLiteStorage` keeps, see `blobs/`. It belongs to no session.
STORAGE_VALUES = Table(
    "storage_values",
    ("key",),
    """
CREATE TABLE storage_values (
    value_id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    updated_at TEXT NOT NULL
)
""",
)

STORAGE_BLOCKS = Table(
    "storage_blocks",
    ("hash",),
    """
CREATE TABLE storage_blocks (
    block_id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    data BLOB NOT NULL
)
""",
)

# Clustered by key: its rows are a few bytes, and the rows of a value are read together.
STORAGE_PARTS = Table(
    "storage_parts",
    ("value_id", "position"),
    """
CREATE TABLE storage_parts (
    value_id INTEGER NOT NULL REFERENCES storage_values ON DELETE CASCADE,
    position INTEGER NOT NULL,
    block_id INTEGER NOT NULL REFERENCES storage_blocks,
    PRIMARY KEY (value_id, position)
) WITHOUT ROWID
""",
)

STORAGE_TABLES = (STORAGE_VALUES, STORAGE_BLOCKS, STORAGE_PARTS)
"""Parents first."""
