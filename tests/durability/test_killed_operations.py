"""An operation that is killed has happened completely or not at all, and works when it is repeated.

An operation on several sessions handles each in one step. One or more kills may come between the steps, and at any
system call within one.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.killable_operations import OPERATIONS, SESSIONS, Operation
from ..support.legacy_files import rows
from ..support.records import query, session
from ..support.stores import rows_of
from ..support.system_call_kills import can_trace, died_at_system_call
from ..support.workers import killed

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

if not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")):
    pytest.skip("this system kills in another way", allow_module_level=True)


def parts(operation: Operation, folder: Path, begun: str) -> dict[str, Any]:
    """Return what there is now of everything that the operation can change; times since it began read `now`."""
    path = folder / "sessions.db"
    there: dict[str, Any] = {}
    if path.exists() and query(path, "SELECT name FROM sqlite_master WHERE name = 'sessions'"):
        for (session_id,) in query(path, "SELECT session_id FROM sessions"):
            there[session_id] = without_times_since(begun, rows_of(path, session_id))
        if operation.as_one:
            there = {"all": [query(path, "PRAGMA user_version"), sorted(there.items())]}
    made = folder / str(operation.makes)
    if made.suffix == ".db" and made.exists():
        there[made.name] = [rows_of(made, session_id) for session_id in SESSIONS]
    elif made.suffix == ".legacy-backup" and made.exists():
        there[made.name] = rows(made)
    elif made.exists():
        there[made.name] = made.read_text()
    return there


def without_times_since(begun: str, rows: dict[str, list[dict[str, Any]]]) -> str:
    for row in rows["sessions"] + rows["agents"] + rows["messages"]:
        row.update({name: "now" for name in ("created_at", "updated_at") if str(row[name]) > begun})
    return repr(rows)


def names(folder: Path) -> set[str]:
    """Return the names of the files, except incomplete backups and exports, and second copies of a legacy file."""
    for path in folder.glob("*.db"):
        query(path, "SELECT count(*) FROM sqlite_master")  # readers cannot remove the `-wal` that they used
    return {name for name in os.listdir(folder) if not name.startswith((".new-", "sessions.db.legacy-backup-"))}


class Rehearsed:
    """An operation, what is there before and after it, and how long it takes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.operation = OPERATIONS[name]
        self.folder = folder
        (folder / "template").mkdir()
        self.operation.prepare(folder / "template")
        self.begun = datetime.now(timezone.utc).isoformat()  # as Strands writes times
        self.before = self.parts(folder / "template")
        self.names = names(folder / "template") | {self.operation.makes or "sessions.db"}
        rehearsal = self.copy("rehearsal")
        begin = time.monotonic()
        assert killed(lambda: self.operation.work(rehearsal), lambda: False) == 0
        self.seconds = time.monotonic() - begin
        self.after = self.parts(rehearsal)
        assert names(rehearsal) == self.names

    def parts(self, folder: Path) -> dict[str, Any]:
        return parts(self.operation, folder, self.begun)

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.folder / "template", self.folder / name))

    def assert_whole(self, folder: Path) -> None:
        """Assert that every part is as it was before, or as it should be after."""
        there = self.parts(folder)
        for part in self.before.keys() | self.after.keys() | there.keys():
            now = there.get(part)
            assert now == self.before.get(part) or now == self.after.get(part), part

    def finish(self, folder: Path) -> None:
        """Assert that the operation can be repeated, with the same result as if it had not been killed."""
        if self.operation.removes:
            self.finish_without_traces(folder, self.operation.removes)
        else:
            self.do_again(folder)
        self.operation.at_last(folder)
        for path in folder.glob("*.db"):
            with SQLiteSessionRepository(path) as repository:
                assert repository.check() == []
                repository.create_session(session("one more"))  # which removes the queue file of the killed one
        assert names(folder) == self.names

    def do_again(self, folder: Path) -> None:
        self.operation.repeat(folder)
        assert self.parts(folder) == self.after

    def finish_without_traces(self, folder: Path, removed: str) -> None:
        """Assert that a vacuum removes whatever the killed process left of deleted text."""
        with SQLiteSessionRepository(folder / "sessions.db") as repository:  # open: closing it would empty the WAL
            self.do_again(folder)
            repository.vacuum()
            for name in ("sessions.db", "sessions.db-wal"):
                assert removed.encode() not in (folder / name).read_bytes(), name


def die_and_look(rehearsed: Rehearsed, chance: random.Random, die: Callable[[Callable[[], object]], object]) -> None:
    """Kill it once, or several times in a row; examine what is left; then finish the operation."""
    folder = rehearsed.copy("round")
    die(lambda: rehearsed.operation.work(folder))
    while chance.random() < 0.3:
        die(lambda: rehearsed.operation.repeat(folder))
    rehearsed.assert_whole(folder)
    rehearsed.finish(folder)
    shutil.rmtree(folder)


@pytest.fixture(params=OPERATIONS)
def rehearsed(request: pytest.FixtureRequest, tmp_path: Path) -> Rehearsed:
    """An operation."""
    return Rehearsed(request.param, tmp_path)


def die_at_system_calls(rehearsed: Rehearsed, rounds: int) -> None:
    chance = random.Random(rounds)
    rehearsal = rehearsed.copy("traced")
    moments = died_at_system_call(lambda: rehearsed.operation.work(rehearsal))
    assert moments is not None

    def die(work: Callable[[], object]) -> None:
        moment = chance.randint(1, moments)
        print(f"killed at moment {moment} of {moments}")
        died_at_system_call(work, moment)

    for _ in range(rounds):
        die_and_look(rehearsed, chance, die)


def die_at_random(rehearsed: Rehearsed, rounds: int) -> None:
    chance = random.Random(rounds)

    def die(work: Callable[[], object]) -> None:
        end = time.monotonic() + chance.uniform(0, rehearsed.seconds)
        killed(work, lambda: time.monotonic() > end)

    for _ in range(rounds):
        die_and_look(rehearsed, chance, die)


def test_a_killed_operation_has_done_each_part_wholly_or_not_at_all(rehearsed: Rehearsed) -> None:
    if can_trace():
        die_at_system_calls(rehearsed, 1)
    else:
        die_at_random(rehearsed, 1)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_operations_killed_a_hundred_times_have_done_each_part_wholly_or_not_at_all(
    rehearsed: Rehearsed, scaled: Callable[[int], int]
) -> None:
    """Each of the operations is killed 25 times at random, and 75 times at a system call of its own.

    Whatever it does to each session, or to the whole file, is done or not done; other sessions are as they were; the
    file is sound; and the operation works when it is repeated.
    """
    die_at_random(rehearsed, scaled(25))
    if can_trace():
        die_at_system_calls(rehearsed, scaled(75))
