"""Agents on a recorded disk, and what the file held whenever a call returned."""

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager

from .command_line import run
from .disk_calls import Disk, go_ahead
from .numbered_messages import live_agent
from .power_loss import Recording
from .recording_manager import held
from .workers import forked

AGENT = "live"
NO_ROWS = "nothing"


def rows(path: Path) -> str:
    """Return a digest of all rows of a file, or `NO_ROWS` where there are none."""
    if not path.exists():
        return NO_ROWS
    with closing(sqlite3.connect(path)) as connection:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'messages'").fetchone()
        found = [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table in ("sessions", "agents", "messages", "multi_agents")
            if tables
        ]
    return sha256(repr(found).encode()).hexdigest() if any(found) else NO_ROWS


@dataclass(frozen=True)
class State:
    """What there was when a call returned: the rows, what the agent held, and which copies had been made."""

    rows: str
    held: str | None
    copies: tuple[str, ...]


@dataclass
class Life:
    """What agents do with a file, and what the file held after every call."""

    folder: Path
    synchronous: Any
    recording: Recording
    held: str | None = None
    copies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.path = self.folder / "sessions.db"

    def returned(self) -> None:
        """Record what the file holds now."""
        self.recording.mark(State(rows(self.path), self.held, self.copies))

    def open(self, session_id: str) -> "Witness":
        """Open a session."""
        manager = Witness(session_id, self.path, synchronous=self.synchronous)
        manager.life = self
        self.returned()
        return manager

    def lead(self) -> None:
        """Do a bit of everything."""
        with self.open("session") as manager:
            agent = live_agent(manager, AGENT)
            agent("hello")
            agent.state.set("mood", {"good": True})
            agent("how are you?")
            agent.state.set("mood", None)
            manager.sync_agent(agent)
            agent("a secret " * 300)
            agent.messages[-2]["content"] = [{"text": "[redacted]"}]
            manager.redact_latest_message(agent.messages[-2], agent)
            with self.open("other") as other:
                live_agent(other, "another")("a letter " * 3000)
                # The write-ahead log is checkpointed while messages arrive.
                other._database.read("PRAGMA wal_autocheckpoint = 20")
                for number in range(2, 40):
                    other.create_message("other", "another", said(number))
                    self.returned()
            manager.fork_session("session", "fork", through_message=2)
            self.returned()
            agent("still there?")
            manager.backup(self.folder / "backup.db")
            self.copies += ("backup.db",)
            self.returned()
            manager.delete_session("other")
            self.returned()
            manager.update_session_metadata("session", {"title": "a life"})
            self.returned()
            manager.vacuum()
            self.returned()
            agent("smaller now")
        assert run("export", "--all", "-o", self.folder / "export.jsonl", db=self.path).code == 0
        self.copies += ("export.jsonl",)
        self.returned()
        with self.open("session") as manager:
            live_agent(manager, AGENT)("again")
            manager.delete_sessions(metadata={"title": "a life"})
            self.held = None
            self.returned()
        with self.open("session") as manager:
            live_agent(manager, AGENT)("a new life")


class Witness(SQLiteSessionManager):
    """Records what the file holds whenever Strands has stored something."""

    life: Life

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        super().initialize(agent, **kwargs)
        self._note(agent)

    def append_message(self, message: Any, agent: Any, **kwargs: Any) -> None:
        super().append_message(message, agent, **kwargs)
        self._note(agent)

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        super().sync_agent(agent, **kwargs)
        self._note(agent)

    def redact_latest_message(self, redact_message: Any, agent: Any, **kwargs: Any) -> None:
        super().redact_latest_message(redact_message, agent, **kwargs)
        self._note(agent)

    def _note(self, agent: Any) -> None:
        if agent.agent_id == AGENT:
            self.life.held = held(agent)
        self.life.returned()


def said(number: int) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": f"{number} " * 700}]}, number)


def recorded(folder: Path, work: Callable[[Path, Recording], object]) -> Recording:
    """Run something in a child process, below a folder, and return the recording of it."""

    def record(_: Any) -> None:
        recording = Recording(str(folder / "life"))
        for path in (folder / "life").iterdir():
            recording.found(path)
        disk = Disk(folder / "life", recording)
        work(folder / "life", recording)
        disk.answer = go_ahead
        if disk.failure is not None:
            raise disk.failure
        (folder / "recording").write_bytes(pickle.dumps(recording))

    (folder / "life").mkdir(exist_ok=True)
    with forked(record):
        pass
    recording: Recording = pickle.loads((folder / "recording").read_bytes())
    return recording
