"""A process that is stopped while it creates, upgrades, or reads a file holds up others for `timeout` at most."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import DatabaseLockedException, SQLiteSessionManager, SQLiteSessionRepository

from ..support import legacy_files
from ..support.numbered_messages import SESSION, add, begin, numbers
from ..support.stopped_processes import holds_the_lock, stopped
from ..support.workers import in_threads

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")

MARGIN = 20.0  # seconds by which a busy machine may be late
ENOUGH = "enough"  # a file that tells a child to end


def open_and_close(path: Path) -> None:
    SQLiteSessionRepository(path, timeout=300).close()


def refused_opening(path: Path, timeout: float) -> float:
    """Try to open a file, and return how long it took to be refused."""
    begun = time.monotonic()
    with pytest.raises(SessionException, match=f"{re.escape(str(path))} .*another writer.*{timeout:g} seconds"):
        SQLiteSessionManager(SESSION, path, timeout=timeout)
    return time.monotonic() - begun


# -- an upgrade --


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A legacy file that takes a while to be upgraded."""
    path = tmp_path / "sessions.db"
    legacy_files.write(path, legacy_files.large(messages=1_000, size=1_000))
    return path


def test_a_manager_waits_for_a_stopped_upgrade_for_its_timeout(earlier: Path) -> None:
    with stopped(open_and_close, earlier, is_right=holds_the_lock(earlier)):
        assert 0.3 < refused_opening(earlier, 0.4) < 0.4 + MARGIN
    with SQLiteSessionManager(SESSION, earlier) as manager:
        assert numbers(manager) == list(range(1_000))
        assert manager.check() == []


def test_threads_that_open_the_file_at_once_do_not_wait_one_after_the_other(earlier: Path) -> None:
    """Each has its own `timeout`, counted from its call, however many are before it."""
    with stopped(open_and_close, earlier, is_right=holds_the_lock(earlier)):
        waited = in_threads(4, lambda _: refused_opening(earlier, 2.0))
    assert max(waited) < 7  # one after the other, the last would wait for 8


def test_a_thread_that_opens_the_file_waits_for_its_own_timeout(earlier: Path) -> None:
    timeouts = [7.0, 0.4, 0.4]

    def wait(index: int) -> float:
        # The second and third time, the patient one is there first.
        return max(refused_opening(earlier, timeouts[index]) for _ in range(3 if index else 1))

    with stopped(open_and_close, earlier, is_right=holds_the_lock(earlier)):
        _, *hasty = in_threads(3, wait)
    assert max(hasty) < 6


# -- a new file --


def create_files(folder: Path) -> None:
    for number in count():
        if folder.joinpath(ENOUGH).exists():
            return
        open_and_close(folder / f"{number}.db")


def stop_creations(folder: Path, times: int) -> int:
    """Open what a stopped process was about to create, many times; return how often that was refused in time."""
    refused = 0
    timeout = 0.1

    def newest() -> Path:
        return max(folder.glob("*.db"), key=lambda path: int(path.stem), default=folder / "0.db")

    for _ in range(times):
        with stopped(create_files, folder, is_right=lambda: newest().exists()):
            path = newest()
            begun = time.monotonic()
            refusal = None
            try:
                begin(path, timeout=timeout).close()
            except SessionException as error:
                refusal = str(error)
                refused += 1
            held = "held the database|kept the database locked"  # while the file was opened, or while it was written
            assert refusal is None or re.search(rf"another writer ({held}) for more than 0.1 seconds", refusal), refusal
            assert time.monotonic() - begun < timeout + MARGIN
            folder.joinpath(ENOUGH).touch()
        for file in folder.glob("*.db"):
            with SQLiteSessionManager(SESSION, file) as manager:
                assert manager.check() == []
        for file in folder.iterdir():
            file.unlink()
    return refused


def test_a_file_that_a_stopped_process_creates_can_be_opened_or_is_refused_in_time(tmp_path: Path) -> None:
    stop_creations(tmp_path, 5)


@pytest.mark.long
def test_at_any_moment_a_file_that_a_stopped_process_creates_can_be_opened_or_is_refused_in_time(
    tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """300 processes, stopped at random moments of creating files, of which some hold the lock just then."""
    rounds = scaled(300)
    refused = stop_creations(tmp_path, rounds)
    assert refused < rounds
    assert refused > 0 or rounds < 100  # some were stopped while they held the lock


# -- a reader --


def back_up_and_stop(path: Path, destination: Path) -> None:
    stops = iter([signal.SIGSTOP])  # there is more than one moment of progress
    with SQLiteSessionRepository(path) as repository:
        repository.backup(destination, progress=lambda *_: os.kill(os.getpid(), next(stops, 0)))


def test_a_process_that_is_stopped_in_a_backup_holds_up_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with begin(path, timeout=0.5) as manager:
        add(manager, 0)
        SQLiteSessionManager("doomed", path)

        def is_reading() -> bool:
            return any(tmp_path.glob("*.partial"))

        with stopped(back_up_and_stop, path, tmp_path / "backup.db", is_right=is_reading):
            add(manager, 1)
            with suppress(DatabaseLockedException):  # it may not be able to promise that nothing deleted is left
                manager.vacuum()
            manager.fork_session(SESSION, "forked")
            manager.delete_session("doomed")
            SQLiteSessionManager("new", path, timeout=0.5).close()
            assert manager.check() == []
        assert numbers(manager) == [0, 1]
        assert {summary.session_id for summary in manager.list_sessions()} == {SESSION, "forked", "new"}
