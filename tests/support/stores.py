"""Stores of every kind that sessions are copied between, and what each holds, seen from outside."""

import copy
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import moto.backends
import pytest
from moto.server import ThreadedMotoServer
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.s3_session_manager import S3SessionManager
from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.transfer.stores import FileSessionRepository, S3SessionRepository

from .fresh_processes import held_by
from .orchestrators import build_team, ran
from .recording_manager import written
from .records import Orchestrator

BUCKET = "sessions"
KINDS = ("sqlite", "files", "s3", "memory")


class MemoryRepository(SessionRepository):
    """A repository that another program wrote: it cannot list what it holds, and accepts everything.

    Attributes:
        sessions: The sessions by their ids.
        agents: The agents by the ids of session and agent.
        messages: The messages of each of these.
        multi_agents: The states by the ids of session and orchestrator.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.agents: dict[tuple[str, str], SessionAgent] = {}
        self.messages: dict[tuple[str, str], dict[int, SessionMessage]] = {}
        self.multi_agents: dict[tuple[str, str], dict[str, Any]] = {}

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        self.sessions[session.session_id] = copy.deepcopy(session)
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        return copy.deepcopy(self.sessions.get(session_id))

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        self.agents[session_id, session_agent.agent_id] = copy.deepcopy(session_agent)
        self.messages[session_id, session_agent.agent_id] = {}

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        return copy.deepcopy(self.agents.get((session_id, agent_id)))

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        self.agents[session_id, session_agent.agent_id] = copy.deepcopy(session_agent)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        self.messages[session_id, agent_id][session_message.message_id] = copy.deepcopy(session_message)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        return copy.deepcopy(self.messages[session_id, agent_id].get(message_id))

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        self.create_message(session_id, agent_id, session_message)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        in_order = [message for _, message in sorted(self.messages[session_id, agent_id].items())]
        return copy.deepcopy(in_order[offset : None if limit is None else offset + limit])

    def create_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        self.multi_agents[session_id, multi_agent.id] = copy.deepcopy(multi_agent.serialize_state())

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        return copy.deepcopy(self.multi_agents.get((session_id, multi_agent_id)))

    def update_multi_agent(self, session_id: str, multi_agent: Any, **kwargs: Any) -> None:
        self.create_multi_agent(session_id, multi_agent)

    def content(self, session_id: str) -> dict[str, str]:
        """Everything that the store holds of a session, as text."""
        return {
            "session": repr(self.sessions.get(session_id)),
            **{f"agent {key[1]}": repr(agent) for key, agent in self.agents.items() if key[0] == session_id},
            **{f"messages of {key[1]}": repr(all_) for key, all_ in self.messages.items() if key[0] == session_id},
            **{f"state of {key[1]}": repr(state) for key, state in self.multi_agents.items() if key[0] == session_id},
        }


@dataclass(frozen=True)
class Store:
    """A store.

    Attributes:
        kind: One of the `KINDS`.
        whole: Opens all of it, and creates no session.
        open: Opens a session of it for an agent, and creates it if there is none.
        content: Returns what the medium itself holds of a session: the bytes of files or objects, or rows.
    """

    kind: str
    whole: Callable[[], Any]
    open: Callable[[str], RepositorySessionManager]
    content: Callable[[str], Any]

    def ids(self, agent_ids: tuple[str, ...], multi_agent_ids: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
        """Return the ids that `copy_session` needs here: none if the store can list them."""
        can_tell = self.kind != "memory"
        return {} if can_tell else {"agent_ids": agent_ids, "multi_agent_ids": multi_agent_ids}


def sqlite_store(path: Path) -> Store:
    """A SQLite file."""
    return Store(
        "sqlite",
        lambda: SQLiteSessionRepository(path, synchronous="NORMAL"),
        lambda session_id: SQLiteSessionManager(session_id, path, synchronous="NORMAL"),
        lambda session_id: rows_of(path, session_id),
    )


def file_store(folder: Path) -> Store:
    """A folder of `FileSessionManager`."""
    return Store(
        "files",
        lambda: FileSessionRepository(folder),
        lambda session_id: FileSessionManager(session_id, storage_dir=str(folder)),
        lambda session_id: files_in(folder / f"session_{session_id}"),
    )


def s3_store(prefix: str) -> Store:
    """A prefix in the bucket of `s3_server`."""
    client = boto3.client("s3")
    return Store(
        "s3",
        lambda: S3SessionRepository(BUCKET, prefix, client=client),
        lambda session_id: S3SessionManager(session_id, BUCKET, prefix=prefix),
        lambda session_id: objects_in(client, f"{prefix}/session_{session_id}/"),
    )


def memory_store() -> Store:
    """Another program's store."""
    memory = MemoryRepository()
    return Store(
        "memory", lambda: memory, lambda session_id: RepositorySessionManager(session_id, memory), memory.content
    )


def new_store(kind: str, folder: Path, name: str) -> Store:
    """An empty store of a kind, in a folder that belongs to the test."""
    if kind == "sqlite":
        return sqlite_store(folder / f"{name}.db")
    if kind == "files":
        return file_store(folder / name)
    return memory_store() if kind == "memory" else s3_store(f"{folder.name}/{name}")


def files_in(folder: Path) -> dict[str, bytes]:
    """What every file in a folder holds, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects_in(client: Any, prefix: str) -> dict[str, bytes]:
    """What every object with a prefix holds, by the rest of its key."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {key[len(prefix) :]: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


TABLES = ("sessions", "session_metadata", "agents", "messages", "multi_agents")
OF_ITS_OWN = ("session_id", "revision", "sequence", "active_at")


