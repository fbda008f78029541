"""What the benchmarks store: messages of about 350 bytes of text, and databases and folders full of them.

Unless told otherwise, a session holds 100 messages of one agent, whose sliding window is 40 messages. Sessions grow
side by side, as they do in practice: in a database, messages of all other sessions lie between two messages of a
session.
"""

import itertools
import json
import os
import random
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from strands import Agent
from strands.agent.conversation_manager import ConversationManager, SlidingWindowConversationManager
from strands.session.file_session_manager import FileSessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_manager import SessionManager
from strands.types.content import Message
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.scripted_model import ScriptedModel

AGENT_ID = "default"
HISTORY = 100  # messages of a session
WINDOW = 40  # messages that its agent holds
COMMIT_EVERY = 100_000  # messages
INSERT_MESSAGE = (
    "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message) VALUES (?, ?, ?, ?, ?, ?)"
)
NOW = "2026-01-31T09:30:00.000000+00:00"
_WORDS = (
    "a the of to in is it's if you can use this, list. value: between however remember question (see below)\n\n- ok?"
)
# Two messages in three are pure ASCII.
_VOCABULARY = _WORDS.split(" ") * 8 + ["café"]
_PROSE = " ".join(random.Random(0).choices(_VOCABULARY, k=20_000))


def conversation(seed: int = 0) -> Iterator[Message]:
    """Yield messages forever, of the user and the assistant in turn."""
    rng = random.Random(seed)
    for role in itertools.cycle(("user", "assistant")):
        start, length = rng.randrange(len(_PROSE) - 500), rng.randrange(250, 450)
        tracking_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        content = [{"text": _PROSE[start : start + length]}]
        yield cast(Message, {"role": role, "content": content, "tracking_id": tracking_id})


def session_ids(count: int) -> list[str]:
    """Name sessions in order of creation."""
    rng = random.Random(1)
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]


def row(session_id: str, message_id: int, message: Message) -> tuple[Any, ...]:
    """Return what `INSERT_MESSAGE` takes, with the text that the package would store."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return session_id, AGENT_ID, message_id, NOW, NOW, text


def build_agent(
    session_manager: SessionManager | None,
    messages: list[Message] | None = None,
    conversation_manager: ConversationManager | None = None,
    replies: int = 0,
) -> Agent:
    """Build an agent, with a sliding window unless another conversation manager is given."""
    return Agent(
        agent_id=AGENT_ID,
        model=ScriptedModel(*(message["content"][0]["text"] for message in itertools.islice(conversation(2), replies))),
        messages=messages,
        session_manager=session_manager,
        conversation_manager=conversation_manager or SlidingWindowConversationManager(WINDOW),
        callback_handler=None,
    )


def fill_database(path: Path, sessions: int, history: int = HISTORY) -> None:
    """Fill a file with sessions: the package makes the first one, which SQL then multiplies."""
    ids, stream = session_ids(sessions), conversation()
    with SQLiteSessionManager(ids[0], path, synchronous="NORMAL") as manager:
        agent = build_agent(manager, list(itertools.islice(stream, history)))
        agent.conversation_manager.apply_management(agent)
        manager.sync_agent(agent)
    others = [(session_id, ids[0]) for session_id in ids[1:]]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144")
        connection.execute("BEGIN")
        for table in ("sessions", "agents"):
            names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            connection.executemany(
                f"INSERT INTO {table} SELECT ?, {', '.join(names[1:])} FROM {table} WHERE session_id = ?", others
            )
        rng = random.Random(3)
        for message_id in range(history):
            rng.shuffle(others)
            connection.executemany(INSERT_MESSAGE, (row(other, message_id, next(stream)) for other, _ in others))
            if (message_id + 1) * len(others) % COMMIT_EVERY < len(others):
                connection.execute("COMMIT")
                connection.execute("BEGIN")
        connection.execute("COMMIT")


def copy_database(path: Path, name: str) -> Path:
    """Copy a database that nothing has open, and wait until it is on disk, so that measuring is not disturbed."""
    copy = path.with_name(f"{path.stem}-{name}.db")
    shutil.copyfile(path, copy)
    with copy.open("rb+") as file:
        os.fsync(file.fileno())
    return copy


def fill_folder(folder: Path, sessions: int, history: int = HISTORY) -> None:
    """Fill a folder with the same sessions, through `FileSessionManager`."""
    ids, stream = session_ids(sessions), conversation()
    managers = [FileSessionManager(session_id, str(folder)) for session_id in ids]
    for manager in managers:
        manager.create_agent(manager.session_id, SessionAgent(AGENT_ID, {}, {}))
    for message_id in range(history):
        for manager in managers:
            manager.create_message(manager.session_id, AGENT_ID, SessionMessage(next(stream), message_id))


def fill_bucket(manager: S3SessionManager, sessions: int) -> None:
    """Fill the bucket of a manager with the same sessions, some at a time."""

    def fill(session_id: str) -> None:
        if session_id != manager.session_id:
            manager.create_session(Session(session_id, SessionType.AGENT))
        manager.create_agent(session_id, SessionAgent(AGENT_ID, {}, {}))
        for message_id, message in enumerate(itertools.islice(conversation(), HISTORY)):
            manager.create_message(session_id, AGENT_ID, SessionMessage(message, message_id))

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(fill, session_ids(sessions)))
