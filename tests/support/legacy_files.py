"""Writes legacy files, and says what an upgraded one must hold."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .numbered_messages import AGENT, SESSION, text

LAYOUT = """
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    data TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE agents (
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, agent_id),
    FOREIGN KEY (session_id) REFERENCES sessions(session_id) ON DELETE CASCADE
);
CREATE TABLE messages (
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    data TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, agent_id, message_id),
    FOREIGN KEY (session_id, agent_id) REFERENCES agents(session_id, agent_id) ON DELETE CASCADE
);
CREATE TABLE multi_agents (
    session_id TEXT NOT NULL,
    multi_agent_id TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, multi_agent_id),
    FOREIGN KEY (session_id) REFERENCES sessions(session_id) ON DELETE CASCADE
);
CREATE INDEX idx_messages_session_agent ON messages(session_id, agent_id);
CREATE INDEX idx_agents_session ON agents(session_id);
CREATE INDEX idx_multi_agents_session ON multi_agents(session_id);
"""
TABLES = ("sessions", "agents", "messages", "multi_agents")


@dataclass
class Contents:
    """What a file holds: Strands' own objects, with the ids of what they belong to."""

    sessions: list[Session] = field(default_factory=list)
    agents: list[tuple[str, SessionAgent]] = field(default_factory=list)
    messages: list[tuple[str, str, SessionMessage]] = field(default_factory=list)
    multi_agents: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


def write(path: Path, contents: Contents, journal_mode: str = "WAL") -> None:
    """Write a file and close it."""
    with closing(fill(path, contents, journal_mode)):
        pass


def write_in_use(path: Path, contents: Contents) -> None:
    """Write a file as a killed process leaves it: everything except the schema is in the write-ahead log."""
    living = path.with_name("living.db")
    with closing(fill(living, contents)):
        shutil.copy(living, path)
        shutil.copy(f"{living}-wal", f"{path}-wal")
    living.unlink()


def fill(path: Path, contents: Contents, journal_mode: str = "WAL") -> sqlite3.Connection:
    """Write a file and leave it open, with nothing checkpointed but its empty tables."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    connection.executescript(LAYOUT)
    if journal_mode == "WAL":
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    with connection:
        for session in contents.sessions:
            insert(connection, "sessions", session.session_id, session.to_dict())
        for session_id, agent in contents.agents:
            insert(connection, "agents", session_id, agent.agent_id, agent.to_dict())
        for session_id, agent_id, message in contents.messages:
            insert(connection, "messages", session_id, agent_id, message.message_id, message.to_dict())
        for session_id, multi_agent_id, state in contents.multi_agents:
            insert(connection, "multi_agents", session_id, multi_agent_id, state)
        connection.execute("UPDATE multi_agents SET updated_at = '2024-05-06 07:08:10'")
    return connection


def insert(connection: sqlite3.Connection, table: str, *values: Any) -> None:
    """Insert a row of 2024 whose last value is an object, stored as JSON."""
    *keys, data = values
    marks = ", ".join("?" for _ in keys)
    connection.execute(
        f"INSERT INTO {table} VALUES ({marks}, ?, '2024-05-06 07:08:09', '2024-05-06 07:08:09')",
        (*keys, json.dumps(data)),
    )


def rows(path: Path) -> dict[str, list[Any]]:
    """Return all that a file holds, table by table, as plain SQL sees it."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in TABLES}


def told(contents: Contents) -> list[str]:
    """Return everything in some contents as text, one line each."""
    return [
        *(json.dumps(session.to_dict()) for session in contents.sessions),
        *(json.dumps([session_id, agent.to_dict()]) for session_id, agent in contents.agents),
        *(json.dumps([*ids, message.to_dict()]) for *ids, message in contents.messages),
        *(json.dumps(multi_agent) for multi_agent in contents.multi_agents),
    ]


def read(repository: SessionRepository, like: Contents) -> Contents:
    """Read from a repository what has the same ids, and every message beside it."""
    agents = [(session_id, agent.agent_id) for session_id, agent in like.agents]
    return Contents(
        [_there(repository.read_session(session.session_id)) for session in like.sessions],
        [(session_id, _there(repository.read_agent(session_id, agent_id))) for session_id, agent_id in agents],
        [(*ids, message) for ids in agents for message in repository.list_messages(*ids)],
        [(*ids, _there(repository.read_multi_agent(*ids))) for *ids, _ in like.multi_agents],
    )


def _there(value: Any) -> Any:
    assert value is not None
    return value


def example() -> Contents:
    """Return a sample of everything that such a file can hold."""
    picture = {"image": {"format": "png", "source": {"bytes": bytes(range(256))}}}
    messages: list[Any] = [
        text("grüße, 世界 \U0001f9ed \x00 \udcff"),
        {"role": "user", "content": [{"text": "look"}, picture]},
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "1", "name": "see", "input": {"at": float("nan")}}}],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "status": "success", "content": [picture]}}]},
        {"role": "assistant", "content": [{"text": "a compass"}]},
    ]
    stored = [
        SessionMessage(
            message, index, created_at=f"2024-05-06T07:08:0{index}+00:00", updated_at="2024-06-01T00:00:00+00:00"
        )
        for index, message in enumerate(messages)
    ]
    redacted = SessionMessage({"role": "user", "content": [{"text": "a secret"}]}, 5, redact_message=text("[redacted]"))
    state = {"user": {"name": "Zoë", "limits": [1, 2.5, None, True, 2**70, float("inf")]}}
    agents = [
        SessionAgent(AGENT, state, {"__name__": "SlidingWindowConversationManager", "removed_message_count": 2}),
        SessionAgent("silent", {}, {"__name__": "NullConversationManager", "removed_message_count": 0}),
    ]
    orchestrator = {"type": "graph", "id": "graph", "status": "completed", "results": {"a": ["ü", float("nan"), 1]}}
    encoded = {"__bytes_encoded__": True, "data": "AAEC"}
    return Contents(
        [
            Session(SESSION, SessionType.AGENT, "2024-01-01T00:00:00+00:00", "2024-02-01T00:00:00.123456+00:00"),
            Session("empty", SessionType.AGENT),
        ],
        [(SESSION, agent) for agent in agents],
        [(SESSION, AGENT, message) for message in [*stored, redacted]],
        [(SESSION, "graph", orchestrator), (SESSION, "swarm", {"task": encoded})],
    )


def large(messages: int, size: int) -> Contents:
    """Return one long conversation, so that an upgrade takes a while and does not fit into SQLite's cache."""
    said = [SessionMessage(text(str(number) + " " * size), number) for number in range(messages)]
    agent = SessionAgent(AGENT, {}, {"__name__": "NullConversationManager", "removed_message_count": 0})
    return Contents(
        [Session(SESSION, SessionType.AGENT)], [(SESSION, agent)], [(SESSION, AGENT, message) for message in said]
    )
