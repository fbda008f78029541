"""Any number of users may open a new file at once, and a process that dies leaves nothing half made."""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.numbered_messages import AGENT, SESSION, add, add_all, begin, live_agent, numbers, text
from ..support.workers import PATIENCE, in_processes, in_threads, killed, killed_at_size

AT_ONCE = pytest.mark.parametrize("at_once", [in_threads, in_processes])
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")

COLUMNS = {
    "sessions": {
        *("session_id", "session_type", "created_at", "updated_at", "active_at", "forked_from", "forked_through"),
    },
    "session_metadata": {"session_id", "key", "value"},
    "agents": {
        *("session_id", "agent_id", "revision", "created_at", "updated_at"),
        *("state", "conversation_manager_state", "internal_state", "context"),
    },
    "messages": {
        *("sequence", "session_id", "agent_id", "message_id", "created_at", "updated_at"),
        *("message", "redact_message", "edited_message"),
    },
    "multi_agents": {"session_id", "multi_agent_id", "revision", "created_at", "updated_at", "state"},
    "agent_versions": {
        *("session_id", "agent_id", "before_message_id"),
        *("state", "conversation_manager_state", "internal_state", "context"),
    },
    "message_versions": {"session_id", "agent_id", "message_id", "before_message_id", "edited_message"},
    "storage_values": {"value_id", "key", "size", "updated_at"},
    "storage_blocks": {"block_id", "hash", "data"},
    "storage_parts": {"value_id", "position", "block_id"},
}


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# -- at the same moment --


def open_file(index: int, path: Path) -> None:
    with SQLiteSessionRepository(path, timeout=PATIENCE) as repository:
        assert repository.read_session(SESSION) is None


