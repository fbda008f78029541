"""Programs that use a session while their interpreter ends.

`python -m tests.support.process_endings FOLDER [NAME ...]` runs them, each in a child that is forked when all is
imported, and prints for each a line of JSON: its name, what it printed, its exit code, and how many seconds its end
took. A program prints `end` when its main program is over: from there on the interpreter is shutting down.
"""

import atexit
import sys

# Handlers run in reverse order: one that is registered before any other import runs last.
_EARLY: list = []
atexit.register(lambda: [work() for work in _EARLY])

import asyncio  # noqa: E402
import functools  # noqa: E402
import gc  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import sqlite3  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import weakref  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from strands import Agent  # noqa: E402
from strands.types.exceptions import SessionException  # noqa: E402
from strands.types.session import SessionMessage  # noqa: E402

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository  # noqa: E402

from .every_operation import every_operation  # noqa: E402
from .lock_holders import held_for_a_moment  # noqa: E402
from .scripted_model import ScriptedModel  # noqa: E402

PATIENCE = 8  # seconds after which a program counts as hung


def said(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def begin(path: str, **settings: Any) -> tuple[SQLiteSessionManager, Agent]:
    manager = SQLiteSessionManager("session", path, **settings)
    agent = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
    asyncio.run(agent.invoke_async("hello"))
    return manager, agent


def append(manager: SQLiteSessionManager, agent: Agent) -> None:
    """Store `last words`, or say why not."""
    try:
        message = said("last words")
        agent.messages.append(message)
        manager.append_message(message, agent)
    except SessionException as error:
        print(f"refused: {error}", flush=True)
    else:
        print("stored", flush=True)


def nothing_in_particular(path: str) -> None:
    """An ordinary end, with which the others are compared."""
    begin(path)


def early_handler(path: str) -> None:
    """An exit handler that was registered before the manager was built."""
    manager, agent = begin(path)
    _EARLY.append(lambda: append(manager, agent))


def early_handler_takes_a_turn(path: str) -> None:
    """An exit handler that was registered before the manager was built, and takes a whole turn."""
    _, agent = begin(path)

    def turn() -> None:
        asyncio.run(agent.invoke_async("last words"))
        print("stored", flush=True)

    _EARLY.append(turn)


def early_handler_opens(path: str) -> None:
    """An exit handler that was registered before the package was imported, and opens the file anew."""
    begin(path)[0].close()
    _EARLY.append(lambda: append(*begin(path)))


def late_handler(path: str) -> None:
    """An exit handler that was registered after everything else."""
    manager, agent = begin(path)
    atexit.register(append, manager, agent)


def finalizer(path: str) -> None:
    """A finalizer, which the interpreter calls at its exit."""
    manager, agent = begin(path)
    weakref.finalize(manager.session, append, manager, agent)


class Dying:
    """Stores something when it is collected."""

    def __init__(self, manager: SQLiteSessionManager, agent: Agent) -> None:
        self.manager, self.agent = manager, agent

    def __del__(self) -> None:
        append(self.manager, self.agent)


def del_of_a_local(path: str) -> None:
    """`__del__` of an object that is collected at the end of the main program."""
    Dying(*begin(path))
    gc.collect()


KEPT: list[Any] = []


def del_of_a_global(path: str) -> None:
    """`__del__` of an object that the interpreter collects while it takes modules apart."""
    KEPT.append(Dying(*begin(path)))


def del_in_a_cycle(path: str) -> None:
    """`__del__` of an object in a reference cycle that was not collected before."""
    gc.disable()
    dying: Any = Dying(*begin(path))
    dying.itself = dying


def del_after_a_wait(path: str) -> None:
    """The same, soon after a write that waited for another process: by then, no thread can wait for a second one."""
    gc.disable()
    manager, agent = begin(path)
    with held_for_a_moment(Path(path)):
        manager.update_session_metadata(manager.session_id, {"has": "waited"})
    dying: Any = Dying(manager, agent)
    dying.itself = dying


def tell_refusal(work: Callable[[], object]) -> None:
    try:
        work()
    except SessionException as error:
        print(f"refused: {error}", flush=True)


def in_threads(path: str, daemon: bool) -> None:
    repository = begin(path)[0]
    going = threading.Event()

    def write() -> None:
        for number in itertools.count(2):
            repository.create_message("session", "default", SessionMessage(said("more"), number))
            going.set()
            if not daemon and number > 40:
                break

    threading.Thread(target=tell_refusal, args=(write,), daemon=daemon).start()
    going.wait()


def daemon_thread_writes(path: str) -> None:
    """A daemon thread that writes without a pause."""
    in_threads(path, daemon=True)


def thread_writes(path: str) -> None:
    """A thread that continues after the main program, and that the interpreter waits for."""
    in_threads(path, daemon=False)


def daemon_thread_waits(path: str) -> None:
    """A daemon thread that waits for a lock that another process holds."""
    manager, agent = begin(path)
    KEPT.append(other := sqlite3.connect(path, isolation_level=None))
    other.execute("BEGIN IMMEDIATE")
    threading.Thread(target=append, args=(manager, agent), daemon=True).start()
    time.sleep(0.3)


def daemon_threads_queue(path: str) -> None:
    """Daemon threads, of which one waits for another process and the others for that one."""
    manager, _ = begin(path)
    KEPT.append(other := sqlite3.connect(path, isolation_level=None))
    other.execute("BEGIN IMMEDIATE")
    for _ in range(4):
        work = functools.partial(manager.update_session_metadata, "session", {"a": "b"})
        threading.Thread(target=tell_refusal, args=(work,), daemon=True).start()
    time.sleep(0.3)


def daemon_thread_reads(path: str) -> None:
    """A daemon thread that reads without a pause, with a repository of its own."""
    repository = SQLiteSessionRepository(path)
    begin(path)
    going = threading.Event()

    def read() -> None:
        while True:
            repository.list_sessions()
            repository.search_messages("hello")
            going.set()

    threading.Thread(target=tell_refusal, args=(read,), daemon=True).start()
    going.wait()


def raises(path: str) -> None:
    """A program that ends by an exception in the midst of a turn."""
    manager, agent = begin(path)
    KEPT.append(Dying(manager, agent))
    agent.model = ScriptedModel(RuntimeError("an accident"))
    asyncio.run(agent.invoke_async("last words"))


def every_operation_in_a_handler(path: str) -> None:
    """An exit handler that calls operations of every kind."""
    _EARLY.append(lambda: print(*every_operation(Path(path).with_name("every operation"), 9), "called", flush=True))


ENDINGS: dict[str, Callable[[str], None]] = {
    program.__name__: program
    for program in (
        nothing_in_particular,
        early_handler,
        early_handler_takes_a_turn,
        early_handler_opens,
        late_handler,
        finalizer,
        del_of_a_local,
        del_of_a_global,
        del_in_a_cycle,
        del_after_a_wait,
        daemon_thread_writes,
        thread_writes,
        daemon_thread_waits,
        daemon_threads_queue,
        daemon_thread_reads,
        raises,
        every_operation_in_a_handler,
    )
}


def run_forked(name: str, folder: str) -> bool:
    """Run a program in a child and print how it ended; return False in the child, which is to end as programs do."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.close(theirs)
        os.close(ours)
        if name.startswith("del_") or name == "raises":
            gc.unfreeze()  # they end with what is collected
        try:
            ENDINGS[name](os.path.join(folder, f"{name}.db"))
        finally:
            print("end", flush=True)
        return False
    os.close(theirs)
    told, ended = "", time.monotonic()
    while select.select([ours], [], [], PATIENCE)[0]:
        part = os.read(ours, 65536).decode(errors="replace")
        if not part:
            break
        if "end\n" in part:
            ended = time.monotonic()
        told += part
    else:
        os.kill(child, signal.SIGKILL)
        told += f"it hung for {PATIENCE} s"
    os.close(ours)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps({"name": name, "told": told, "code": code, "took": time.monotonic() - ended}), flush=True)
    return True


if __name__ == "__main__":
    gc.freeze()  # the garbage collector of each child need not examine the parent's objects
    for chosen in sys.argv[2:] or ENDINGS:
        if not run_forked(chosen, sys.argv[1]):
            break
