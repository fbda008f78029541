"""Whatever an interrupt cuts short, nothing stays locked, nothing is half stored, and the agent can continue.

An interrupt is what a signal handler raises: a notebook's stop button, Control-C, a time limit of a task queue.
"""

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest

from ..support.child_process import in_a_child
from ..support.interrupt_sweep import left_behind, sweep
from ..support.interruptible_operations import CALLS, DEEDS, TRIALS, AgentTrial, RepositoryTrial
from ..support.tiers import tier

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the signals of POSIX"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]

QUICKLY = 4  # interrupts of each operation
MODES = ("FULL", "NORMAL")


def break_off(name: str, synchronous: str, sample: Callable[[int], int]) -> None:
    """Interrupt an operation at some of its moments."""
    result = sweep(lambda folder: TRIALS[name](folder, synchronous), sample)
    if result.moments == 0:
        pytest.skip("this Python traces no bytecodes here")
    assert not result.failures, "\n".join(
        [f"{result.interrupts} interrupts at {result.moments} moments", *result.failures]
    )
    assert result.interrupts >= 1


@pytest.mark.every_case
@pytest.mark.parametrize(
    "name", tier(TRIALS, quick=["update_session_metadata", "vacuum", "append", "a turn", "an agent that resumes"])
)
def test_an_interrupt_at_some_moments_leaves_nothing_locked_and_nothing_half_done(name: str) -> None:
    break_off(name, MODES[list(TRIALS).index(name) % 2], lambda moments: QUICKLY)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("synchronous", MODES)
@pytest.mark.parametrize("name", TRIALS)
def test_an_interrupt_at_any_moment_leaves_nothing_locked_and_nothing_half_done(
    name: str, synchronous: str, scaled: Callable[[int], int]
) -> None:
    break_off(name, synchronous, scaled)


# -- real signals, at random moments --


class TimeLimit(Exception):  # noqa: N818
    """What a task queue raises when a task exceeds its time limit."""


def control_c() -> None:
    signal.raise_signal(signal.SIGINT)  # which `asyncio.run` turns into a cancellation


def stop_button() -> None:
    raise KeyboardInterrupt


def time_limit() -> None:
    raise TimeLimit


