"""Runs every operation on a file that may be damaged, and reports what should not have happened."""

import json
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.blobs import values
from strands_sqlite_session_manager.blobs.blocks import cut
from strands_sqlite_session_manager.database.database import Database

from .command_line import fill, run
from .conversations import CONVERSATIONS, build
from .damaged_files import Files
from .records import Orchestrator, message

Place = tuple[str, str]  # a session's id and an agent's
COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("list",), ("list", "--json"), ("list", "--metadata", "app=web"), ("stats",), ("check", "--json")),
    *(("show", "ship"), ("show", "long", "--json", "--limit", "9"), ("show", "island", "--format", "markdown")),
    *(
        ("search", "long/default"),
        ("search", "sail", "--json"),
        ("export", "--all"),
        ("export", "--all", "-o", "{}/x.jsonl"),
    ),
    *(("storage", "list"), ("storage", "list", "--json"), ("storage", "get", "notes/long")),
    ("backup", "{}/b.db"),
)
LAST_COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("tag", "ship", "app=other"), ("fork", "long", "other", "--through", "20"), ("delete", "island", "--yes")),
    *(("storage", "delete", "notes/", "--yes"), ("vacuum",), ("prune", "--older-than", "0m", "--yes")),
)
DAMAGED = ("malformed", "not a database", "unsupported file format")  # SQLite's words for a damaged file


@dataclass
class Contents:
    """What a healthy file returns.

    Attributes:
        messages: By session and agent: each message, written down.
        held: By session and agent: what an agent resumes with.
        orchestrators: By session and orchestrator: its state.
        summaries: By session: its summary.
    """

    messages: dict[Place, dict[int, str]] = field(default_factory=dict)
    held: dict[Place, list[str]] = field(default_factory=dict)
    orchestrators: dict[Place, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)


def write(folder: Path) -> tuple[Files, Files]:
    """Write a database of several sessions; return the files after it was closed, and while it is in use."""
    path = folder / "original.db"
    fill(path)
    with SQLiteSessionManager("team", path, synchronous="NORMAL") as manager:
        CONVERSATIONS["summarizing twice"].play(manager)
        for name in ("graph", "swarm"):
            manager.create_multi_agent("team", Orchestrator(name, {"says": f"team/{name} " * 50}))
    with SQLiteSessionManager("window", path, metadata={"app": "web"}, synchronous="NORMAL") as manager:
        agent = build(manager, conversation_manager=SlidingWindowConversationManager(window_size=4))
        for number in range(5):
            agent(f"window/default {number}")
    with SQLiteSessionManager("long", path, synchronous="NORMAL") as manager:
        agent = build(manager)
        for number in range(40):
            agent(f"long/default {number} " * (1000 if number % 9 == 4 else 4))
        manager.fork_session("ship", "cut", through_message=3)
        manager.fork_session("island", "doomed")
        for number in range(8):
            manager.fork_session("island", f"island {number}")
        manager.delete_session("doomed")
        for number in range(0, 8, 2):
            manager.delete_session(f"island {number}")
    closed = {"": path.read_bytes()}
    with SQLiteSessionManager("long", path, synchronous="NORMAL") as manager:
        agent = build(manager)
        for number in range(40, 44):
            agent(f"long/default {number} " * 9)
        with SQLiteSessionManager("late", path, synchronous="NORMAL") as other:
            build(other)("late/default")
        in_use = {suffix: path.with_name(f"{path.name}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm")}
    assert len(in_use["-wal"]) > 5 * 4096
    return closed, in_use


def keep_values(path: Path) -> None:
    """Store what `SQLiteStorage` keeps, which older versions of Strands do not have."""
    database = Database(path)
    for key, value in {"notes/empty": b"", "notes/long": b"of the harbor " * 3000, "short": b"of the sea"}.items():
        database.transaction(lambda connection, key=key, value=value: values.write(connection, key, cut(value)))
    database.close()


def put(files: Files, path: Path) -> Path:
    """Write some files."""
    for suffix, content in files.items():
        path.with_name(f"{path.name}{suffix}").write_bytes(content)
    return path


def remove(folder: Path) -> None:
    """Remove a folder of files."""
    shutil.rmtree(folder, ignore_errors=True)


def contents(files: Files, folder: Path) -> Contents:
    """Return what a healthy file says."""
    examination = Examination(put(files, Path(tempfile.mkdtemp(dir=folder)) / "healthy.db"), Contents())
    examination.read()
    assert examination.findings == []
    return examination.found


