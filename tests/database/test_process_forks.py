"""A process may fork whatever it is doing with a file: parent and child both continue, and neither harms the other."""

import gc
import itertools
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, StaleSessionException

from ..support.numbered_messages import SESSION, add, add_all, begin, converse, live_agent, numbers
from ..support.tiers import tier
from ..support.workers import PATIENCE, descriptors, forked, in_processes

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@contextmanager
def writing(manager: SQLiteSessionManager, agent_ids: Iterable[str]) -> Iterator[dict[str, int]]:
    """Write without a pause, in one thread for each agent; the counts say how much, and are final after the block."""
    stop = threading.Event()
    counts = dict.fromkeys(agent_ids, 0)
    under_way = threading.Barrier(len(counts) + 1)

    def write(agent_id: str) -> None:
        for number in itertools.count():
            add(manager, number, agent_id)
            counts[agent_id] = number + 1
            if number == 0:
                under_way.wait(PATIENCE)
            if stop.is_set():
                return

    threads = [threading.Thread(target=write, args=(agent_id,)) for agent_id in counts]
    for thread in threads:
        thread.start()
    try:
        under_way.wait(PATIENCE)
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


# -- os.fork --


@needs_fork
def test_a_child_writes_while_its_parents_threads_write(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    parents = [f"parent {index}" for index in range(4)]
    manager = begin(path, [*parents, "child"])
    with writing(manager, parents) as counts, forked(lambda pipe: add_all(manager, range(200), "child")):
        pass
    assert numbers(manager, "child") == list(range(200))
    assert {agent_id: numbers(manager, agent_id) for agent_id in parents} == {
        agent_id: list(range(count)) for agent_id, count in counts.items()
    }
    manager.close()
    assert_sound(path)


@pytest.mark.long
@needs_fork
@pytest.mark.parametrize("forks", [5, pytest.param(20, marks=pytest.mark.long)])
def test_forks_in_the_midst_of_writing_lose_nothing(forks: int, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    parents = ["parent 0", "parent 1", "parent 2"]
    children = [f"child {index}" for index in range(forks)]
    manager = begin(path, [*parents, *children], synchronous="NORMAL")
    with writing(manager, parents) as counts:
        for child in children:
            with forked(lambda pipe, child=child: add_all(manager, range(10), child)):
                pass
    for child in children:
        assert numbers(manager, child) == list(range(10))
    for parent, count in counts.items():
        assert numbers(manager, parent) == list(range(count))
    manager.close()
    assert_sound(path)


@needs_fork
def test_threads_that_fork_at_once_all_get_working_children(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    ids = [f"child {index}" for index in range(4)]
    manager = begin(path, [*ids, "parent"], synchronous="NORMAL")

    def fork_a_child(agent_id: str) -> None:
        add(manager, 0, agent_id)  # the thread has a connection of its own
        with forked(lambda pipe: add_all(manager, range(1, 20), agent_id)):
            pass
        add(manager, 20, agent_id)

    with writing(manager, ["parent"]):
        threads = [threading.Thread(target=fork_a_child, args=(agent_id,)) for agent_id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [numbers(manager, agent_id) for agent_id in ids] == [list(range(21))] * 4
    assert_sound(path)


@needs_fork
def test_a_parent_that_closes_everything_leaves_its_child_the_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, ["parent", "child"])
    add(manager, 0, "parent")

    def write_on(pipe: Connection) -> None:
        add_all(manager, range(50), "child")
        pipe.send("half")
        pipe.recv()
        add_all(manager, range(50, 100), "child")

    with forked(write_on) as pipe:
        assert pipe.recv() == "half"
        add(manager, 1, "parent")
        manager.close()  # the last user in this process: unnoticed, the child would lose the WAL
        pipe.send("closed")
    with SQLiteSessionRepository(path) as repository:
        assert numbers(repository, "child") == list(range(100))
        assert numbers(repository, "parent") == [0, 1]
    assert_sound(path)


@needs_fork
def test_a_child_that_closes_everything_leaves_its_parent_the_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, ["parent", "child"])
    add_all(manager, range(50), "parent")

    def write_and_close(pipe: Connection) -> None:
        add(manager, 0, "child")
        manager.close()

    with forked(write_and_close):
        add_all(manager, range(50, 100), "parent")
    add_all(manager, range(100, 150), "parent")
    manager.close()
    with SQLiteSessionRepository(path) as repository:
        assert numbers(repository, "parent") == list(range(150))
        assert numbers(repository, "child") == [0]
    assert_sound(path)


@needs_fork
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at open files in /proc/self/fd")
def test_a_child_inherits_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    with writing(manager, ["agent"]), forked(lambda pipe: pipe.send(descriptors(path))) as pipe:
        assert pipe.recv() == []
    assert descriptors(path) != []


@needs_fork
def test_an_agent_that_continues_in_a_child_is_stale_in_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = SQLiteSessionManager(SESSION, path)
    agent = live_agent(manager)
    agent("in the parent")

    with forked(lambda pipe: agent("in the child")):
        pass

    with pytest.raises(StaleSessionException, match="another writer continued the conversation"):
        agent("in the parent again")
    resumed = live_agent(SQLiteSessionManager(SESSION, path))
    assert [block["text"] for message in resumed.messages for block in message["content"]] == [
        *("in the parent", "reply 1"),
        *("in the child", "reply 2"),
    ]


@needs_fork
def test_different_agents_continue_in_parent_and_child(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = SQLiteSessionManager(SESSION, path)
    parents, childs = live_agent(manager, "parent's"), live_agent(manager, "child's")

    def go_on(agent: Any) -> None:
        for _ in range(20):
            agent("hello")

    with forked(lambda pipe: go_on(childs)):
        go_on(parents)
    go_on(parents)
    with SQLiteSessionRepository(path) as repository:
        assert len(repository.list_messages(SESSION, "parent's")) == 80
        assert len(repository.list_messages(SESSION, "child's")) == 40


@needs_fork
def test_a_database_in_memory_continues_separately_in_parent_and_child(tmp_path: Path) -> None:
    manager = begin(":memory:", ["busy", "quiet"])
    add(manager, 0, "quiet")

    def write_own(pipe: Connection) -> None:
        add(manager, 1, "quiet")
        busy = numbers(manager, "busy")
        assert busy == list(range(len(busy)))
        pipe.send(numbers(manager, "quiet"))

    with writing(manager, ["busy"]) as counts, forked(write_own) as pipe:
        assert pipe.recv() == [0, 1]
        add(manager, 2, "quiet")
    assert numbers(manager, "quiet") == [0, 2]
    assert numbers(manager, "busy") == list(range(counts["busy"]))


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@needs_fork
def test_a_fork_while_a_thread_waits_for_another_writer_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, ["parent", "child"], timeout=0.3)
    tried, refusals = threading.Event(), []

    def insist() -> None:
        """Write as soon as possible: nearly all of this thread's time is spent waiting for the lock."""
        while True:
            try:
                return add(manager, 0, "parent")
            except SessionException as refusal:
                refusals.append(str(refusal))
                tried.set()

    def read_then_write(pipe: Connection) -> None:
        pipe.send(numbers(manager, "child"))
        pipe.recv()
        add(SQLiteSessionManager(SESSION, path, timeout=PATIENCE), 0, "child")

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        insisting = threading.Thread(target=insist)
        insisting.start()
        assert tried.wait(PATIENCE)
        with forked(read_then_write) as pipe:
            assert pipe.recv() == []  # the child reads while the lock is still held
            holder.stdin.write("release\n")
            holder.stdin.flush()
            pipe.send("released")
        insisting.join()
    assert all("another writer" in refusal for refusal in refusals)
    assert numbers(manager, "parent") == numbers(manager, "child") == [0]


COLLECT_DURING_FORK = """
import gc, os, sys, threading

forking, collected = threading.Event(), threading.Event()

def wait_for_the_collector():
    # As Python's own hooks do that wait for a lock which another thread holds at this moment.
    forking.set()
    if not collected.wait(20):
        print("held up")

os.register_at_fork(before=wait_for_the_collector)  # hooks that are registered first are called last
from tests.support.numbered_messages import add, begin, numbers

forgotten, kept = begin(sys.argv[1]), begin(sys.argv[2])

def collect():
    global forgotten
    forking.wait()
    del forgotten
    gc.collect()
    collected.set()

collector = threading.Thread(target=collect)
collector.start()
if os.fork() == 0:
    add(kept, 0)
    os._exit(0)
collector.join()
os.wait()
print(numbers(kept), [name for name in os.listdir(os.path.dirname(sys.argv[1])) if name.startswith("forgotten")])
"""


@pytest.mark.long
@needs_fork
def test_a_manager_that_is_collected_during_a_fork_does_not_hold_it_up(tmp_path: Path) -> None:
    script = [sys.executable, "-c", COLLECT_DURING_FORK, str(tmp_path / "forgotten.db"), str(tmp_path / "kept.db")]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stdout == "[0] ['forgotten.db']\n"


# -- multiprocessing --

METHODS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("start_method", tier(METHODS, quick=METHODS[:1]))
def test_processes_of_every_start_method_write_while_their_parent_does(tmp_path: Path, start_method: str) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path, ["parent", *(f"agent {index}" for index in range(2))], synchronous="NORMAL")
    with writing(manager, ["parent"]) as counts:
        assert in_processes(2, converse, path, start_method=start_method) == [list(range(50))] * 2
    assert numbers(manager, "parent") == list(range(counts["parent"]))
    for index in range(2):
        assert len(manager.list_messages(SESSION, f"live {index}")) == 10
    manager.close()
    gc.collect()
    assert_sound(path)
