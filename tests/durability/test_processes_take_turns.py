"""Processes take turns to write, in order of arrival, and none can block the others for good.

The queue is a file beside the database; it must be harmless whatever happens to it.
"""

import multiprocessing
import os
import signal
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import (
    DatabaseLockedException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.database.database import Database

from ..support.lock_holders import held_elsewhere, held_for_a_moment, seconds_to_lock
from ..support.workers import in_processes

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="this system has no queue, and cannot stop or fork a process"
)

SESSION = "session"
TIMEOUT = 0.4  # seconds
MARGIN = 20.0  # seconds by which a busy machine may be late
QUEUED = 0.2  # seconds in which a process that was told to write waits for its turn


def queue_of(path: Path) -> Path:
    return Path(f"{path}-queue")


def prepare(path: Path, agents: int = 4) -> None:
    """Create a session with agents that processes append to."""
    with SQLiteSessionManager(SESSION, path, synchronous="NORMAL") as manager:
        for number in range(agents):
            manager.create_agent(SESSION, SessionAgent(f"agent {number}", {}, {}))


def append(repository: SQLiteSessionRepository, agent: int, number: int) -> None:
    message = SessionMessage({"role": "user", "content": [{"text": "hello"}]}, number)
    repository.create_message(SESSION, f"agent {agent}", message)


def appended(path: Path, agent: int) -> int:
    """Return how many messages of an agent are stored, as another connection sees it; none may be missing."""
    with closing(sqlite3.connect(path)) as connection:
        ids = [
            message_id
            for (message_id,) in connection.execute(
                "SELECT message_id FROM messages WHERE agent_id = ? ORDER BY message_id", (f"agent {agent}",)
            )
        ]
    assert ids == list(range(len(ids)))
    return len(ids)