def integrity(path: Path) -> bool:
    """Return whether SQLite finds a file sound."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def examine(path: Path, expected: Contents, *, only_the_end_may_be_missing: bool) -> list[str]:
    """Run every operation on a file; return what should not have happened.

    Args:
        path: The file; the folder that it is in is its own.
        expected: What it said before it was damaged.
        only_the_end_may_be_missing: Whether the file was damaged so that SQLite goes back to an earlier moment.
    """
    twin = put(
        {
            suffix: file.read_bytes()
            for suffix in ("", "-wal")
            if (file := path.with_name(f"{path.name}{suffix}")).exists()
        },
        path.with_name("twin.db"),
    )
    sound = integrity(twin)
    examination = Examination(path, expected)
    examination.commands(COMMANDS)
    examination.read()
    examination.compare(sound, only_the_end_may_be_missing)
    examination.write()
    examination.commands(LAST_COMMANDS)
    return examination.findings


def use(path: Path) -> list[str]:
    """Run every operation on a file of which nothing is known; return what should not have happened."""
    examination = Examination(path, Contents())
    examination.commands(COMMANDS)
    examination.read()
    examination.write()
    examination.commands(LAST_COMMANDS)
    return examination.findings


class Examination:
    """What was found out about one file."""

    def __init__(self, path: Path, expected: Contents) -> None:
        self.path = path
        self.expected = expected
        self.found = Contents()
        self.problems: list[str] | None = None  # what `check` said; None is an error
        self.findings: list[str] = []

    def _try(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what a call returns; None after an error, which must be a documented one."""
        try:
            return call()
        except SessionException as error:
            self._judge(name, error)
        except Exception as error:
            if str(error) == "Invalid conversation manager state.":  # Strands' own exception, recognized by its name
                return None
            if isinstance(error, ValueError) and "| id cannot be" in str(error):  # as it may not be given, either
                return None
            frames = " < ".join(
                f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)[-4:])
            )
            self.findings.append(f"{name}: {type(error).__name__}: {str(error)[:100]} ({frames})")
        return None

    def _judge(self, name: str, error: SessionException) -> None:
        said = str(error)
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error) and not isinstance(cause, sqlite3.IntegrityError):
            if str(self.path.parent) not in said:  # a backup names its destination, which is there as well
                self.findings.append(f"{name}: does not name the file: {said}")
            pointed = "check" in said and "backup" in said
            refused = "not a SQLite database that can be read" in said
            if not refused and not pointed and any(word in said for word in DAMAGED):
                self.findings.append(f"{name}: does not point at check and backup: {said}")

    def _find_unless_known(self, finding: str) -> None:
        """Record that a wrong value was returned, unless `check` reports the damage or cannot read the file either."""
        if self.problems == []:
            self.findings.append(f"{finding}, and check finds nothing")

    def commands(self, commands: tuple[tuple[str, ...], ...]) -> None:
        """Run commands, each of which succeeds or fails in one line."""
        before = self.path.read_bytes()
        for arguments in commands:
            given = [argument.replace("{}", str(self.path.parent)) for argument in arguments]
            ended = self._try(" ".join(arguments), lambda given=given: run(*given, db=self.path))
            if ended is not None:
                is_told = ended.code == 1 and ended.err.count("\n") == 1 and ended.err.startswith("strands-sqlite: ")
                if not is_told and (ended.code, ended.err) != (0, ""):
                    self.findings.append(f"{arguments}: {ended.code}, {ended.err[:300]}")
        if commands is COMMANDS and self.path.read_bytes() != before:
            self.findings.append("a command that reads has changed the file")

    def read(self) -> None:
        """Read all that there is."""
        repository = self._try("open", lambda: SQLiteSessionRepository(self.path, synchronous="NORMAL"))
        if repository is None:
            return
        with repository:
            self.problems = self._try("check", repository.check)
            for summary in self._try("list_sessions", repository.list_sessions) or []:
                if not isinstance(summary.session_id, str):
                    continue
                self.found.summaries[summary.session_id] = repr(summary)
            self._try("list_sessions by metadata", lambda: repository.list_sessions(metadata={"app": "web"}, limit=1))
            self._try("search_messages", lambda: repository.search_messages("long/default", limit=None))
            for session_id in dict.fromkeys([*self.found.summaries, *self.expected.summaries]):
                self._try("read_session", lambda s=session_id: repository.read_session(s))
                self._read_session(repository, session_id)

    def _read_session(self, repository: SQLiteSessionRepository, session_id: str) -> None:
        agents = self._try("list_agents", lambda: repository.list_agents(session_id)) or []
        known = [agent_id for other, agent_id in self.expected.messages if other == session_id]
        for agent_id in dict.fromkeys([*(agent.agent_id for agent in agents), *known]):
            if not isinstance(agent_id, str):
                continue
            place = (session_id, agent_id)
            listed = self._try("list_messages", lambda p=place: repository.list_messages(*p))
            self._try("read_agent", lambda p=place: repository.read_agent(*p))
            if listed is not None:
                ids = [item.message_id for item in listed]
                if not all(isinstance(number, int) for number in ids) or ids != sorted(set(ids)):
                    self._find_unless_known(f"list_messages of {place}: not in order: {ids}")
                self.found.messages[place] = {item.message_id: written(item.to_message()) for item in listed}
            for number in list(self.expected.messages.get(place, ()))[::7]:
                one = self._try("read_message", lambda p=place, n=number: repository.read_message(*p, n))
                if one is not None and listed is not None and one.message_id != number:
                    self._find_unless_known(f"read_message of {place} {number}: returns {one.message_id}")
            held = self._try("resume", lambda p=place: self._resume(*p))
            if held is not None:
                self.found.held[place] = held
        for name in self._try("list_multi_agents", lambda: repository.list_multi_agents(session_id)) or []:
            if not isinstance(name, str):
                continue
            state = self._try("read_multi_agent", lambda n=name: repository.read_multi_agent(session_id, n))
            if state is not None:
                self.found.orchestrators[session_id, name] = written(state)

    def _resume(self, session_id: str, agent_id: str) -> list[str]:
        arguments = CONVERSATIONS["summarizing twice"].options() if session_id == "team" else {}
        with SQLiteSessionManager(session_id, self.path, synchronous="NORMAL") as manager:
            return [written(said) for said in build(manager, agent_id=agent_id, **arguments).messages]

    def compare(self, sound: bool, only_the_end_may_be_missing: bool) -> None:
        """Compare what was read with what was stored: it is equal, or `check` reports the damage."""
        if not sound and self.problems == []:
            self.findings.append("check finds nothing, SQLite does")
        every = {text for messages in self.expected.messages.values() for text in messages.values()}
        for place, messages in self.found.messages.items():
            stored = self.expected.messages.get(place, {})
            for number, text in messages.items():
                if text != stored.get(number) and text in every:
                    self._find_unless_known(f"list_messages of {place}: {number} is another message: {text[:90]}")
            self._count(
                f"list_messages of {place}", list(messages.values()), list(stored.values()), only_the_end_may_be_missing
            )
        for place, held in self.found.held.items():
            stored_held = self.expected.held.get(place, [])
            if not only_the_end_may_be_missing:
                self._count(f"resume of {place}", held, stored_held, False)
                for number, text in enumerate(held):
                    if text in every and text not in stored_held:
                        self._find_unless_known(f"resume of {place}: {number} is another message: {text[:90]}")
        for key, state in self.found.orchestrators.items():
            if state != self.expected.orchestrators.get(key) and state in self.expected.orchestrators.values():
                self._find_unless_known(f"read_multi_agent of {key}: the state of another one")

    def _count(self, name: str, found: list[str], stored: list[str], only_the_end_may_be_missing: bool) -> None:
        if only_the_end_may_be_missing:
            if found != stored[: len(found)]:
                self.findings.append(f"{name}: not as at any moment before")
        elif len(found) != len(stored):
            self._find_unless_known(f"{name}: {len(found)} messages instead of {len(stored)}")

    def write(self) -> None:
        """Converse, and change whatever can be changed."""
        for session_id in ("long", "ship", "new"):
            self._try(f"talk in {session_id}", lambda s=session_id: self._talk(s))
        repository = self._try("open", lambda: SQLiteSessionRepository(self.path, synchronous="NORMAL"))
        if repository is None:
            return
        steps: dict[str, Callable[[], Any]] = {
            "create_message": lambda: repository.create_message("island", "bob", message(2)),
            "update_message": lambda: repository.update_message("island", "bob", message(0)),
            "update_agent": lambda: self._touch(repository),
            "create_multi_agent": lambda: repository.create_multi_agent("team", Orchestrator("graph")),
            "update_session_metadata": lambda: repository.update_session_metadata("ship", {"x": "y"}),
            "fork_session": lambda: repository.fork_session("long", "fork"),
            "fork_session through": lambda: repository.fork_session("window", "fork 2", through_message=4),
            "backup": lambda: repository.backup(self.path.with_name("backup.db")),
            "delete_session": lambda: repository.delete_session("window"),
            "delete_sessions": lambda: repository.delete_sessions(metadata={"app": "web"}),
            "check at the end": repository.check,
            "vacuum": repository.vacuum,
        }
        with repository:
            for name, step in steps.items():
                self._try(name, step)

    def _talk(self, session_id: str) -> None:
        with SQLiteSessionManager(session_id, self.path, synchronous="NORMAL") as manager:
            before = [item.message_id for item in manager.list_messages(session_id, "default")]
            build(manager, "I am still here")("are you there?")
            after = [item.message_id for item in manager.list_messages(session_id, "default")]
            if len(after) != len(before) + 2 and self.problems == []:
                self.findings.append(f"talk in {session_id}: {len(before)} messages, and {len(after)} after a turn")

    def _touch(self, repository: SQLiteSessionRepository) -> None:
        agent = repository.read_agent("island", "ada")
        if agent is not None:
            repository.update_agent("island", agent)


def written(value: Any) -> str:
    """Write a value down."""
    return json.dumps(value, default=repr, sort_keys=True)
