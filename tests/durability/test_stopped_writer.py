"""A process that is stopped in the middle of a write holds up other writers for `timeout`, and no longer.

The error names the file and how long they waited. Readers do not notice. When the process continues, all others do, and
nothing is lost.
"""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import (
    DatabaseLockedException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    copy_session,
)

from ..support.numbered_messages import SESSION, add, add_all, begin, live_agent, numbers
from ..support.records import session
from ..support.stopped_processes import holds_the_lock, stopped
from ..support.workers import PATIENCE, in_threads

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")

TIMEOUT = 0.4
BIG = "big"  # a session that takes a while to be copied
SIZE = 500  # its messages
ENOUGH = "enough"  # a file that tells a child to end
MARGIN = 20.0  # seconds by which a busy machine may be late


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a session of numbered messages, a big session, and one to be deleted."""
    path = tmp_path / "sessions.db"
    with begin(path, synchronous="NORMAL") as manager:
        add_all(manager, range(3))
        live_agent(manager)("hello")
        with SQLiteSessionManager(BIG, path) as big:
            live_agent(big, messages=[{"role": "user", "content": [{"text": "big " * 200}]}] * SIZE)
        SQLiteSessionManager("doomed", path)
    return path


def _repeatedly(path: Path, deed: Callable[[SQLiteSessionRepository, int], object]) -> None:
    """Repeat something until a condition holds, or fail after a long time."""
    with SQLiteSessionRepository(path, timeout=300) as repository:
        number = 0
        while not path.with_name(ENOUGH).exists():
            deed(repository, number)
            number += 1


def _copy(repository: SQLiteSessionRepository, number: int) -> None:
    copy_session(repository, repository, BIG, new_session_id=f"copy {number}")


def _delete(repository: SQLiteSessionRepository, number: int) -> None:
    repository.create_session(session(f"short {number}"))
    repository.delete_session(f"short {number}")


def _take_a_turn(repository: SQLiteSessionRepository, number: int) -> None:
    live_agent(SQLiteSessionManager(f"talk {number}", repository._database.path, timeout=300))("hello")


WRITES: dict[str, Callable[[SQLiteSessionRepository, int], object]] = {
    "an append": lambda repository, number: add(repository, 3 + number),
    "a turn": _take_a_turn,
    "a fork": lambda repository, number: repository.fork_session(BIG, f"fork {number}"),
    "a copy": _copy,
    "a deletion": _delete,
    "a vacuum": lambda repository, _: repository.vacuum(),
}


@contextmanager
def stopped_in(write: str, path: Path) -> Iterator[None]:
    with stopped(_repeatedly, path, WRITES[write], is_right=holds_the_lock(path)):
        yield
        path.with_name(ENOUGH).touch()


@contextmanager
def refused_in_time(path: Path, timeout: float = TIMEOUT, margin: float = MARGIN) -> Iterator[None]:
    begun = time.monotonic()
    told = f"{re.escape(str(path))} .*another writer.*{re.escape(f'{timeout:g}')} seconds"
    with pytest.raises(DatabaseLockedException, match=told):
        yield
    assert timeout * 0.9 < time.monotonic() - begun < timeout + margin


def verify(path: Path, expected: int) -> None:
    """Everything is whole, and the history has at least as many numbers as it must."""
    with SQLiteSessionRepository(path) as repository:
        assert repository.check() == []
        found = numbers(repository)
        assert found == list(range(len(found)))
        assert len(found) >= expected
        for summary in repository.list_sessions():
            if summary.session_id.startswith(("fork", "copy", BIG)):
                assert summary.message_count == SIZE


# -- a writer --


@pytest.mark.parametrize("write", WRITES)
def test_writers_wait_for_a_stopped_writer_until_their_timeout_and_readers_not_at_all(write: str, path: Path) -> None:
    with SQLiteSessionManager(SESSION, path, timeout=TIMEOUT) as manager:
        with stopped_in(write, path):
            known = numbers(manager)
            with refused_in_time(path):
                add(manager, len(known))
            assert numbers(manager) == known
            assert in_threads(2, lambda _: numbers(manager)) == [known] * 2  # by connections that are new
        add(manager, len(numbers(manager)))
    verify(path, len(known) + 1)


def test_whatever_writes_is_refused_in_time_and_can_be_done_again(path: Path) -> None:
    with SQLiteSessionManager(SESSION, path, timeout=TIMEOUT) as manager:
        agent = live_agent(manager, "another")
        SQLiteSessionManager("tagged", path, metadata={"key": "tagged"}).close()
        writes: list[Callable[[], Any]] = [
            lambda: agent("hello"),
            lambda: SQLiteSessionManager("new", path, timeout=TIMEOUT),
            lambda: manager.fork_session(SESSION, "another fork"),
            lambda: manager.update_session_metadata(SESSION, {"key": "value"}),
            lambda: manager.delete_sessions(metadata={"key": "tagged"}),
            lambda: manager.delete_session("doomed"),
            lambda: manager.vacuum(),
        ]
        with stopped_in("a copy", path):
            for write in writes:
                with refused_in_time(path):
                    write()
            assert manager.read_session("doomed") is not None
        for write in writes:
            write()
        assert {"new", "another fork"} <= {summary.session_id for summary in manager.list_sessions()}
    verify(path, 3)


def test_every_reader_works_beside_a_stopped_writer(path: Path, tmp_path: Path) -> None:
    with SQLiteSessionRepository(path, timeout=TIMEOUT) as repository:
        before = repository.list_sessions()
        with stopped_in("a fork", path):
            known = [summary for summary in repository.list_sessions() if not summary.session_id.startswith("fork")]
            assert known == before
            assert len(repository.search_messages("big", session_id=BIG, limit=None)) == SIZE
            assert repository.check() == []
            repository.backup(tmp_path / "backup.db")
            with SQLiteSessionManager(SESSION, path, timeout=TIMEOUT) as manager:
                assert [message["role"] for message in live_agent(manager).messages] == ["user", "assistant"]
    verify(path, 3)
    verify(tmp_path / "backup.db", 3)


def test_waiting_for_other_threads_counts_toward_the_timeout(path: Path) -> None:
    """`timeout` is counted from the call, whatever a writer waits for: its own process, or another."""
    others = threading.Barrier(6)

    def wait(index: int) -> None:
        timeout = 2.0 if index == 0 else 1.5  # one after the other, the last would wait for 9.5
        with SQLiteSessionManager(SESSION, path, timeout=timeout) as manager:
            others.wait(PATIENCE)
            for _ in range(2):  # the second time, the queue is there already
                with refused_in_time(path, timeout, margin=6):
                    add(manager, 1_000_000 + index)

    with stopped_in("a copy", path):
        in_threads(6, wait)
    verify(path, 3)


def test_a_thread_waits_for_the_vacuum_of_another_for_its_timeout(path: Path) -> None:
    """The queue of a process is a part of `timeout` as well."""
    hasty = SQLiteSessionManager(SESSION, path, timeout=0.001)
    patient = SQLiteSessionManager(SESSION, path, timeout=300)
    refused = []

    def work(index: int) -> None:
        if index == 0:
            for _ in range(10):
                if refused:
                    break
                patient.vacuum()
            done.append(True)
        while index and not done and not refused:
            begun = time.monotonic()
            try:
                hasty.update_session_metadata(SESSION, {"key": str(begun)})
            except DatabaseLockedException as error:
                refused.append((str(error), time.monotonic() - begun))

    done: list[bool] = []
    in_threads(2, work)
    ((told, waited),) = refused
    assert told == (
        f"{path} | another writer kept the database locked for more than 0.001 seconds; nothing was written: try again"
    )
    assert waited < MARGIN
    patient.update_session_metadata(SESSION, {"key": "value"})
    verify(path, 3)