class Writer:
    """A process that appends a message to an agent of its own whenever it is told to."""

    def __init__(self, path: Path, agent: int, timeout: float) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_write_when_told, args=(path, agent, timeout, theirs))
        self.process.start()
        theirs.close()

    def begin(self) -> None:
        """Have it append; `outcome` returns the result."""
        self._pipe.send("append")

    def stop(self) -> None:
        """Stop it where it is."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it after `stop`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def outcome(self, timeout: float = 30.0) -> str:
        """Return the name of what was raised, or an empty string; raise TimeoutError if there is nothing yet."""
        if not self._pipe.poll(timeout):
            raise TimeoutError
        outcome: str = self._pipe.recv()
        return outcome

    def append(self) -> str:
        """Have it append, and return the outcome."""
        self.begin()
        return self.outcome()

    def end(self) -> None:
        """Have it close the file and end."""
        self._pipe.send("end")
        self.process.join(20)
        assert self.process.exitcode == 0


def _write_when_told(path: Path, agent: int, timeout: float, pipe: Connection) -> None:
    with SQLiteSessionRepository(path, timeout=timeout) as repository:
        number = 0
        while pipe.recv() == "append":
            try:
                append(repository, agent, number)
            except SessionException as error:
                pipe.send(type(error).__name__)
            else:
                number += 1
                pipe.send("")


@contextmanager
def writer(path: Path, agent: int, timeout: float = 30.0) -> Iterator[Writer]:
    """Yield another process that appends to an agent, see `Writer`."""
    writer = Writer(path, agent, timeout)
    try:
        assert writer.append() == ""  # it has opened the file
        yield writer
    finally:
        writer.process.kill()
        writer.process.join()


# -- fairness --


def _append_for(index: int, path: Path, seconds: float) -> int:
    with SQLiteSessionRepository(path) as repository:
        count = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            append(repository, index, count)
            count += 1
    return count


def assert_fair(path: Path, processes: int, seconds: float) -> None:
    counts: list[int] = []
    for attempt in range(3):
        place = path.with_name(f"{attempt}.db")
        prepare(place, processes)
        counts = in_processes(processes, _append_for, place, seconds)
        assert [appended(place, agent) for agent in range(processes)] == counts
        if min(counts) >= sum(counts) / len(counts) / 5:
            return
    pytest.fail(f"some had hardly a turn: {counts}")


def test_four_processes_get_their_share(path: Path) -> None:
    assert_fair(path, 4, 0.5)


@pytest.mark.long
def test_sixteen_processes_get_their_share(path: Path, scaled: Callable[[int], int]) -> None:
    assert_fair(path, 16, scaled(5))


def _write_long(index: int, path: Path, seconds: float) -> int:
    """In the first process, hold the lock again and again, with hardly a pause; in the second, write now and then."""
    end = time.monotonic() + seconds
    count = 0
    if index == 0:
        database = Database(path)
        while time.monotonic() < end:
            database.transaction(lambda connection: time.sleep(0.05))
            count += 1
        return count
    with SQLiteSessionRepository(path, timeout=TIMEOUT * 5) as repository:
        while time.monotonic() < end:
            append(repository, 0, count)
            count += 1
            time.sleep(0.2)
    return count


def test_a_process_that_writes_without_a_pause_lets_others_write(path: Path) -> None:
    prepare(path)
    busy, other = in_processes(2, _write_long, path, 3.0)
    assert busy > 0
    assert other > 0


# -- processes that are killed or stopped --


def test_a_process_that_is_killed_in_the_queue_holds_nobody_up(path: Path) -> None:
    prepare(path)
    with writer(path, 0) as killed, writer(path, 1) as other, held_elsewhere(path, queued=True) as holder:
        killed.begin()
        other.begin()
        time.sleep(QUEUED)
        killed.process.kill()
        killed.process.join()
        released = holder.release()
        assert other.outcome() == ""
        assert time.monotonic() - released < MARGIN
    assert appended(path, 0) == 1


def test_a_process_that_is_killed_in_its_turn_holds_nobody_up(path: Path) -> None:
    prepare(path)
    with writer(path, 1) as other, held_elsewhere(path, queued=True) as holder:
        other.begin()
        time.sleep(QUEUED)
        begun = time.monotonic()
        holder.kill()
        assert other.outcome() == ""
        assert time.monotonic() - begun < MARGIN


def test_a_process_that_is_stopped_in_the_queue_holds_nobody_up_for_longer_than_the_timeout(path: Path) -> None:
    prepare(path)
    with writer(path, 0, TIMEOUT) as stopped, writer(path, 1, TIMEOUT) as other:
        with held_elsewhere(path, queued=True) as holder:
            stopped.begin()
            time.sleep(TIMEOUT / 2)
            stopped.stop()
            holder.release()
        begun = time.monotonic()
        assert other.append() in ("", "DatabaseLockedException")
        assert time.monotonic() - begun < TIMEOUT + MARGIN
        stopped.go_on()
        first = stopped.outcome()
        assert first in ("", "DatabaseLockedException")
        assert [stopped.append(), other.append()] == ["", ""]
        assert appended(path, 0) == 2 + (first == "")


def test_a_process_that_is_stopped_in_its_turn_fails_others_after_their_timeout(path: Path) -> None:
    prepare(path)
    with writer(path, 0, TIMEOUT) as one, writer(path, 1, TIMEOUT) as other:
        with held_elsewhere(path, queued=True) as holder:
            holder.stop()
            begun = time.monotonic()
            one.begin()
            other.begin()
            assert [one.outcome(), other.outcome()] == ["DatabaseLockedException"] * 2
            assert time.monotonic() - begun < TIMEOUT + MARGIN
            assert one.append() == "DatabaseLockedException"  # it can try again, any number of times
            holder.go_on()
            holder.release()
        assert [one.append(), other.append()] == ["", ""]
        assert [appended(path, 0), appended(path, 1)] == [2, 2]
        one.end()
        other.end()


def test_a_process_that_keeps_its_turn_and_does_not_write_fails_nobody(path: Path) -> None:
    prepare(path)
    with SQLiteSessionRepository(path, timeout=TIMEOUT * 5) as repository, held_elsewhere(path, idle=True):
        with held_for_a_moment(path):
            append(repository, 0, 0)
        append(repository, 0, 1)
    assert appended(path, 0) == 2


def test_a_process_that_waits_for_its_turn_can_read_and_close(path: Path) -> None:
    prepare(path)
    with held_elsewhere(path, queued=True):
        with SQLiteSessionRepository(path, timeout=TIMEOUT) as repository:
            with pytest.raises(DatabaseLockedException):
                append(repository, 0, 0)
            assert repository.list_messages(SESSION, "agent 0") == []
            begun = time.monotonic()
        assert time.monotonic() - begun < MARGIN


def test_a_program_that_knows_nothing_of_the_queue_is_waited_for(path: Path) -> None:
    prepare(path)
    with writer(path, 0) as one, writer(path, 1) as other, held_elsewhere(path) as holder:
        one.begin()
        other.begin()
        with pytest.raises(TimeoutError):
            one.outcome(QUEUED)
        holder.release()
        assert [one.outcome(), other.outcome()] == ["", ""]
        assert seconds_to_lock(path) < MARGIN


# -- the file --


def test_a_process_that_meets_no_other_writer_needs_no_file(path: Path) -> None:
    prepare(path)
    with SQLiteSessionRepository(path) as repository:
        append(repository, 0, 0)
        append(repository, 0, 1)
        assert not queue_of(path).exists()


def in_use(path: Path) -> SQLiteSessionRepository:
    """Return a repository that has met another writer, and so has queued if it can."""
    repository = SQLiteSessionRepository(path, timeout=5)
    with held_for_a_moment(path):
        append(repository, 0, appended(path, 0))
    return repository


def test_the_file_is_as_private_as_the_database_and_empty(path: Path) -> None:
    prepare(path)
    for mode in (0o600, 0o660, 0o644):
        path.chmod(mode)
        with in_use(path):
            found = queue_of(path).stat()
            assert stat.S_IMODE(found.st_mode) == mode
            assert found.st_size == 0


def test_the_file_is_gone_after_the_last_user(path: Path) -> None:
    prepare(path)
    assert not queue_of(path).exists()
    with in_use(path):
        with in_use(path):
            pass
        assert queue_of(path).exists()
    assert sorted(place.name for place in path.parent.iterdir()) == [path.name]


def test_a_process_that_leaves_does_not_break_the_queue(path: Path) -> None:
    prepare(path)
    with writer(path, 1) as one, writer(path, 2) as other:
        in_use(path).close()  # which removes the file
        assert [one.append(), other.append()] == ["", ""]
        with held_elsewhere(path, queued=True) as holder:
            one.begin()
            other.begin()
            time.sleep(QUEUED)
            in_use_elsewhere = queue_of(path).exists()
            holder.release()
        assert in_use_elsewhere
        assert [one.outcome(), other.outcome()] == ["", ""]
        one.end()
        other.end()
    assert not queue_of(path).exists()


def test_deleting_the_file_is_harmless(path: Path) -> None:
    prepare(path)
    with writer(path, 1) as one, writer(path, 2) as other:
        for _ in range(3):
            queue_of(path).unlink(missing_ok=True)
            one.begin()
            other.begin()
            assert [one.outcome(), other.outcome()] == ["", ""]


def plant_directory(queue: Path, elsewhere: Path) -> None:
    queue.mkdir()


def plant_link(queue: Path, elsewhere: Path) -> None:
    queue.symlink_to(elsewhere)


def plant_dangling_link(queue: Path, elsewhere: Path) -> None:
    queue.symlink_to(elsewhere.with_name("nowhere"))


def plant_hard_link(queue: Path, elsewhere: Path) -> None:
    os.link(elsewhere, queue)


def plant_fifo(queue: Path, elsewhere: Path) -> None:
    os.mkfifo(queue)


def plant_content(queue: Path, elsewhere: Path) -> None:
    queue.write_text("precious")


def plant_unreadable(queue: Path, elsewhere: Path) -> None:
    queue.touch()
    queue.chmod(0)


@pytest.mark.parametrize(
    "plant",
    [
        plant_directory,
        plant_link,
        plant_dangling_link,
        plant_hard_link,
        plant_fifo,
        plant_content,
        plant_unreadable,
    ],
)
@pytest.mark.parametrize("is_open", [False, True], ids=["before", "while open"])
def test_anything_in_place_of_the_queue_file_is_harmless(
    plant: Callable[[Path, Path], None], is_open: bool, path: Path, tmp_path_factory: Any
) -> None:
    prepare(path)
    folder = tmp_path_factory.mktemp("elsewhere")
    elsewhere = folder / "precious"
    elsewhere.write_text("precious")
    elsewhere.chmod(0o444)
    if is_open:
        with in_use(path) as repository:
            queue_of(path).unlink()
            plant(queue_of(path), elsewhere)
            append(repository, 0, 1)
            append(repository, 0, 2)
    else:
        plant(queue_of(path), elsewhere)
        in_use(path).close()
        in_use(path).close()
    assert appended(path, 0) >= 2
    assert [place.name for place in folder.iterdir()] == ["precious"]
    assert elsewhere.read_text() == "precious"
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o444
