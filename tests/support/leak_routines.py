"""Routines that a process repeats, and what it holds afterwards: memory, threads, open files."""

import _sqlite3
import ctypes
import gc
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.telemetry.metrics import EventLoopMetrics
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, StaleSessionException

from .numbered_messages import SESSION
from .scripted_model import ScriptedModel
from .workers import descriptors


@dataclass
class Held:
    """What a process holds.

    Attributes:
        blocks: Blocks of memory that Python has given to objects.
        resident: Bytes of memory, of every kind.
        sqlite: Bytes that SQLite has allocated; 0 if unknown.
        threads: The names of its threads.
        files: The names of its open files.
    """

    blocks: int
    resident: int
    sqlite: int
    threads: list[str]
    files: list[str]

    @classmethod
    def now(cls) -> "Held":
        """Measure once committers have ended, which takes five idle seconds, and everything is collected."""
        gc.collect()
        end = time.monotonic() + 10
        while time.monotonic() < end and "strands-sqlite-committer" in {
            thread.name for thread in threading.enumerate()
        }:
            time.sleep(0.1)
        for _ in range(3):
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            sys.getallocatedblocks(),
            pages * os.sysconf("SC_PAGESIZE"),
            _sqlite_memory(),
            sorted(thread.name for thread in threading.enumerate()),
            descriptors(),
        )


def _sqlite_memory() -> int:
    try:
        memory_used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    except (AttributeError, OSError):  # it is a part of Python itself there, and its functions have no names
        return 0
    memory_used.restype = ctypes.c_int64
    return int(memory_used())


def before_and_after(routine: str, folder: Path, warm_up: int, rounds: int) -> tuple[Held, Held]:
    """Repeat a routine; return what was held after some rounds, and after many more.

    What is in cycles, as agents are, is collected regularly. How much of it waits for Python's collector, and how much
    memory Python keeps for it afterwards, says nothing about leaks.
    """
    work = ROUTINES[routine](folder)

    def repeat(numbers: range) -> Held:
        for number in numbers:
            work(number)
            if number % 50 == 0:
                gc.collect()
        return Held.now()

    return repeat(range(warm_up)), repeat(range(warm_up, warm_up + rounds))


def _in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _agent(manager: SQLiteSessionManager) -> Agent:
    return Agent(
        model=ScriptedModel(),
        session_manager=manager,
        conversation_manager=SlidingWindowConversationManager(window_size=6),
        callback_handler=None,
    )


def _dropped(folder: Path) -> Callable[[int], None]:
    def work(_: int) -> None:
        SQLiteSessionManager(SESSION, folder / "sessions.db", synchronous="NORMAL")

    return work


def _dropped_beside_another(folder: Path) -> Callable[[int], None]:
    other = SQLiteSessionRepository(folder / "sessions.db")

    def work(_: int) -> None:
        SQLiteSessionManager(SESSION, folder / "sessions.db")
        assert other.read_session(SESSION)

    return work


def _used_in_a_thread(folder: Path) -> Callable[[int], None]:
    def work(number: int) -> None:
        with SQLiteSessionManager(SESSION, folder / "sessions.db", synchronous="NORMAL") as manager:
            _in_a_thread(lambda: manager.update_session_metadata(SESSION, {"number": str(number)}))

    return work


def _in_memory(_: Path) -> Callable[[int], None]:
    def work(number: int) -> None:
        manager = SQLiteSessionManager(SESSION, ":memory:")
        _in_a_thread(lambda: manager.update_session_metadata(SESSION, {"number": str(number)}))

    return work


def _refused(folder: Path) -> Callable[[int], None]:
    """Every way in which a construction fails, in turns."""
    (folder / "foreign.db").write_bytes(b"no database " * 100)
    with closing(sqlite3.connect(folder / "other.db")) as other:
        other.execute("CREATE TABLE things (thing)")
    writer = sqlite3.connect(folder / "busy.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    attempts: list[tuple[Any, ...]] = [
        ("a/b", folder / "sessions.db"),
        (SESSION, folder / "foreign.db"),
        (SESSION, folder / "other.db"),
        (SESSION, folder),
        (SESSION, folder / "foreign.db" / "below.db"),
        (SESSION, folder / "sessions.db", {"synchronous": "OFF"}),
        (SESSION, folder / "busy.db", {"timeout": 0.001}),
        (SESSION, folder / "sessions.db", {"metadata": {"key": 1}}),
    ]

    def work(number: int) -> None:
        session_id, path, *options = attempts[number % len(attempts)]
        with suppress(SessionException, ValueError, TypeError):
            SQLiteSessionManager(session_id, path, **(options[0] if options else {}))
            raise AssertionError("it was to be refused")
        assert writer.in_transaction

    return work


def _agent_kept(folder: Path) -> Callable[[int], None]:
    agent = _agent(SQLiteSessionManager(SESSION, folder / "sessions.db", synchronous="NORMAL"))

    def work(number: int) -> None:
        agent.state.set("number", number)
        agent("hello")
        agent.event_loop_metrics = EventLoopMetrics()  # it keeps a trace of every turn

    return work


def _agent_dropped(folder: Path) -> Callable[[int], None]:
    def work(_: int) -> None:
        _agent(SQLiteSessionManager(SESSION, folder / "sessions.db", synchronous="NORMAL"))("hello")

    return work


def _agents_in_turns(folder: Path) -> Callable[[int], None]:
    """Two agents continue one conversation: one of them is refused, and both are forgotten."""

    def work(_: int) -> None:
        early, late = (
            _agent(SQLiteSessionManager(SESSION, folder / "sessions.db", synchronous="NORMAL")) for _ in "ab"
        )
        early("hello")
        with suppress(StaleSessionException):
            late("hello")
            raise AssertionError("it was to be refused")

    return work


ROUTINES: dict[str, Callable[[Path], Callable[[int], None]]] = {
    "managers that are dropped": _dropped,
    "managers that are dropped beside another": _dropped_beside_another,
    "managers that are used in a thread and closed": _used_in_a_thread,
    "managers in memory": _in_memory,
    "managers that are refused": _refused,
    "turns of one agent": _agent_kept,
    "turns of agents that are dropped": _agent_dropped,
    "turns that are refused": _agents_in_turns,
}
