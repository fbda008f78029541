"""Interrupts operations at every moment, and examines what each interrupt leaves behind.

`python -m tests.support.interrupts [--every N] [--synchronous FULL] [--moments FIRST LAST] [NAME ...]` reports for
each operation how many moments it has, at how many it was interrupted, and where that broke something.
"""

import argparse
import math
import os
import random
import sqlite3
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from strands_sqlite_session_manager import SQLiteSessionRepository

from .child_process import told_by_a_child
from .interrupts import interrupted_at
from .workers import work_and_exit

TIMEOUT = 1.0  # seconds that a write waits for another
_AT_ONCE = 5.0  # seconds after which a thread or a child that writes counts as hung
_HUNG = 20.0  # seconds after which the whole process is
_FORKS = 10  # a child is forked at every tenth interrupt, and so may meet what one of the ten before left
_QUICK = "/dev/shm" if os.path.isdir("/dev/shm") else None  # nothing here depends on what a disk keeps


class Trial(Protocol):
    """An operation that can be done again and again in one process, each time with something new."""

    path: Path
    repository: SQLiteSessionRepository

    def prepare(self, number: int) -> None:
        """Make what the operation needs."""

    def act(self) -> Any:
        """Do it; here the interrupt comes."""

    def whole(self) -> str | None:
        """Return what is wrong with the stored data after the interrupt, if anything is."""


@dataclass
class Sweep:
    """The result of interrupting an operation.

    Attributes:
        moments: How many moments it has.
        interrupts: At how many it was interrupted.
        failures: What an interrupt broke, and where it came.
    """

    moments: int = 0
    interrupts: int = 0
    failures: list[str] = field(default_factory=list)


def sweep(
    make: Callable[[Path], Trial],
    sample: Callable[[int], int] = lambda moments: moments,
    limit: int | None = 5,
    only: list[int] | None = None,
) -> Sweep:
    """Interrupt an operation at each of its moments, or at some.

    Args:
        make: Makes the trial in a folder.
        sample: How many moments to interrupt, of how many; drawn at random, the same in every run.
        limit: The number of failures after which to stop; None never stops.
        only: The moments themselves, to look at a failure again; None draws them.
    """
    done = Sweep()
    numbers = only
    while numbers != [] and (limit is None or len(done.failures) < limit):
        last = 0
        try:
            for number, what in told_by_a_child(
                lambda tell, numbers=numbers: _interrupt_all(make, sample, numbers, tell), _HUNG
            ):
                if what is None:
                    last = number  # it is about to begin
                elif isinstance(what, list):
                    done.moments, numbers = number, what
                else:
                    numbers = [left for left in numbers or [] if left > number]
                    was_interrupted, failure = what
                    done.interrupts += was_interrupted
                    done.failures += [failure] if failure else []
        except (TimeoutError, ChildProcessError) as error:
            if numbers is None:
                raise
            numbers = [left for left in numbers if left > last]
            done.failures.append(f"moment {last} | {error}")
    return done


def _interrupt_all(
    make: Callable[[Path], Trial],
    sample: Callable[[int], int],
    numbers: list[int] | None,
    tell: Callable[[Any], None],
) -> None:
    """Interrupt at these moments, up to the first that breaks something: later results mean nothing.

    Where they are not known yet, they are drawn first.
    """
    with tempfile.TemporaryDirectory(dir=_QUICK) as folder:
        trial = make(Path(folder))
        for number in (-2, -1):  # the first call of all fills caches
            trial.prepare(number)
            counted = interrupted_at(None, trial.act)
            assert counted.error is None, counted.error
            wrong = trial.whole()
            assert wrong is None, wrong
        if numbers is None:
            everything = range(1, counted.moments + 1)
            numbers = sorted(random.Random(1).sample(everything, min(sample(len(everything)), len(everything))))
            tell((counted.moments, numbers))
        for index, number in enumerate(numbers):
            tell((number, None))
            trial.prepare(number)
            ended = interrupted_at(number, trial.act)
            found = left_behind(trial, forking=index % _FORKS == _FORKS - 1 or number == numbers[-1])
            if ended.error is not None:
                found.insert(0, f"raised {ended.error!r}")
            if not found:
                try:
                    wrong = trial.whole()
                except Exception as error:
                    wrong = f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"
                found += [wrong] if wrong else []
            place = " > ".join(ended.place)
            tell((number, (bool(ended.place), f"moment {number} at {place} | {'; '.join(found)}" if found else None)))
            if found:
                return


