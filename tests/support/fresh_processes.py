"""Calls functions in processes that start after the call, and describes what an agent holds there."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.session import SessionAgent

from strands_sqlite_session_manager import SQLiteSessionManager

Result = TypeVar("Result")

TIMEOUT = 120  # seconds; only a hang takes as long

# The server has imported what takes long; each process is forked from it, so it is new and starts at once.
PROCESSES = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
if os.name != "nt":
    PROCESSES.set_forkserver_preload(
        ["pytest", "strands.multiagent", "tests.support.killable_agents", "tests.support.orchestrators"]
    )


def in_a_new_process(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function of a module in a new process and return what it returns, or raise what it raises.

    Raises:
        BrokenProcessPool: If the process dies.
    """
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as executor:
        return executor.submit(function, *args).result(TIMEOUT)


@contextmanager
def another_process() -> Iterator[Callable[..., Any]]:
    """Yield a function like `in_a_new_process` whose calls share one process, which saves starting many."""
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as executor:
        yield lambda function, *args: executor.submit(function, *args).result(TIMEOUT)


STORES = ("sqlite", "files")


def open_session(store: str, session_id: str, folder: Path) -> RepositorySessionManager:
    """Open a session of one of the `STORES` that a folder holds."""
    if store == "files":
        return FileSessionManager(session_id, storage_dir=str(folder / "files"))
    return SQLiteSessionManager(session_id, folder / "sessions.db", synchronous="NORMAL")


def held_by(agent: Any) -> dict[str, Any]:
    """Everything about an agent that a session keeps."""
    describe = SessionAgent.from_agent
    if not hasattr(agent, "conversation_manager"):  # a BidiAgent, which older versions treat specially
        describe = getattr(SessionAgent, "from_bidi_agent", describe)
    kept = describe(agent)
    return {
        "messages": agent.messages,
        "state": kept.state,
        "conversation_manager_state": kept.conversation_manager_state,
        "internal_state": kept._internal_state,
    }


def at_once(function: Callable[..., Result], calls: list[tuple[Any, ...]]) -> list[Result]:
    """Make every call in a process of its own, all at the same moment, and return what they return."""
    together = PROCESSES.Barrier(len(calls))
    with ProcessPoolExecutor(
        len(calls), mp_context=PROCESSES, initializer=_keep_barrier, initargs=(together,)
    ) as executor:
        futures = [executor.submit(_when_all_are_ready, function, *call) for call in calls]
        return [future.result(TIMEOUT) for future in futures]


def wait_for_the_others() -> None:
    """Wait, in a process of `at_once`, until all of them have reached this point."""
    _barrier.wait(TIMEOUT)


_barrier: Any = None


def _keep_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _when_all_are_ready(function: Callable[..., Result], *args: Any) -> Result:
    wait_for_the_others()
    return function(*args)
