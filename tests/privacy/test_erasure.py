"""What is deleted or redacted is gone from every byte of the file and its log, whatever has happened before."""

import itertools
import random
import re
import sqlite3
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, connection, erasure, pages
from strands_sqlite_session_manager.database import Database

from ..support.scripted_model import REDACT_INPUT, ScriptedModel

AGENT = "default"
LENGTHS = (50, 200, 600, 1000, 3000, 9000)  # characters
SHORT = LENGTHS[:4]
WORD = re.compile(rb"~[A-Z]{7}")  # what all texts are made of; none occurs twice


@pytest.fixture
def vacuums(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every VACUUM that is done from here on."""
    statements: list[str] = []
    write = Database.write

    def watched(self: Database, sql: str, *parameters: Any) -> int:
        if sql == "VACUUM":
            statements.append(sql)
        return write(self, sql, *parameters)

    monkeypatch.setattr(Database, "write", watched)
    return statements


def every_word() -> Iterator[str]:
    """Return words that differ, one after the other, in most of their letters."""
    for number in itertools.count(1):
        letters = (number * 1_234_567_891 // 26**position % 26 for position in range(7))  # prime to 26
        yield f"~{''.join(string.ascii_uppercase[letter] for letter in letters)}"


def words_in(path: Path) -> set[bytes]:
    """Return every word in the file and its log."""
    return set(WORD.findall(path.read_bytes() + path.with_name(f"{path.name}-wal").read_bytes()))


class World:
    """A file with many sessions, what is expected to be in it, and what must not be in it any more."""

    def __init__(self, path: Path, seed: int, lengths: Sequence[int] = LENGTHS) -> None:
        self.path = path
        self.lengths = lengths
        self.random = random.Random(seed)
        self.words = every_word()
        self.repository = SQLiteSessionRepository(path, synchronous="NORMAL")
        self.states: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.groups: dict[str, str] = {}
        self.messages: dict[str, list[str]] = {}
        self.removed: set[bytes] = set()
        self.left: list[int] = []  # after each removal, how many words of this and the earlier ones were found
        self.agent: Any = self.wake()
        for _ in range(12):
            self.begin()

    def text(self, *lengths: int) -> str:
        length = self.random.choice(lengths or self.lengths)
        return "".join(next(self.words) for _ in range(0, length, 8))

    def wake(self) -> Agent:
        manager = SQLiteSessionManager("live", self.path, synchronous="NORMAL")
        return Agent(model=ScriptedModel(), agent_id=AGENT, session_manager=manager, callback_handler=None)

    def any(self) -> str:
        return self.random.choice(list(self.messages))

    def gone(self, *texts: str) -> None:
        """Look for what was just removed, and for all that was removed before."""
        self.removed.update(WORD.findall("".join(texts).encode()))
        self.left.append(len(self.removed & words_in(self.path)))

    def begin(self) -> None:
        session_id = self.text(20)
        self.users[session_id], self.states[session_id], self.messages[session_id] = self.text(20), self.text(), []
        self.groups[session_id] = str(self.random.randrange(5))
        metadata = {"user_id": self.users[session_id], "group": self.groups[session_id]}
        SQLiteSessionManager(session_id, self.path, metadata=metadata, synchronous="NORMAL").close()
        self.repository.create_agent(session_id, SessionAgent(AGENT, {"text": self.states[session_id]}, {}))

    def say(self) -> None:
        session_id, text = self.any(), self.text()
        number = len(self.messages[session_id])
        self.repository.create_message(session_id, AGENT, SessionMessage(user(text), number))
        self.messages[session_id].append(text)

    def change_state(self) -> None:
        session_id = self.any()
        self.states[session_id] = self.text(*range(10, 600, 10))
        self.repository.update_agent(session_id, SessionAgent(AGENT, {"text": self.states[session_id]}, {}))

    def replace(self, redacting: bool) -> None:
        session_id, text = self.any(), self.text()
        messages = self.messages[session_id]
        if messages:
            number = self.random.randrange(len(messages))
            removed, messages[number] = messages[number], text
            message = SessionMessage(user(text), number, user(text) if redacting else None)
            self.repository.update_message(session_id, AGENT, message)
            if redacting:
                self.gone(removed)

    def speak(self) -> None:
        self.agent(self.text(100, 1000, 5000))

    def trip_the_guardrail(self) -> None:
        prompt = self.text()
        self.agent.model.replies = [REDACT_INPUT]
        self.agent(prompt)
        self.gone(prompt)

    def forget(self, session_id: str) -> list[str]:
        return [session_id, self.users.pop(session_id), self.states.pop(session_id), *self.messages.pop(session_id)]

    def delete(self) -> None:
        self.begin()
        session_id = self.any()
        self.repository.delete_session(session_id)
        self.gone(*self.forget(session_id))

    def delete_many(self) -> None:
        self.begin()
        group = self.groups[self.any()]
        doomed = [session_id for session_id in self.messages if self.groups[session_id] == group]
        assert self.repository.delete_sessions(metadata={"group": group}) == len(doomed)
        self.gone(*(text for session_id in doomed for text in self.forget(session_id)))
        for _ in doomed:
            self.begin()

    def live(self, steps: int) -> None:
        """Let a number of things happen."""
        acts: dict[Callable[[], None], int] = {
            self.say: 500,
            self.begin: 2,
            self.change_state: 100,
            lambda: self.replace(redacting=False): 300,
            lambda: self.replace(redacting=True): 20,
            self.speak: 10,
            self.trip_the_guardrail: 3,
            self.delete: 20,
            self.delete_many: 2,
        }
        for act in self.random.choices(list(acts), list(acts.values()), k=steps):
            act()

    def check(self) -> None:
        """Expect that all the rest is there, and that the agent is where it was."""
        assert self.repository.check() == []
        assert {summary.session_id for summary in self.repository.list_sessions()} == {"live", *self.messages}
        for session_id, texts in self.messages.items():
            assert [said(stored) for stored in self.repository.list_messages(session_id, AGENT)] == texts
            stored = self.repository.read_agent(session_id, AGENT)
            assert stored is not None
            assert stored.state == {"text": self.states[session_id]}
        self.agent("still there?")
        assert self.wake().messages == self.agent.messages


def user(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def said(stored: SessionMessage) -> str:
    return stored.to_message()["content"][0]["text"]


def everything(path: Path) -> list[Any]:
    """Return every value in the tables."""
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall()
            for table in ("sessions", "agents", "messages", "multi_agents")
        ]


@pytest.mark.parametrize(("seed", "lengths"), [(0, LENGTHS), (1, LENGTHS), (0, SHORT), (1, SHORT)])
def test_nothing_is_left_of_what_was_removed_and_nothing_else_is_missing(
    path: Path, seed: int, lengths: tuple[int, ...], vacuums: list[str]
) -> None:
    world = World(path, seed, lengths)
    world.live(1500)
    assert not any(world.left)
    assert len(vacuums) <= 1
    world.check()


@pytest.mark.parametrize("page_size", [1024, 16384, 65536])
def test_the_size_of_the_pages_does_not_matter(path: Path, page_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAGE_SIZE", page_size)
    world = World(path, page_size)
    world.live(500)
    assert not any(world.left)
    world.check()


def test_sqlite_alone_leaves_something_and_the_next_deletion_takes_it_along_and_changes_no_value(
    path: Path, monkeypatch: pytest.MonkeyPatch, vacuums: list[str]
) -> None:
    world = World(path, 0, SHORT)
    with monkeypatch.context() as bare:
        bare.setattr(erasure, "_clean", lambda *_: True)
        while not any(world.left[-1:]):
            world.live(100)
    before = everything(path)
    with SQLiteSessionRepository(path) as repository:
        erasure.erase(repository._database, ids=True)
    assert everything(path) == before
    world.gone()
    assert world.left[-1] == 0
    assert len(vacuums) <= 1
    world.check()


@pytest.mark.parametrize("obstacle", ["_find_descriptor", "_fill_for_a_moment"])
def test_where_pages_cannot_be_cleaned_the_file_is_rewritten(
    path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, vacuums: list[str]
) -> None:
    def fail(*_: object) -> None:
        if obstacle == "_find_descriptor":
            raise FileNotFoundError

    monkeypatch.setattr(pages if obstacle == "_find_descriptor" else erasure, obstacle, fail)
    world = World(path, 1, SHORT)
    while len(vacuums) < 3:
        world.live(100)
    assert not any(world.left)
    world.check()


def test_while_a_reader_looks_at_the_past_it_stays_and_then_the_next_deletion_takes_it_along(path: Path) -> None:
    world = World(path, 3)
    world.live(50)
    first, second = list(world.messages)[:2]
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchone()
        world.repository.delete_session(first)
        removed = world.forget(first)
        world.gone(*removed)
        assert world.left.pop()
        reader.execute("COMMIT")
    world.repository.delete_session(second)
    world.gone(*removed, *world.forget(second))
    assert not any(world.left)
    world.check()


def test_threads_that_write_meanwhile_lose_nothing(path: Path) -> None:
    world = World(path, 4)
    world.live(300)
    texts = [world.text(100, 3000) for _ in range(300)]
    said_there: list[str] = []

    def talk() -> None:
        with SQLiteSessionManager("talk", path, synchronous="NORMAL") as manager:
            manager.create_agent("talk", SessionAgent(AGENT, {}, {}))
            for number, text in enumerate(texts):
                manager.create_message("talk", AGENT, SessionMessage(user(text), number))
            said_there.extend(said(stored) for stored in manager.list_messages("talk", AGENT))

    thread = threading.Thread(target=talk)
    thread.start()
    removed: list[str] = []
    for session_id in list(world.messages)[:8]:
        world.repository.delete_session(session_id)
        removed += world.forget(session_id)
        world.agent("go on")
    thread.join()
    assert said_there == texts
    world.repository.delete_session("talk")
    world.gone(*removed, *texts)
    assert not any(world.left)
    world.check()


def test_a_database_in_memory_has_nothing_to_erase() -> None:
    with SQLiteSessionRepository(":memory:") as repository:
        repository.create_session(Session("session", SessionType.AGENT))
        repository.delete_session("session")
        assert repository.list_sessions() == []
