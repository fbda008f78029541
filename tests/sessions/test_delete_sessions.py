"""The selected sessions are deleted and counted, nothing else is touched, and others keep writing meanwhile."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SessionNotFoundException, SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.dated_records import TABLES, add_message, add_session, at, listed, moment, stored_rows
from ..support.records import Orchestrator, dump, query
from ..support.workers import PATIENCE, in_processes, killed


@pytest.fixture
def repository(path: Path) -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
        yield repository


def fill(repository: SQLiteSessionRepository, session_id: str, minute: float, **metadata: str) -> None:
    """Store a session that has some of everything, last active at a minute."""
    add_session(repository, session_id, 0, ["ada", "bob"])
    repository.update_session_metadata(session_id, metadata)
    for message_id in range(3):
        add_message(repository, session_id, minute, f"{session_id} says {message_id}", message_id=message_id)


# -- which go, and which stay --


def stored(repository: SQLiteSessionRepository) -> None:
    """Store two users' sessions of several ages."""
    for minute in range(6):
        user, app = "ab"[minute % 2], ("chat", "mail")[minute // 3]
        fill(repository, f"{user}{minute}", minute, user_id=user, app_name=app)


CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a user's": ({"metadata": {"user_id": "a"}}, {"a0", "a2", "a4"}),
    "a user's in an app": ({"metadata": {"user_id": "a", "app_name": "mail"}}, {"a4"}),
    "nobody's": ({"metadata": {"user_id": "c"}}, set()),
    "by a key that nothing has": ({"metadata": {"team": "a"}}, set()),
    "old ones": ({"updated_before": moment(3)}, {"a0", "b1", "a2"}),
    "old ones, by a summary's time": ({"updated_before": at(3)}, {"a0", "b1", "a2"}),
    "none that is old enough": ({"updated_before": moment(0)}, set()),
    "all": ({"updated_before": moment(99)}, {"a0", "b1", "a2", "b3", "a4", "b5"}),
    "all, with no metadata": ({"metadata": {}, "updated_before": moment(99)}, {"a0", "b1", "a2", "b3", "a4", "b5"}),
    "a user's old ones": ({"metadata": {"user_id": "b"}, "updated_before": moment(4)}, {"b1", "b3"}),
}


@pytest.mark.every_case
@pytest.mark.parametrize(("filters", "gone"), CASES.values(), ids=CASES)
def test_exactly_the_selected_sessions_are_deleted_and_counted(
    repository: SQLiteSessionRepository, path: Path, filters: dict[str, Any], gone: set[str]
) -> None:
    stored(repository)
    every = listed(repository)
    before = {session_id: stored_rows(path, session_id) for session_id in every}
    nothing: dict[str, list[Any]] = {table: [] for table in TABLES}
    assert repository.delete_sessions(**filters) == len(gone)
    assert listed(repository) == [session_id for session_id in every if session_id not in gone]
    for session_id in every:
        assert stored_rows(path, session_id) == (nothing if session_id in gone else before[session_id])
    assert repository.delete_sessions(**filters) == 0
    assert repository.check() == []


def test_everything_in_a_session_is_deleted_with_it(repository: SQLiteSessionRepository, path: Path) -> None:
    fill(repository, "a", 1, user_id="42")
    repository.create_multi_agent("a", Orchestrator("graph", {"a": 1}))
    assert repository.delete_sessions(metadata={"user_id": "42"}) == 1
    assert [query(path, f"SELECT count(*) FROM {table}") for table in TABLES] == [[(0,)]] * 5


def test_activity_of_an_orchestrator_protects_its_session_from_an_age_filter(
    repository: SQLiteSessionRepository,
) -> None:
    fill(repository, "a", 1)
    fill(repository, "b", 2)
    repository.create_multi_agent("a", Orchestrator("graph"))
    assert repository.delete_sessions(updated_before=datetime.now(timezone.utc) - timedelta(days=1)) == 1
    assert listed(repository) == ["a"]


def test_more_sessions_than_one_transaction_takes_are_all_deleted_and_counted(
    repository: SQLiteSessionRepository, path: Path
) -> None:
    insert_many(path, 730)
    fill(repository, "kept", 2000)
    assert repository.delete_sessions(updated_before=moment(1000)) == 730
    assert listed(repository) == ["kept"]


