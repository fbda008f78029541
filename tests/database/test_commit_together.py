"""Writers of one process commit together, and each of them gets its own outcome.

Threads write while another connection holds the write lock: they queue, and go into one commit when it is free.
"""

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import EventLoopException, SessionException
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import (
    DatabaseLockedException,
    SessionExistsException,
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
)

from ..support.commits import commits_in_wal
from ..support.lock_holders import held_here
from ..support.numbered_messages import live_agent

WRITERS = 12
SESSION = "session"
QUEUED = 0.1  # seconds in which threads that were just started have queued
POISON = "poison"
PATIENCE = 30


@pytest.fixture
def repository(path: Path) -> Iterator[SQLiteSessionRepository]:
    """A repository with a session, and an agent for each writer."""
    with SQLiteSessionManager(SESSION, path) as manager:
        for number in range(WRITERS):
            manager.create_agent(SESSION, SessionAgent(f"agent {number}", {}, {}))
        yield manager


def message(number: int, text: str) -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, number)


def stored(path: Path) -> set[str]:
    """Return what another connection sees of the messages, each as `agent 1, 0: text`."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            f"{agent_id}, {message_id}: {text}"
            for agent_id, message_id, text in connection.execute(
                "SELECT agent_id, message_id, message ->> '$.content[0].text' FROM messages"
            )
        }


@contextmanager
def writing(path: Path, *writes: Callable[[], Any], held: float = 0.0) -> Iterator[list["Future[Any]"]]:
    """Have threads write while the lock is held; with the end of the block, it is free, and all of them end."""
    with ThreadPoolExecutor(len(writes)) as executor:
        with held_here(path):
            futures = [executor.submit(write) for write in writes]
            time.sleep(QUEUED + held)
            yield futures
        wait(futures, PATIENCE)


def outcomes(path: Path, *writes: Callable[[], Any]) -> list[BaseException | None]:
    """Return what each of several writes raised that were queued together."""
    with writing(path, *writes) as futures:
        assert not any(future.done() for future in futures)
    return [future.exception(0) for future in futures]


def appending(repository: SQLiteSessionRepository, agent: int, number: int = 0, text: str = "hello") -> Any:
    return lambda: repository.create_message(SESSION, f"agent {agent}", message(number, text))


def test_waiting_writers_share_one_commit(path: Path, repository: SQLiteSessionRepository) -> None:
    before = commits_in_wal(path)
    assert outcomes(path, *(appending(repository, agent) for agent in range(WRITERS))) == [None] * WRITERS
    assert stored(path) == {f"agent {agent}, 0: hello" for agent in range(WRITERS)}
    # The first one waited for SQLite's lock itself, the others for the queue, to which some may have come late.
    assert commits_in_wal(path) - before <= 3


@pytest.mark.parametrize("modes", [("NORMAL",), ("FULL", "NORMAL")], ids="-".join)
def test_writers_of_any_durability_commit_together(
    modes: tuple[Any, ...], path: Path, repository: SQLiteSessionRepository
) -> None:
    repositories = [SQLiteSessionRepository(path, synchronous=mode) for mode in modes]
    writes = [appending(repositories[agent % len(modes)], agent) for agent in range(WRITERS)]
    before = commits_in_wal(path)
    assert outcomes(path, *writes) == [None] * WRITERS
    assert stored(path) == {f"agent {agent}, 0: hello" for agent in range(WRITERS)}
    assert commits_in_wal(path) - before <= 4
    for other in repositories:
        other.close()


def test_each_failing_write_is_refused_alone(path: Path, repository: SQLiteSessionRepository) -> None:
    appending(repository, 0, 0, "first")()
    stale_manager = SQLiteSessionManager("talk", path)
    stale, fresh = live_agent(stale_manager, "default"), live_agent(SQLiteSessionManager("talk", path), "default")
    fresh("hello")
    writes = {
        "good": appending(repository, 1),
        "taken": appending(repository, 0, 0, "second"),
        "orphan": appending(repository, WRITERS),
        "stale": lambda: stale_manager.append_message({"role": "user", "content": [{"text": "stale"}]}, stale),
        "gone": lambda: repository.delete_session("nowhere"),
        "many": lambda: SQLiteSessionManager("new", path, metadata={"user": "ada"}),
        "again": appending(repository, 0, 1, "third"),
    }
    raised = dict(zip(writes, outcomes(path, *writes.values()), strict=True))
    refused = {name: type(error) for name, error in raised.items() if error is not None}
    assert refused == {
        "taken": SessionExistsException,
        "orphan": SessionNotFoundException,
        "stale": StaleSessionException,
        "gone": SessionNotFoundException,
    }
    assert stored(path) == {
        "agent 0, 0: first",
        "agent 0, 1: third",
        "agent 1, 0: hello",
        "default, 0: hello",
        "default, 1: reply 1",
    }
    assert [summary.session_id for summary in repository.list_sessions(metadata={"user": "ada"})] == ["new"]


def test_of_several_with_the_same_id_one_succeeds(path: Path, repository: SQLiteSessionRepository) -> None:
    raised = outcomes(path, *(appending(repository, 0, 0, f"{number}") for number in range(WRITERS)))
    assert [type(error) for error in raised].count(SessionExistsException) == WRITERS - 1
    assert stored(path) == {f"agent 0, 0: {raised.index(None)}"}


def make_commits_fail(path: Path) -> None:
    """Make the commit of every transaction with a poisoned message fail, but no earlier statement."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"""
            CREATE TABLE creditors (id INTEGER PRIMARY KEY);
            CREATE TABLE debts (id INTEGER REFERENCES creditors (id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER indebted AFTER INSERT ON messages WHEN new.message LIKE '%{POISON}%'
            BEGIN INSERT INTO debts VALUES (1); END;
        """)


def make_transactions_fail(path: Path) -> None:
    """Make SQLite roll back every transaction that writes a poisoned message."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"""
            CREATE TRIGGER poisoned BEFORE INSERT ON messages WHEN new.message LIKE '%{POISON}%'
            BEGIN SELECT RAISE(ROLLBACK, 'injected'); END
        """)


@pytest.mark.parametrize("make_fail", [make_commits_fail, make_transactions_fail])
def test_a_failed_commit_fails_every_write_in_it(
    make_fail: Callable[[Path], None], path: Path, repository: SQLiteSessionRepository
) -> None:
    make_fail(path)
    writes = [appending(repository, agent) for agent in range(1, WRITERS)]
    raised = outcomes(path, *writes, appending(repository, 0, text=POISON))
    succeeded = {f"agent {agent}, 0: hello" for agent, error in enumerate(raised, 1) if error is None}
    assert stored(path) == succeeded
    assert len(succeeded) <= 2  # waited for the lock itself, or came late
    assert all(isinstance(error, SessionException) for error in raised if error is not None)
    assert not any(isinstance(error, DatabaseLockedException) for error in raised)
    for write, error in zip(writes, raised, strict=False):
        if error is not None:
            write()
    assert len(stored(path)) == WRITERS - 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_full_disk_fails_all_and_nothing_is_half_stored(path: Path, repository: SQLiteSessionRepository) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _write_to_a_full_disk(path, repository)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child failed, see stderr"
    assert stored(path) == {f"agent {agent}, 0: hello" for agent in range(WRITERS)}
    assert repository.check() == []


def _write_to_a_full_disk(path: Path, repository: SQLiteSessionRepository) -> None:
    """Run in a child process whose files may not grow."""
    import resource  # not on Windows

    writes = [appending(repository, agent) for agent in range(WRITERS)]
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with writing(path, *writes) as futures:
        size = max(Path(f"{path}-wal").stat().st_size, 4096)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
    raised = [future.exception(0) for future in futures]
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert all(isinstance(error, SessionException) for error in raised), raised
    assert stored(path) == set()
    for write in writes:
        write()


def test_queued_writes_go_on_after_the_file_could_be_opened_only_for_reading(path: Path) -> None:
    """If a disk fails for a moment, SQLite opens the file for reading, and says so only when it is to write."""
    modes = iter(["rw", "ro"])

    def connect(path: str) -> sqlite3.Connection:
        return sqlite3.connect(f"{Path(path).as_uri()}?mode={next(modes, 'rw')}", uri=True, check_same_thread=False)

    path.touch()
    with SQLiteSessionManager(SESSION, path, connect=connect) as manager:
        agent = live_agent(manager, "agent 0")
        with pytest.raises((SessionException, EventLoopException)):
            agent("refused")
        agent("accepted")
    with SQLiteSessionRepository(path) as repository:
        assert repository.read_context(SESSION, "agent 0") == agent.messages


def test_a_write_that_returned_is_committed(path: Path, repository: SQLiteSessionRepository) -> None:
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        reading = threading.Lock()

        def write(agent: int) -> None:
            for number in range(20):
                appending(repository, agent, number)()
                with reading:
                    found = connection.execute(
                        "SELECT 1 FROM messages WHERE agent_id = ? AND message_id = ?", (f"agent {agent}", number)
                    ).fetchall()
                assert found == [(1,)], f"agent {agent}, {number}"

        with ThreadPoolExecutor(WRITERS) as executor:
            list(executor.map(write, range(WRITERS)))
    assert len(stored(path)) == WRITERS * 20


def test_a_writer_that_times_out_is_told_in_time_and_writes_nothing_later(path: Path) -> None:
    timeout = 0.15
    with SQLiteSessionManager(SESSION, path, timeout=timeout) as repository:
        for number in range(WRITERS):
            repository.create_agent(SESSION, SessionAgent(f"agent {number}", {}, {}))
        waited: list[float] = []

        def write(agent: int) -> None:
            begun = time.monotonic()
            try:
                appending(repository, agent)()
            finally:
                waited.append(time.monotonic() - begun)

        writes = [lambda agent=agent: write(agent) for agent in range(1, WRITERS)]
        with writing(path, *writes, held=timeout + 0.25) as futures:
            assert all(future.done() for future in futures)
        assert [type(future.exception(0)) for future in futures] == [DatabaseLockedException] * (WRITERS - 1)
        assert min(waited) >= timeout * 0.9
        appending(repository, 0)()
        time.sleep(0.15)  # longer than the committer waits before it checks which writers still wait
        assert stored(path) == {"agent 0, 0: hello"}


def test_an_event_loop_that_times_out_is_told_in_time_and_writes_nothing_later(path: Path) -> None:
    manager = SQLiteSessionManager(SESSION, path, timeout=0.15)
    agents = [live_agent(manager, f"agent {number}") for number in range(4)]

    async def wait_in_vain() -> None:
        with held_here(path):
            begun = time.monotonic()
            raised = await asyncio.gather(*(agent.invoke_async("in vain") for agent in agents), return_exceptions=True)
            assert [type(error) for error in raised] == [DatabaseLockedException] * len(agents)
            assert time.monotonic() - begun < 20
        await asyncio.sleep(0.15)
        assert stored(path) == set()
        # The next event stores it: the agent still holds it.
        await agents[0].invoke_async("hello")

    asyncio.run(wait_in_vain())
    assert stored(path) == {"agent 0, 0: in vain", "agent 0, 1: hello", "agent 0, 2: reply 1"}
    manager.close()


class Interrupted(BaseException):
    """Raised by a signal handler, as KeyboardInterrupt is."""


def interrupt(*_: Any) -> None:
    raise Interrupted


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_writer_interrupted_in_the_queue_never_writes_later(path: Path, repository: SQLiteSessionRepository) -> None:
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        with writing(path, appending(repository, 1), appending(repository, 2)) as futures:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interrupted):
                appending(repository, 0)()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert [future.exception(0) for future in futures] == [None, None]
    appending(repository, 3)()
    assert stored(path) == {f"agent {agent}, 0: hello" for agent in (1, 2, 3)}


def test_a_lone_writer_starts_no_thread(path: Path) -> None:
    before = set(threading.enumerate())
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = live_agent(manager)
        for number in range(5):
            manager.append_message({"role": "user", "content": [{"text": f"{number}"}]}, agent)
        manager.sync_agent(agent)
        manager.update_session_metadata(SESSION, {"user": "ada"})
        manager.delete_session(SESSION)
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


@pytest.mark.long
def test_the_committer_ends_when_idle(path: Path, repository: SQLiteSessionRepository) -> None:
    before = set(threading.enumerate())
    assert outcomes(path, *(appending(repository, agent) for agent in range(4))) == [None] * 4
    (committer,) = set(threading.enumerate()) - before
    committer.join(PATIENCE)
    assert not committer.is_alive()
    assert outcomes(path, *(appending(repository, agent) for agent in range(4, 8))) == [None] * 4


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_writers_with_all_outcomes_at_once(
    seed: int, path: Path, repository: SQLiteSessionRepository, scaled: Callable[[int], int]
) -> None:
    """Every thread appends to its agent, and now and then uses an id that is taken, or an agent that does not exist."""
    make_transactions_fail(path)
    rounds = scaled(300)

    def write(agent: int) -> set[str]:
        returned = set()
        number = 0
        for turn in range(rounds):
            kind = (turn * 7 + agent + seed) % 11
            text = POISON if kind == 3 and agent == 0 else "hello"
            target, id_ = (WRITERS, number) if kind == 5 else (agent, 0 if kind == 7 and number else number)
            try:
                appending(repository, target, id_, text)()
            except SessionException:
                continue
            assert (target, id_) == (agent, number)
            returned.add(f"agent {agent}, {number}: {text}")
            number += 1
        return returned

    with ThreadPoolExecutor(WRITERS) as executor:
        returned = set().union(*executor.map(write, range(WRITERS)))
    assert returned == stored(path)
    assert not any(POISON in text for text in returned)
    assert repository.check() == []