def rows_of(path: Path, session_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of a session in the order of storing, except its id and columns that SQLite or a trigger fills.

    A legacy file has no table of metadata.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return {
            table: [
                {name: row[name] for name in row.keys() if name not in OF_ITS_OWN}  # noqa: SIM118
                for row in connection.execute(
                    f"SELECT * FROM {table} WHERE session_id = ? ORDER BY rowid", (session_id,)
                )
            ]
            for table in TABLES
            if table in known
        }


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server that has the bucket, and have boto3 use it; yields its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it reports every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                environment.setenv(name, "testing")
            environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
            environment.setenv("AWS_ENDPOINT_URL_S3", url)
            environment.delenv("AWS_PROFILE", raising=False)
            environment.setattr(moto.backends, "list_of_moto_modules", lambda: ["s3"])  # each request lists a folder
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield url
    finally:
        server.stop()


# -- a session that has everything --

AGENT_IDS = ("ada", "zoë 🦜")
MULTI_AGENT_IDS = ("graph", "swarm")
IDS: dict[str, tuple[str, ...]] = {"agent_ids": AGENT_IDS, "multi_agent_ids": MULTI_AGENT_IDS}
MESSAGES = 8


def _times(number: int) -> dict[str, str]:
    return {
        "created_at": f"2024-02-29T23:59:{number:02}.{number + 1:06}+00:00",
        "updated_at": f"2025-01-01T00:00:{number:02}.123456+00:00",
    }


def write_everything(
    repository: SessionRepository, session_id: str, *, surrogates: bool = False, strict: bool = False
) -> None:
    """Store a session with two agents, whose messages have gaps, bytes and redactions, and with two orchestrators.

    Args:
        repository: Where.
        session_id: The session's id.
        surrogates: Whether the last message holds a lone surrogate, which UTF-8 has no form for.
        strict: Whether to leave out what PostgreSQL cannot hold: NUL characters, and numbers that are not in JSON.
    """
    repository.create_session(Session(session_id, SessionType.AGENT, **_times(1)))
    deep: dict[str, Any] = {"z": [1, 2.5, None, True, {"a": []}], "a": "ÄÖ 🦜 \n\u2028", "": {}, "large": 2**70}
    if not strict:
        deep |= {"nul": "\0", "inf": float("inf")}
    first = SessionAgent(
        "ada",
        {"deep": deep, "name": "Ada"},
        {"__name__": "SlidingWindowConversationManager", "removed_message_count": 1, "model_call_count": 3},
        {"interrupt_state": {"interrupts": {}, "context": {"deep": deep}, "activated": False}},
        **_times(2),
    )
    repository.create_agent(session_id, first)
    contents: list[Any] = [
        [{"text": "hello, wie heißt du? 🦜"}],
        [{"image": {"format": "png", "source": {"bytes": bytes(range(256))}}}],
        [{"toolUse": {"toolUseId": "t", "name": "n", "input": deep}}],
        [{"text": "a secret"}],
        [{"text": "the last \ud800" if surrogates else "the last"}],
    ]
    for message_id, content in zip((0, 1, 2, 9, 10), contents, strict=True):
        message: Any = {"role": "user", "content": content, "tracking_id": f"id {message_id}", "metadata": {"b": b"\0"}}
        redacted: Any = {"role": "user", "content": [{"text": "[redacted]"}]} if message_id == 9 else None
        repository.create_message(
            session_id, "ada", SessionMessage(message, message_id, redacted, **_times(message_id % 10))
        )
    repository.create_agent(session_id, SessionAgent(AGENT_IDS[1], {}, {}, {}, **_times(3)))
    for message_id in range(3):
        message = {"role": "assistant", "content": [{"text": f"reply {message_id}"}]}
        repository.create_message(session_id, AGENT_IDS[1], SessionMessage(message, message_id, **_times(4)))
    encoded = {"__bytes_encoded__": True, "data": "iVBORw=="}
    for multi_agent_id in MULTI_AGENT_IDS:
        state = {"type": multi_agent_id, "id": multi_agent_id, "task": [{"text": "🦜"}, {"image": encoded}], "n": deep}
        repository.create_multi_agent(session_id, Orchestrator(multi_agent_id, state))  # type: ignore[arg-type]


def described(repository: SessionRepository, session_id: str, *, sort_keys: bool = False) -> str:
    """What a store answers about a session with everything: texts are equal if keys and their order are, too."""
    session = repository.read_session(session_id)
    assert session is not None
    agents = [repository.read_agent(session_id, agent_id) for agent_id in AGENT_IDS]
    return json.dumps(
        {
            "session": {**session.to_dict(), "session_id": None, "session_type": SessionType(session.session_type)},
            "agents": [agent and agent.to_dict() for agent in agents],
            "messages": [
                [message.to_dict() for message in repository.list_messages(session_id, agent_id)]
                for agent_id in AGENT_IDS
            ],
            "multi_agents": [
                repository.read_multi_agent(session_id, multi_agent_id) for multi_agent_id in MULTI_AGENT_IDS
            ],
        },
        indent=1,
        sort_keys=sort_keys,
    )


# -- what a resumed agent or team is compared with --


def conversation(agent: Any) -> str:
    """Everything that a session keeps of an agent, except what its conversation manager counts."""
    held = held_by(agent)
    del held["conversation_manager_state"]
    return written(held)


def finished_in_place(team: str, store: Store, folder: Path) -> tuple[str, list[str]]:
    """How a team ends, and which nodes ran, if it continues in the store in which it was stopped."""
    (folder / "ran").write_text("a\nb\n")
    result = build_team(team, store.open("session"), folder)("the task")
    return result.status.value, ran(folder)