def insert_many(path: Path, sessions: int, messages: int = 2) -> None:
    """Store sessions `old 0`, `old 1` and so on, each last active at the minute of its number."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(sessions):
            name, now = f"old {number}", at(number)
            connection.execute(
                "INSERT INTO sessions (session_id, session_type, created_at, updated_at) VALUES (?, 'AGENT', ?, ?)",
                (name, now, now),
            )
            connection.execute("INSERT INTO session_metadata VALUES (?, 'user_id', '42')", (name,))
            connection.execute(
                "INSERT INTO agents (session_id, agent_id, created_at, updated_at, state, conversation_manager_state,"
                " internal_state) VALUES (?, 'ada', ?, ?, '{}', '{}', '{}')",
                (name, now, now),
            )
            connection.executemany(MESSAGE, ((name, message_id, now, now) for message_id in range(messages)))


MESSAGE = (
    "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
    " VALUES (?, 'ada', ?, ?, ?, '{}')"
)


# -- refused --


@pytest.mark.parametrize("arguments", [{}, {"metadata": {}}, {"metadata": None, "updated_before": None}])
def test_without_a_filter_nothing_is_deleted(
    repository: SQLiteSessionRepository, path: Path, arguments: dict[str, Any]
) -> None:
    stored(repository)
    before = dump(path)
    with pytest.raises(ValueError, match="at least one"):
        repository.delete_sessions(**arguments)
    assert dump(path) == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"metadata": {"user_id": None}}, TypeError),
        ({"metadata": {"user_id": 42}}, TypeError),
        ({"metadata": "user_id"}, TypeError),
        ({"metadata": {"user_id": 42}, "updated_before": moment(99)}, TypeError),
        ({"updated_before": "2024-05-06"}, ValueError),
        ({"updated_before": "yesterday"}, ValueError),
        ({"updated_before": 1714953600}, TypeError),
        ({"updated_before": datetime(2024, 5, 6)}, ValueError),
        ({"metadata": {"user_id": "a"}, "updated_before": datetime(2024, 5, 6)}, ValueError),
        ({"updated_after": moment(0)}, TypeError),
    ],
)
def test_a_senseless_filter_deletes_nothing(
    repository: SQLiteSessionRepository, path: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    stored(repository)
    before = dump(path)
    with pytest.raises(error):
        repository.delete_sessions(**arguments)
    assert dump(path) == before


# -- live agents --


def test_an_agent_whose_session_was_deleted_gets_an_error_and_writes_nothing(path: Path) -> None:
    with SQLiteSessionManager("a", path, metadata={"user_id": "42"}) as manager:
        agent = build(manager)
        agent("hello")
        assert manager.delete_sessions(metadata={"user_id": "42"}) == 1
        with pytest.raises(SessionNotFoundException, match="does not exist"):
            agent("are you there?")
        assert manager.list_sessions() == []


def test_a_deleted_id_can_be_used_again_and_starts_empty(path: Path) -> None:
    with SQLiteSessionManager("a", path, metadata={"user_id": "42"}) as manager:
        build(manager)("hello")
        manager.delete_sessions(metadata={"user_id": "42"})
    with SQLiteSessionManager("a", path) as manager:
        agent = build(manager)
        assert agent.messages == []
        agent("hello again")
        (summary,) = manager.list_sessions()
        assert (summary.metadata, summary.message_count, summary.preview) == ({}, 2, "hello again")


# -- others, meanwhile --


@dataclass
class Watcher:
    """Another program, which writes as soon as it can while a function deletes, and records what it found.

    Attributes:
        visit: What it does, in a transaction of its own, when some sessions are gone and others are left.
        seen: How many sessions there were at each of its visits.
    """

    path: Path
    total: int
    visit: Callable[[sqlite3.Connection], None]
    seen: list[int] = field(default_factory=list)

    def during(self, delete: Callable[[], int]) -> int:
        """Return what the function returns; both begin at the same moment."""
        done = threading.Event()
        ready = threading.Barrier(2)
        failures: list[BaseException] = []

        def watch() -> None:
            try:
                with closing(sqlite3.connect(self.path, isolation_level=None, timeout=0)) as connection:
                    ready.wait(PATIENCE)
                    while not done.is_set():
                        self._try(connection)
            except BaseException as error:
                failures.append(error)
                raise

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            ready.wait(PATIENCE)
            deleted = delete()
        finally:
            done.set()
            thread.join()
        assert failures == []
        return deleted

    def _try(self, connection: sqlite3.Connection) -> None:
        count = self._count(connection)
        if not 0 < count < self.total or count in self.seen:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return  # the deletion is under way
        try:
            count = self._count(connection)
            if 0 < count < self.total:
                self.visit(connection)
                self.seen.append(count)
        finally:
            connection.execute("COMMIT")

    def _count(self, connection: sqlite3.Connection) -> int:
        ((count,),) = connection.execute("SELECT count(*) FROM sessions WHERE session_id LIKE 'old %'").fetchall()
        return int(count)


@pytest.mark.long
def test_another_program_can_write_before_all_are_gone(repository: SQLiteSessionRepository, path: Path) -> None:
    insert_many(path, 4000)
    add_session(repository, "kept", 5000)

    def note(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO session_metadata VALUES ('kept', ?, 'a visit')", (f"{len(watcher.seen)}",))

    watcher = Watcher(path, 4000, note)
    assert watcher.during(lambda: repository.delete_sessions(metadata={"user_id": "42"})) == 4000
    assert len(set(watcher.seen)) > 1
    assert query(path, "SELECT session_id FROM sessions") == [("kept",)]
    assert query(path, "SELECT count(*) FROM session_metadata") == [(len(watcher.seen),)]


def test_a_session_that_becomes_active_meanwhile_is_kept(repository: SQLiteSessionRepository, path: Path) -> None:
    insert_many(path, 4000)
    revived: list[str] = []

    def revive(connection: sqlite3.Connection) -> None:
        if not revived:
            left = connection.execute("SELECT session_id FROM sessions ORDER BY active_at").fetchall()
            # One from either end, so that it does not matter which end is next.
            for (session_id,) in {left[0], left[-1]}:
                connection.execute(MESSAGE, (session_id, 9, at(9999), at(9999)))
                revived.append(session_id)

    watcher = Watcher(path, 4000, revive)
    assert watcher.during(lambda: repository.delete_sessions(updated_before=moment(7000))) == 4000 - len(revived)
    assert revived != []
    assert sorted(listed(repository)) == sorted(revived)


def test_threads_that_converse_meanwhile_lose_nothing(repository: SQLiteSessionRepository, path: Path) -> None:
    insert_many(path, 600)
    with SQLiteSessionManager("live", path, synchronous="NORMAL") as manager:
        agent = build(manager)
        failures: list[BaseException] = []

        def talk() -> None:
            try:
                for number in range(40):
                    agent(f"prompt {number}")
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=talk)
        thread.start()
        deleted = repository.delete_sessions(updated_before=moment(1000))
        thread.join()
        assert (deleted, failures) == (600, [])
        log = [message.to_message() for message in manager.list_messages("live", "default")]
        assert [message["content"][0]["text"] for message in log[::2]] == [f"prompt {number}" for number in range(40)]
        assert len(log) == 80
        assert listed(repository) == ["live"]


def delete_or_talk(index: int, path: Path) -> int:
    """Delete all that is old, or add sessions and messages meanwhile; what a process of the next test does."""
    if index < 2:
        with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
            return repository.delete_sessions(updated_before=moment(1000))
    with SQLiteSessionManager(f"live {index}", path, synchronous="NORMAL") as manager:
        for number in range(20):
            add_session(manager, f"new {index}.{number}", 5000)
            build(manager, agent_id=f"agent {number}")("hello")
    return 0


@pytest.mark.long
def test_processes_that_delete_and_converse_at_once_do_not_interfere(path: Path) -> None:
    SQLiteSessionRepository(path).close()
    insert_many(path, 600)
    results = in_processes(4, delete_or_talk, path)
    assert sum(results) == 600
    with SQLiteSessionRepository(path) as repository:
        expected = {f"new {index}.{number}" for index in (2, 3) for number in range(20)} | {"live 2", "live 3"}
        assert set(listed(repository)) == expected
        assert {summary.message_count for summary in repository.list_sessions(limit=2)} == {40}
        assert repository.check() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_process_that_is_killed_half_way_leaves_whole_sessions(path: Path) -> None:
    SQLiteSessionRepository(path).close()
    insert_many(path, 4000)

    def delete() -> None:
        with SQLiteSessionRepository(path) as repository:
            repository.delete_sessions(metadata={"user_id": "42"})

    def is_half_way() -> bool:
        return query(path, "SELECT count(*) FROM sessions") < [(4000,)]

    assert killed(delete, is_half_way) != 0
    with SQLiteSessionRepository(path) as repository:
        left = repository.list_sessions()
        assert 0 < len(left) < 4000
        assert {summary.message_count for summary in left} == {2}
        assert repository.check() == []
        assert repository.delete_sessions(metadata={"user_id": "42"}) == len(left)