class Alarm:
    """Does something in the main thread after a while, at whatever line it has reached by then, and again each second.

    Once would do, if asyncio did not wait forever when an interrupt in its own callbacks loses a wake-up.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._is_on = False
        self.rang = 0
        signal.signal(signal.SIGALRM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_on:
            self.rang += 1
            self._ring()

    def interrupt(self, seconds: float, work: Callable[[], object]) -> BaseException | None:
        """Ring while something is done, and return what it raised."""
        raised: BaseException | None = None
        try:
            try:
                self._is_on = True
                signal.setitimer(signal.ITIMER_REAL, seconds, 1)
                work()
            finally:
                self._is_on = False
        except BaseException as error:
            raised = error.with_traceback(None)
        self._is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        return raised


def interrupt_turns(ring: Callable[[], None], rounds: int, folder: Path) -> str | None:
    """Interrupt turns of an agent at random moments, and let it continue each time; return what went wrong."""
    draw = random.Random(1)
    trial = AgentTrial(lambda _: None, folder, "NORMAL")
    alarm = Alarm(ring)
    for number in range(rounds):
        if number % 10 == 0:
            trial.prepare(number)
            begun = time.monotonic()
            trial.turn("zero")
            took = time.monotonic() - begun
        error = alarm.interrupt(draw.uniform(1e-6, took), lambda number=number: trial.turn(f"interrupted {number}"))
        # Between the end of a turn and that of its loop, an interrupt makes `asyncio.run` raise the second of these.
        told = repr((error, error.__cause__, error.__context__)) if isinstance(error, Exception) else ""
        if told and "TimeLimit" not in told and "Event loop stopped before Future completed" not in told:
            return f"round {number}, alarms {alarm.rang} | {error!r}"
        del error
        wrong = left_behind(trial, forking=number % 10 == 0)
        if wrong:
            return f"round {number}, alarms {alarm.rang} | {'; '.join(wrong)}"
        try:
            trial.turn(f"next {number}")
        except Exception as error:
            return f"round {number}, alarms {alarm.rang} | the next turn: {error!r}"
        different = trial.differs() or trial.says_twice()
        if different:
            return f"round {number}, alarms {alarm.rang} | {different}"
    return None if alarm.rang else "no turn was interrupted"


RINGS = pytest.mark.parametrize("ring", [stop_button, time_limit, control_c])


@RINGS
def test_after_a_signal_at_a_random_moment_of_a_turn_the_agent_continues(
    ring: Callable[[], None], tmp_path: Path
) -> None:
    assert in_a_child(lambda: interrupt_turns(ring, 6, tmp_path)) is None


@pytest.mark.long
@pytest.mark.timeout(3600)
@RINGS
def test_after_hundreds_of_signals_at_random_moments_of_turns_the_agent_continues(
    ring: Callable[[], None], tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    rounds = scaled(1000)
    assert in_a_child(lambda: interrupt_turns(ring, rounds, tmp_path), patience=30 + rounds) is None


def interrupt_writes(rounds: int, synchronous: str, folder: Path) -> str | None:
    """Interrupt a short write at random moments, again and again."""
    draw = random.Random(1)
    trial = RepositoryTrial(CALLS["update_session_metadata"], folder, synchronous)
    trial.prepare(0)
    took = 1.0
    for _ in range(3):
        begun = time.monotonic()
        trial.act()
        took = min(took, time.monotonic() - begun)
    alarm = Alarm(stop_button)
    for number in range(rounds):
        alarm.interrupt(draw.uniform(1e-6, 1.2 * took), trial.act)
        wrong = left_behind(trial, forking=number % 20 == 0)
        if wrong:
            return f"round {number}, alarms {alarm.rang} | {'; '.join(wrong)}"
    return None


@pytest.mark.long
@pytest.mark.parametrize("synchronous", MODES)
def test_after_a_signal_at_a_random_moment_of_a_write_others_can_write(synchronous: str, tmp_path: Path) -> None:
    assert in_a_child(lambda: interrupt_writes(40, synchronous, tmp_path)) is None


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("synchronous", MODES)
def test_after_thousands_of_signals_at_random_moments_of_writes_others_can_write(
    synchronous: str, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    rounds = scaled(20_000)
    assert in_a_child(lambda: interrupt_writes(rounds, synchronous, tmp_path), patience=30 + rounds) is None


# -- while a call waits for a lock --


def interrupt_a_wait(name: str, holds: float, folder: Path) -> list[str]:
    """Interrupt a call that waits for another process, which releases the lock a little later, or too late."""
    trial = TRIALS[name](folder, "FULL")
    trial.prepare(0)
    alarm = Alarm(stop_button)
    with closing(sqlite3.connect(trial.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(holds, other.execute, ("ROLLBACK",))
        release.start()
        alarm.interrupt(0.15, trial.act)
        release.join()
    assert alarm.rang
    # An event loop that is interrupted twice leaves its tasks as they are, and a write in the queue, which may be next.
    wrong = left_behind(trial, forking=True, patience=0.5)
    if not wrong and isinstance(trial, AgentTrial):
        wrong = [found for found in [trial.whole()] if found]
    return wrong


@pytest.mark.parametrize("holds", [0.3, 1.4], ids=["and gets the lock", "and does not get the lock"])
@pytest.mark.parametrize(
    "name",
    [
        "update_session_metadata",
        "append",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("create_message", "sync", "vacuum", "a turn")),
    ],
)
def test_an_interrupt_while_a_call_waits_for_another_process_leaves_nothing_locked(
    name: str, holds: float, tmp_path: Path
) -> None:
    assert in_a_child(lambda: interrupt_a_wait(name, holds, tmp_path)) == []


def test_every_operation_of_the_repository_and_the_manager_is_among_the_interrupted_ones() -> None:
    assert len(CALLS) + len(DEEDS) + 2 >= len(TRIALS) > 30
