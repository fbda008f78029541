"""A listing shows the newest activity first, whatever happened, and however the file came about."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.dated_records import add_message, add_session, at, listed, moment, said
from ..support.encrypted_connections import connect_encrypted
from ..support.legacy_files import Contents, write
from ..support.records import Orchestrator, query
from ..support.scripted_model import REDACT_INPUT
from ..support.tiers import tier
from ..support.workers import in_threads


@pytest.fixture
def repository(path: Path) -> SQLiteSessionRepository:
    return SQLiteSessionRepository(path, synchronous="NORMAL")


# -- whatever it was that happened --

Act = Callable[[SQLiteSessionRepository], Any]
ACTS: dict[str, Act] = {
    "a message": lambda repository: add_message(repository, "old", 9, message_id=1),
    "a message that was changed before it came here": lambda repository: repository.create_message(
        "old", "ada", SessionMessage(said("hi"), 1, None, at(2), at(9))
    ),
    "a message of another agent": lambda repository: add_message(repository, "old", 9, agent_id="bob"),
    "a message that was changed": lambda repository: repository.update_message(
        "old", "ada", SessionMessage(said("hi"), 0, None, at(0), at(9))
    ),
    "a redaction": lambda repository: repository.update_message(
        "old", "ada", SessionMessage(said("hi"), 0, said("gone"), at(0), at(9))
    ),
    "a new agent": lambda repository: repository.create_agent("old", SessionAgent("new", {}, {}, {}, at(9), at(9))),
    "an agent that was changed": lambda repository: repository.update_agent(
        "old", SessionAgent("bob", {"a": 1}, {}, {}, at(0), at(9))
    ),
    "an orchestrator": lambda repository: repository.create_multi_agent("old", Orchestrator("graph")),
    "an orchestrator that went on": lambda repository: repository.update_multi_agent("old", Orchestrator("swarm")),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_whatever_happens_in_a_session_brings_it_to_the_top(
    repository: SQLiteSessionRepository, act: Act, path: Path
) -> None:
    add_session(repository, "old", 0, ["ada", "bob"])
    add_message(repository, "old", 1)
    repository.create_multi_agent("old", Orchestrator("swarm"))
    with closing(sqlite3.connect(path)) as connection, connection:  # it happened long ago
        connection.execute("UPDATE multi_agents SET updated_at = ?", (at(1),))
        connection.execute("UPDATE sessions SET active_at = ?", (at(1),))
    add_session(repository, "newer", 5)
    assert listed(repository) == ["newer", "old"]
    act(repository)
    assert listed(repository) == ["old", "newer"]
    assert repository.list_sessions()[0].updated_at >= at(9)


def test_an_older_message_that_is_added_later_does_not_count_as_new(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a", 0)
    add_session(repository, "b", 5)
    add_message(repository, "a", 1)
    assert listed(repository) == ["b", "a"]
    assert [summary.updated_at for summary in repository.list_sessions()] == [at(5), at(1)]


def test_changing_metadata_is_not_activity(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a", 0)
    add_session(repository, "b", 5)
    repository.update_session_metadata("a", {"title": "new"})
    assert listed(repository) == ["b", "a"]


def test_reading_resuming_and_listing_are_not_activity(tmp_path: Path) -> None:
    for session_id in ("first", "second"):
        with SQLiteSessionManager(session_id, tmp_path / "sessions.db") as manager:
            build(manager)("hello")
    with SQLiteSessionManager("first", tmp_path / "sessions.db") as manager:
        before = manager.list_sessions()
        agent = build(manager)
        assert manager.list_sessions() == before
        assert [summary.session_id for summary in before] == ["second", "first"]
        agent("and on")
        assert listed(manager) == ["first", "second"]


def test_a_live_redaction_brings_its_session_to_the_top(tmp_path: Path) -> None:
    managers = [SQLiteSessionManager(session_id, tmp_path / "sessions.db") for session_id in ("a", "b")]
    agents = [build(manager, "fine", REDACT_INPUT) for manager in managers]
    for agent in agents:
        agent("hello")
    assert listed(managers[0]) == ["b", "a"]
    agents[0]("a secret")
    assert listed(managers[0]) == ["a", "b"]


def test_a_fork_is_new_and_its_original_is_not(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a", 0)
    add_message(repository, "a", 1)
    add_session(repository, "b", 5)
    repository.fork_session("a", "c")
    assert listed(repository) == ["c", "b", "a"]
    assert listed(repository, updated_after=moment(5)) == ["c"]


# -- any number of messages, against a model --


class Model:
    """Applies the same acts to a file and to a dict of last activities."""

    def __init__(self, repository: SQLiteSessionRepository, seed: int) -> None:
        self.repository = repository
        self.random = random.Random(seed)
        self.active: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.minute = 0

    def note(self, session_id: str, minute: float) -> None:
        self.active[session_id] = max(self.active.get(session_id, 0), minute)

    def some_session(self) -> str:
        # Most of the time, a few sessions talk; the others are silent for hundreds of messages.
        known = sorted(self.active)
        return self.random.choice(known[:5] if self.random.random() < 0.9 else known)

    def begin(self) -> None:
        session_id = f"session {self.random.random()}"
        add_session(self.repository, session_id, self.minute)
        self.note(session_id, self.minute)
        self.counts[session_id] = 0

    def say(self) -> None:
        session_id = self.some_session()
        minute = self.minute if self.random.random() < 0.9 else self.random.randrange(self.minute)
        add_message(self.repository, session_id, minute, message_id=self.counts[session_id])
        self.counts[session_id] += 1
        self.note(session_id, minute)

    def redact(self) -> None:
        session_id = self.some_session()
        if self.counts[session_id]:
            message_id = self.random.randrange(self.counts[session_id])
            changed = SessionMessage(said("hi"), message_id, None, at(0), at(self.minute))
            self.repository.update_message(session_id, "ada", changed)
            self.note(session_id, self.minute)

    def delete(self) -> None:
        session_id = self.some_session()
        self.repository.delete_session(session_id)
        del self.active[session_id]

    def expected(self) -> list[tuple[str, str]]:
        newest_first = sorted(self.active.items(), key=lambda item: (item[1], item[0]), reverse=True)
        return [(session_id, at(minute)) for session_id, minute in newest_first]

    def found(self) -> list[tuple[str, str]]:
        return sorted(
            ((summary.session_id, summary.updated_at) for summary in self.repository.list_sessions()),
            key=lambda item: (item[1], item[0]),
            reverse=True,
        )

    def times(self) -> list[str]:
        return [summary.updated_at for summary in self.repository.list_sessions()]


@pytest.mark.parametrize("seed", tier([0, 1, 2], quick=[0]))
def test_the_order_is_right_after_any_number_of_messages_changes_deletions_and_vacuums(
    repository: SQLiteSessionRepository, seed: int
) -> None:
    model = Model(repository, seed)
    for _ in range(12):
        model.begin()
    acts = [model.say] * 200 + [model.redact] * 4 + [model.begin] * 4 + [model.delete] * 3 + [repository.vacuum]
    for number in range(1400):
        model.minute += 1
        model.random.choice(acts)()
        if number % 50 == 0:
            assert model.found() == model.expected()
            assert model.times() == sorted(model.times(), reverse=True)


def test_a_session_keeps_its_place_however_much_happens_in_others(repository: SQLiteSessionRepository) -> None:
    for session_id in ("silent", "quiet", "loud"):
        add_session(repository, session_id)
    add_message(repository, "quiet", 10)
    for number in range(800):
        add_message(repository, "loud", 20 + number, message_id=number)
    add_session(repository, "in between", 5)
    assert listed(repository) == ["loud", "quiet", "in between", "silent"]
    assert listed(repository, limit=1, offset=1) == ["quiet"]
    assert listed(repository, updated_before=moment(10)) == ["in between", "silent"]
    repository.delete_session("loud")
    repository.vacuum()
    assert listed(repository) == ["quiet", "in between", "silent"]
    add_message(repository, "silent", 11)
    assert listed(repository) == ["silent", "quiet", "in between"]


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, {"connect": connect_encrypted}], ids=["plain", "encrypted"])
def test_the_order_is_right_after_a_vacuum_has_renumbered_the_rows(path: Path, settings: dict[str, Any]) -> None:
    with SQLiteSessionRepository(path, synchronous="NORMAL", **settings) as repository:
        for session_id in ("doomed", "a", "b"):
            add_session(repository, session_id)
        for number in range(400):
            add_message(repository, "doomed", 1, message_id=number)
        for number in range(10):
            add_message(repository, "a", 10 + number, message_id=number)
        repository.delete_session("doomed")
        repository.vacuum()
        for number in range(300):
            add_message(repository, "b", 100 + number, message_id=number)
            assert listed(repository, limit=1) == ["b"]
        for number in range(10, 300):
            add_message(repository, "a", 1000 + number, message_id=number)
        for number in range(300, 600):
            add_message(repository, "b", 600, message_id=number)
        assert [(each.session_id, each.updated_at) for each in repository.list_sessions()] == [
            ("a", at(1299)),
            ("b", at(600)),
        ]
        assert listed(repository, updated_after=moment(600)) == ["a"]
        assert repository.check() == []


def test_sql_finds_the_last_activity_in_a_column_that_is_always_exact(
    repository: SQLiteSessionRepository, path: Path
) -> None:
    for session_id in ("a", "b"):
        add_session(repository, session_id)
    for number in range(20):
        add_message(repository, "ab"[number % 2], number, message_id=number // 2)
        stored = dict(query(path, "SELECT session_id, active_at FROM sessions"))
        assert stored == {each.session_id: each.updated_at for each in repository.list_sessions()}
        assert stored["ab"[number % 2]] == at(number)


def test_the_order_is_right_when_many_threads_write_at_once(repository: SQLiteSessionRepository) -> None:
    for index in range(4):
        add_session(repository, f"session {index}")

    def talk(index: int) -> None:
        for number in range(200):
            add_message(repository, f"session {index}", number * 4 + index, message_id=number)

    in_threads(4, talk)
    assert [(summary.session_id, summary.updated_at) for summary in repository.list_sessions()] == [
        (f"session {index}", at(199 * 4 + index)) for index in (3, 2, 1, 0)
    ]


# -- legacy files --


def test_a_legacy_file_is_listed_by_activity(tmp_path: Path) -> None:
    contents = Contents()
    for minute, session_id in enumerate(["a", "b", "c"]):
        contents.sessions.append(Session(session_id, SessionType.AGENT, at(minute), at(minute)))
        contents.agents.append((session_id, SessionAgent("ada", {}, {}, {}, at(minute), at(minute))))
    for message_id in range(3):
        message = SessionMessage(said(f"number {message_id}"), message_id, None, at(10), at(10 + message_id))
        contents.messages.append(("b", "ada", message))
    write(tmp_path / "sessions.db", contents)
    with SQLiteSessionRepository(tmp_path / "sessions.db") as repository:
        summaries = repository.list_sessions()
        assert [(summary.session_id, summary.updated_at) for summary in summaries] == [
            ("b", at(12)),
            ("c", at(2)),
            ("a", at(0)),
        ]
        assert (summaries[0].message_count, summaries[0].preview, summaries[0].agent_ids) == (3, "number 0", ["ada"])
        add_message(repository, "a", 20)
        assert listed(repository) == ["a", "b", "c"]
