"""A file has as many connections as threads were busy at once. All users share them; the last one closes them.

Readers never wait. Writers wait for each other, up to `timeout`.
"""

import gc
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from strands.agent.conversation_manager import NullConversationManager
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import DatabaseLockedException, SQLiteSessionManager, SQLiteSessionRepository

from ..support.numbered_messages import SESSION, add, add_all, begin, live_agent, numbers
from ..support.workers import PATIENCE, descriptors, in_threads

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc/self/fd")


def run_thread(target: Any, *arguments: Any) -> None:
    thread = threading.Thread(target=target, args=arguments)
    thread.start()
    thread.join()


@contextmanager
def another_writer(path: Path) -> Iterator[None]:
    """Hold the lock that a writer needs, as another program with `sqlite3` would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        yield
        stranger.execute("COMMIT")


# -- how many --


@needs_proc
def test_after_300_threads_no_more_files_are_open_than_after_10(tmp_path: Path) -> None:
    write_in_short_threads(tmp_path / "sessions.db", 300)


@needs_proc
@pytest.mark.long
def test_after_10_000_threads_no_more_files_are_open_than_after_10(
    tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    write_in_short_threads(tmp_path / "sessions.db", scaled(10_000))


def write_in_short_threads(path: Path, threads: int) -> None:
    manager = begin(path, synchronous="NORMAL")
    busy = threading.Barrier(10)

    def write(number: int) -> None:
        add(manager, number)
        if number < 10:
            busy.wait(PATIENCE)  # so that the first ten are busy at once

    def write_in_threads(first: int, count: int) -> None:
        threads = [threading.Thread(target=write, args=(first + index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    write_in_threads(0, 10)
    after_10 = len(descriptors(path))
    for first in range(10, threads, 5):
        write_in_threads(first, 5)
        assert len(descriptors(path)) <= after_10

    assert numbers(manager) == list(range(max(10, (threads + 4) // 5 * 5)))


@needs_proc
def test_the_turns_of_an_agent_leave_no_more_files_open_than_the_first(tmp_path: Path) -> None:
    agent = live_agent(SQLiteSessionManager(SESSION, tmp_path / "sessions.db"))
    agent("hello")
    after_one = descriptors(tmp_path)
    for _ in range(50):
        agent("hello")
    assert descriptors(tmp_path) == after_one


@needs_proc
def test_a_thread_takes_over_the_connection_of_one_that_ended(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    run_thread(add, manager, 0)
    after_one = descriptors(path)
    for number in range(1, 100):
        run_thread(add, manager, number)
    assert descriptors(path) == after_one
    assert numbers(manager) == list(range(100))


@needs_proc
def test_managers_and_repositories_on_one_file_share_its_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.db"
    first = begin(path)
    alone = descriptors(path)
    (tmp_path / "link.db").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(path))
    others = [
        SQLiteSessionManager("another session", path),
        SQLiteSessionManager(SESSION, "sessions.db", synchronous="NORMAL"),
        SQLiteSessionManager(SESSION, None, timeout=1),
        SQLiteSessionRepository(tmp_path / "link.db"),
        SQLiteSessionRepository(tmp_path / "." / ".." / tmp_path.name / "sessions.db"),
    ]
    add_all(first, range(3))
    assert [numbers(other) for other in others] == [[0, 1, 2]] * len(others)
    assert descriptors(path) == alone


# -- closed --


@needs_proc
def test_the_last_one_to_close_closes_the_connections(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    first, second = begin(path), SQLiteSessionRepository(path)
    in_threads(4, lambda index: add(first, index))

    first.close()
    first.close()  # again does nothing, and above all does not close for the other
    assert descriptors(path) != []
    assert len(numbers(second)) == 4

    second.close()
    assert descriptors(path) == []
    assert os.listdir(tmp_path) == ["sessions.db"]


@needs_proc
def test_managers_that_are_collected_close_their_connections(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    agents = [live_agent(SQLiteSessionManager(f"session {index}", path)) for index in range(3)]
    for agent in agents:
        agent("hello")
    assert descriptors(path) != []
    del agents, agent
    gc.collect()
    assert descriptors(path) == []


def test_a_closed_manager_says_so_and_another_on_the_file_keeps_working(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with begin(path) as closed:
        neighbor = SQLiteSessionManager(SESSION, path)
    for use in (lambda: add(closed, 0), lambda: numbers(closed), lambda: live_agent(closed)):
        with pytest.raises(SessionException, match=f"{re.escape(str(path))}.*closed"):
            use()
    add(neighbor, 0)
    assert numbers(neighbor) == [0]


@needs_proc
def test_a_connection_that_could_not_create_the_tables_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with another_writer(path):
        for _ in range(20):
            with pytest.raises(SessionException, match=re.escape(str(path))):
                SQLiteSessionRepository(path, timeout=0.01)
    assert descriptors(path) == []


@needs_proc
def test_a_connection_that_found_the_file_destroyed_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    with path.open("r+b") as file:
        file.write(b"garbage" * 20)
    refusals = []

    def read() -> None:
        with pytest.raises(SessionException, match=re.escape(str(path))) as refusal:
            numbers(manager)
        refusals.append(refusal)

    run_thread(read)
    after_one = descriptors(path)
    for _ in range(20):
        run_thread(read)
    assert len(refusals) == 21
    assert descriptors(path) == after_one
    manager.close()
    assert descriptors(path) == []


# -- waiting --


class Resuming(NullConversationManager):
    """Takes part in a resume, which reads the whole agent in one transaction, and can stop in the middle."""

    def __init__(self, stop: bool = False) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()
        if not stop:
            self.go_on.set()

    def restore_from_session(self, state: dict[str, Any]) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE), "somebody waited for a reader"
        return super().restore_from_session(state)


def test_no_thread_waits_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    live_agent(manager, conversation_manager=Resuming())("hello")

    def resume(resuming: Resuming) -> list[str]:
        agent = live_agent(SQLiteSessionManager(SESSION, path), conversation_manager=resuming)
        return [message["role"] for message in agent.messages]

    slow = Resuming(stop=True)
    with ThreadPoolExecutor(1) as executor:
        slowly = executor.submit(resume, slow)
        assert slow.begun.wait(PATIENCE)
        assert in_threads(4, lambda index: numbers(manager)) == [[]] * 4
        assert resume(Resuming()) == ["user", "assistant"]
        add(manager, 0)
        assert in_threads(4, lambda index: numbers(manager)) == [[0]] * 4
        assert not slowly.done()
        slow.go_on.set()
        assert slowly.result(PATIENCE) == ["user", "assistant"]


def test_a_failed_resume_leaves_its_thread_without_an_old_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    live_agent(manager)("hello")
    with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
        stranger.execute("UPDATE messages SET message = '{' WHERE agent_id = 'live' AND message_id = 0")
        with pytest.raises(SessionException, match="message 0 of agent live") as failure:
            live_agent(SQLiteSessionManager(SESSION, path))
        stranger.execute("UPDATE agents SET updated_at = 'later'")
    assert [agent.updated_at for agent in manager.list_agents(SESSION)] == ["later", "later"]
    add(manager, 0)
    assert numbers(manager) == [0]
    del failure  # it was kept until here, as a log or a debugger keeps it


def test_a_reader_never_waits_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    add(manager, 0)
    with another_writer(path):
        assert in_threads(4, lambda index: numbers(manager)) == [[0]] * 4


def test_a_writer_that_waited_too_long_gets_an_error_and_can_try_again(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, timeout=0.5)
    agent = live_agent(manager)
    refused = pytest.raises(DatabaseLockedException, match=f"{re.escape(str(path))}.*writer.*0\\.5 seconds")
    with another_writer(path):
        for write in (
            lambda: add(manager, 0),
            lambda: agent("hello"),
            lambda: SQLiteSessionManager("new", path, timeout=0.5),
        ):
            begun = time.monotonic()
            with refused as refusal:
                write()
            assert time.monotonic() - begun > 0.4
            assert isinstance(refusal.value.__cause__, sqlite3.OperationalError)

    add(manager, 0)
    assert numbers(manager) == [0]


def test_each_manager_waits_for_its_own_timeout(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    patient = begin(path, timeout=PATIENCE)
    hasty = SQLiteSessionManager(SESSION, path, timeout=0.1)
    refused = threading.Event()

    def write_patiently() -> None:
        assert refused.wait(PATIENCE)
        add(patient, 1)

    with another_writer(path):
        waiting = threading.Thread(target=write_patiently)
        waiting.start()
        with pytest.raises(DatabaseLockedException, match=r"0\.1 seconds"):
            add(hasty, 0)
        refused.set()
    waiting.join()
    assert numbers(patient) == [1]


def test_writers_that_are_kept_waiting_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, timeout=PATIENCE)
    started = threading.Semaphore(0)

    def write(index: int) -> None:
        started.release()
        add_all(manager, range(index * 25, index * 25 + 25))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    with another_writer(path):
        for thread in threads:
            thread.start()
        for _ in threads:
            assert started.acquire(timeout=PATIENCE)
        assert numbers(manager) == []
    for thread in threads:
        thread.join()
    assert numbers(manager) == list(range(200))