def left_behind(trial: Trial, forking: bool, patience: float = 0) -> list[str]:
    """Return what an interrupted call has left behind: transactions, locks, old views.

    Args:
        trial: What was interrupted.
        forking: Whether to fork as well, which takes as long as everything else.
        patience: Seconds to wait for a write that may still be on its way.
    """
    found = []
    with closing(sqlite3.connect(trial.path, timeout=patience, isolation_level=None)) as stranger:
        try:
            stranger.execute("BEGIN IMMEDIATE")
            stranger.execute("ROLLBACK")
        except sqlite3.Error as error:
            found.append(f"another process cannot write: {error}")
        try:
            _in_a_thread(lambda: _write(trial.repository))
        except Exception as error:
            found.append(f"another thread cannot write: {error!r}")
            return found  # this thread would hang as well
        try:
            _write(trial.repository)
        except Exception as error:
            found.append(f"this thread cannot write: {error!r}")
        try:
            (busy, _, _) = stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                found.append("an old view keeps the write-ahead log from being emptied")
        except sqlite3.Error as error:
            found.append(f"the write-ahead log cannot be emptied: {error}")
    if forking and not found:
        try:
            _in_a_fork(lambda: _write(trial.repository))
        except Exception as error:
            found.append(f"a forked child cannot write: {error!r}")
    return found


def _write(repository: SQLiteSessionRepository) -> None:
    repository.update_session_metadata("probe", {"written": str(time.monotonic_ns())})


def _in_a_thread(work: Callable[[], object]) -> None:
    errors: list[BaseException] = [TimeoutError("it hangs")]

    def run() -> None:
        try:
            work()
            errors.clear()
        except BaseException as error:
            errors[:] = [error]

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_AT_ONCE)
    if errors:
        raise errors[0]


def _in_a_fork(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        work_and_exit(work)
    end = time.monotonic() + _AT_ONCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, "it failed, see stderr"
            return
        time.sleep(0.0005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError("it hangs")


def main(trials: Mapping[str, Callable[[Path, str], Trial]], arguments: list[str]) -> int:
    """Sweep over some trials and report the results."""
    parser = argparse.ArgumentParser(description="Interrupt operations at every moment.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; none are all: " + ", ".join(trials))
    parser.add_argument("--every", type=int, default=1, help="only one of so many moments")
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parser.add_argument("--moments", type=int, nargs=2, metavar=("FIRST", "LAST"), help="these, to look at them again")
    given = parser.parse_args(arguments)
    only = None if given.moments is None else list(range(given.moments[0], given.moments[1] + 1))
    broken = 0
    for name in given.names or trials:
        begun = time.monotonic()

        def make(folder: Path, name: str = name) -> Trial:
            return trials[name](folder, given.synchronous)

        try:
            result = sweep(make, lambda moments: math.ceil(moments / given.every), limit=None, only=only)
        except ChildProcessError as error:
            print(f"{name}: {error}")
            broken += 1
            continue
        took = time.monotonic() - begun
        print(
            f"{name}: {result.moments} moments, {result.interrupts} interrupts,"
            f" {len(result.failures)} broke something, {took:.1f} s",
            flush=True,
        )
        for failure in result.failures:
            print(f"    {failure}")
        broken += len(result.failures)
    return 1 if broken else 0