def open_new_files(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / f"{number}.db"
        in_processes(6, open_file, path)
        assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_processes_that_open_a_new_file_at_its_first_moment_all_succeed(tmp_path: Path) -> None:
    open_new_files(tmp_path, 2)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_processes_that_open_1_000_new_files_at_their_first_moment_all_succeed(
    tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    open_new_files(tmp_path, scaled(1000))


def open_session(index: int, path: Path) -> None:
    SQLiteSessionManager(SESSION, path, metadata={f"from {index}": "yes"}, timeout=PATIENCE)


@AT_ONCE
def test_when_many_start_a_new_session_at_once_they_share_it(tmp_path: Path, at_once: Callable[..., list[Any]]) -> None:
    path = tmp_path / "sessions.db"
    at_once(5, open_session, path)
    stored = query(path, "SELECT session_id, key, value FROM session_metadata ORDER BY key")
    assert stored == [(SESSION, f"from {index}", "yes") for index in range(5)]
    assert query(path, "SELECT session_id FROM sessions") == [(SESSION,)]


def build_agent(index: int, path: Path) -> list[Any]:
    manager = SQLiteSessionManager(SESSION, path, timeout=PATIENCE)
    return list(live_agent(manager, AGENT, messages=[text(index), text(index)]).messages)


@AT_ONCE
def test_when_many_start_a_new_agent_at_once_one_creates_it_and_the_others_join(
    tmp_path: Path, at_once: Callable[..., list[Any]]
) -> None:
    path = tmp_path / "sessions.db"
    held = at_once(5, build_agent, path)
    (created,) = {stored[0] for stored in query(path, "SELECT message FROM messages")}
    winner = next(index for index in range(5) if f'"{index}"' in created)
    assert held == [[text(winner), text(winner)]] * 5


# -- all or nothing --


def test_a_reader_sees_a_new_agent_with_all_of_its_1_000_messages_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = SQLiteSessionManager(SESSION, path)
    seen = set()
    done = threading.Event()

    def watch(started: threading.Event) -> None:
        with closing(sqlite3.connect(path)) as connection:
            while not done.is_set():
                counts = "SELECT (SELECT count(*) FROM agents), (SELECT count(*) FROM messages)"
                seen.add(connection.execute(counts).fetchone())
                started.set()

    started = threading.Event()
    watcher = threading.Thread(target=watch, args=(started,))
    watcher.start()
    try:
        assert started.wait(PATIENCE)
        live_agent(manager, AGENT, messages=[text(number) for number in range(1000)])
    finally:
        done.set()
        watcher.join()
    assert seen <= {(0, 0), (1, 1000)}
    assert numbers(manager) == list(range(1000))


@pytest.mark.parametrize("unstorable", [object(), "\ud83d\ude00"], ids=["object", "surrogate pair"])
def test_an_agent_whose_900th_message_cannot_be_stored_is_not_stored_at_all(tmp_path: Path, unstorable: Any) -> None:
    manager = SQLiteSessionManager(SESSION, tmp_path / "sessions.db")
    messages: list[Any] = [text(number) for number in range(1000)]
    messages[900] = {"role": "user", "content": [{"text": unstorable}]}
    with pytest.raises(SessionException, match=r"messages\[900\]"):
        live_agent(manager, AGENT, messages=messages)
    assert manager.list_agents(SESSION) == []
    assert query(tmp_path / "sessions.db", "SELECT count(*) FROM messages") == [(0,)]

    messages[900] = text(900)
    live_agent(manager, AGENT, messages=messages)
    assert numbers(manager) == list(range(1000))


def assert_usable(path: Path) -> None:
    """See that a file is accepted, whatever a dead process has left of it, and works."""
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = live_agent(manager)
        agent("hello")
        assert len(manager.list_messages(SESSION, "live")) == len(agent.messages)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


@needs_fork
@pytest.mark.parametrize("size", [0, 500, 4096, 10_000, 20_000, 30_000])
def test_a_process_that_died_in_a_write_while_it_created_the_file_leaves_one_that_opens(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sessions.db"
    assert killed_at_size(lambda: begin(path), size) == signal.SIGXFSZ
    assert_usable(path)


@needs_fork
def test_a_process_killed_at_any_moment_while_it_created_the_file_leaves_one_that_opens(tmp_path: Path) -> None:
    begun = time.monotonic()
    begin(tmp_path / "whole.db").close()
    duration = time.monotonic() - begun
    chance = random.Random(1)
    for number in range(5):
        path = tmp_path / f"{number}.db"
        deadline = time.monotonic() + chance.random() * duration
        killed(lambda path=path: begin(path), lambda deadline=deadline: time.monotonic() > deadline)
        assert_usable(path)


# -- the schema --


def test_a_new_file_has_the_documented_columns_in_wal_mode_and_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    begin(path).close()
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert query(path, "PRAGMA page_size") == [(4096,)]
    assert query(path, "PRAGMA application_id") == [(0x53745353,)]
    assert query(path, "PRAGMA user_version") == [(1,)]
    tables = query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    assert {name for (name,) in tables} == set(COLUMNS)
    for table, columns in COLUMNS.items():
        assert {name for (name,) in query(path, f"SELECT name FROM pragma_table_info('{table}')")} == columns


def test_an_empty_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.touch()
    assert_usable(path)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with begin(path) as manager:
        add(manager, 0)
    before = path.read_bytes()
    with SQLiteSessionManager(SESSION, path) as manager:
        assert numbers(manager) == [0]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


class Orchestrator:
    """The part of an orchestrator that a repository needs."""

    id = "orchestrator"

    def serialize_state(self) -> dict[str, Any]:
        return {"status": "pending"}


def by_api(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        repository.delete_session(SESSION)


def by_sql(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM sessions WHERE session_id = ?", (SESSION,))


@pytest.mark.parametrize("delete", [by_api, by_sql])
def test_deleting_a_session_deletes_all_that_belongs_to_it(tmp_path: Path, delete: Callable[[Path], None]) -> None:
    path = tmp_path / "sessions.db"
    with begin(path, ["one", "two"], metadata={"app": "web"}) as manager:
        add_all(manager, range(3), "one")
        add_all(manager, range(3), "two")
        manager.create_multi_agent(SESSION, Orchestrator())  # type: ignore[arg-type]
    with SQLiteSessionManager("other", path, metadata={"app": "web"}) as other:
        live_agent(other)("hello")
    delete(path)
    for table, rows in {"sessions": 1, "session_metadata": 1, "agents": 1, "messages": 2, "multi_agents": 0}.items():
        assert query(path, f"SELECT count(*), coalesce(min(session_id), 'other') FROM {table}") == [(rows, "other")]


@pytest.mark.parametrize(
    "orphan",
    [
        "INSERT INTO session_metadata VALUES ('none', 'key', 'value')",
        "INSERT INTO agents (session_id, agent_id, created_at, updated_at, state, conversation_manager_state,"
        " internal_state) VALUES ('none', 'a', '', '', '{}', '{}', '{}')",
        "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
        " VALUES ('session', 'none', 0, '', '', '{}')",
        "INSERT INTO multi_agents (session_id, multi_agent_id, created_at, updated_at, state)"
        " VALUES ('none', 'm', '', '', '{}')",
    ],
    ids=["metadata", "agent", "message", "orchestrator"],
)
def test_the_schema_allows_no_row_without_its_owner(tmp_path: Path, orphan: str) -> None:
    path = tmp_path / "sessions.db"
    begin(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute(orphan)
