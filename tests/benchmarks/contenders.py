"""The timed tasks of storing and reading: of bare SQLite, of this package and of other repositories."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from strands import Agent
from strands.hooks import MessageAddedEvent
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager

from .filling import AGENT_ID, HISTORY, INSERT_MESSAGE, WINDOW, build_agent, conversation, row
from .names import Synchronous
from .timing import Task

Append = tuple[str, int, Message]
SELECT = "SELECT message FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id"


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open a file as the package does."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    for pragma in ("foreign_keys = ON", "secure_delete = ON", f"synchronous = {synchronous}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def connect_to_append(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open a file to append to it with nothing but SQLite, without the trigger that keeps the last activity."""
    connection = connect(path, synchronous)
    connection.execute("DROP TRIGGER IF EXISTS messages_insert_activity")
    return connection


def appends_to(ids: Sequence[str]) -> Iterator[Append]:
    """Yield messages for sessions at random, with the ids that they have there."""
    rng, next_ids = random.Random(4), dict.fromkeys(ids, HISTORY)
    for message in conversation(5):
        session_id = rng.choice(ids)
        yield session_id, next_ids[session_id], message
        next_ids[session_id] += 1


def insert(connection: sqlite3.Connection, appends: Sequence[Append]) -> Iterator[Task]:
    """Insert rows with ready-made JSON."""
    for append in appends:
        yield partial(connection.execute, INSERT_MESSAGE, row(*append))


def dump_and_insert(connection: sqlite3.Connection, appends: Iterable[Append]) -> Iterator[Task]:
    """Insert messages after making their JSON."""

    def dump(append: Append) -> None:
        connection.execute(INSERT_MESSAGE, row(*append))

    for append in appends:
        yield partial(dump, append)


def create(repository: SessionRepository, appends: Iterable[Append]) -> Iterator[Task]:
    """Append messages through a repository."""
    for session_id, message_id, message in appends:
        yield partial(repository.create_message, session_id, AGENT_ID, SessionMessage(message, message_id))


def append(managers: Mapping[str, SQLiteSessionManager], appends: Sequence[Append]) -> Iterator[Task]:
    """Announce messages of live agents, as Strands does; now and then, the agent's context is trimmed in between."""
    agents = {session_id: build_agent(manager) for session_id, manager in managers.items()}
    loop = asyncio.new_event_loop()

    def announce(agent: Agent, message: Message) -> None:
        event = MessageAddedEvent(agent=agent, message=message)
        loop.run_until_complete(agent.hooks.invoke_callbacks_async(event))

    for session_id, _, message in appends:
        manager, agent = managers[session_id], agents[session_id]
        agent.messages.append(message)
        yield partial(announce, agent, message)
        if len(agent.messages) > WINDOW + 10:
            del agent.messages[:-WINDOW]
            manager.sync_agent(agent)
    loop.close()


def select(connection: sqlite3.Connection, ids: Sequence[str]) -> Iterator[Task]:
    """Read sessions at random with plain SQL."""

    def read(session_id: str) -> list[Any]:
        return [json.loads(text) for (text,) in connection.execute(SELECT, (session_id, AGENT_ID))]

    return each(read, ids)


def list_messages(repository: SessionRepository, ids: Sequence[str]) -> Iterator[Task]:
    """Read sessions at random through a repository."""
    return each(lambda session_id: repository.list_messages(session_id, AGENT_ID), ids)


def each(call: Callable[[str], object], ids: Sequence[str]) -> Iterator[Task]:
    """Call with random ids, forever."""
    rng = random.Random(6)
    while True:
        yield partial(call, rng.choice(ids))
