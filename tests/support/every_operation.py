"""Calls every operation from an unusual place in a process, and reports how that ended.

`python -m tests.support.every_operation PLACE FOLDER` is a program of its own, because what it tries ends it, or
changes all of its threads. It prints a line for every operation that failed with anything but a `SessionException`.
"""

import sys

if __name__ == "__main__" and len(sys.argv) == 3 and sys.argv[1] in ("gevent", "eventlet"):
    # Before anything else is imported, as their documentation demands.
    if sys.argv[1] == "gevent":
        import gevent.monkey

        gevent.monkey.patch_all()
    else:
        import warnings

        warnings.simplefilter("ignore")  # it says that it is deprecated
        import eventlet

        eventlet.monkey_patch()

import atexit
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from .interruptible_operations import TRIALS, begin, said

REFUSED = "refused: "


def every_operation(folder: Path, stride: int = 1) -> list[str]:
    """Run every operation, or every n-th one, and return what failed; a refusal begins with `REFUSED`."""
    failures = []
    for number, (name, make) in list(enumerate(TRIALS.items()))[::stride]:
        (folder / str(number)).mkdir(parents=True)
        try:
            trial = make(folder / str(number), "NORMAL")
            trial.prepare(0)
            trial.act()
            wrong = trial.whole()
            failures += [f"{name}: {wrong}"] if wrong else []
        except SessionException as error:
            failures.append(f"{REFUSED}{name}: {error}")
        except BaseException:
            failures.append(f"{name}: {traceback.format_exc()}")
    return failures


def in_a_thread(work: Callable[[], Any], daemon: bool = False) -> Any:
    """Return what a function returns in a thread of its own."""
    returned: list[Any] = []
    thread = threading.Thread(target=lambda: returned.append(work()), daemon=daemon)
    thread.start()
    thread.join(60)
    return returned[0] if returned else ["the thread did not end"]


def in_a_signal_handler(work: Callable[[], Any]) -> Any:
    """Return what a function returns in a signal handler, in the main thread."""
    returned: list[Any] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: returned.append(work()))
    signal.raise_signal(signal.SIGUSR2)
    return returned[0]


def in_a_finalizer(work: Callable[[], Any]) -> Any:
    """Return what a function returns in the `__del__` of an object that is collected."""
    returned: list[Any] = []

    class Dying:
        def __del__(self) -> None:
            returned.append(work())

    Dying()
    return returned[0]


IN_THE_PROCESS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "a daemon thread": lambda work: in_a_thread(work, daemon=True),
    "a signal handler": in_a_signal_handler,
    "a finalizer": in_a_finalizer,
}


def _tell(failures: list[str]) -> None:
    for failure in failures:
        print(failure, flush=True)
    print("done", flush=True)


def _share_a_file(folder: Path) -> list[str]:
    """Write to one file from several threads, which switch at every call that waits."""
    folder.mkdir(parents=True)
    repository = begin(folder / "sessions.db", "FULL")
    errors: list[str] = []

    def write(index: int) -> None:
        try:
            repository.fork_session("template", f"session {index}")
            for number in range(3, 23):
                repository.create_message(f"session {index}", "ada", SessionMessage(said("more"), number))
                repository.list_sessions(limit=3)
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for index in range(8):
        count = len(repository.list_messages(f"session {index}", "ada"))
        errors += [f"session {index} holds {count} messages"] if count != 23 else []
    return errors


def main(place: str, folder: Path) -> None:
    """Try one place."""
    if place in ("gevent", "eventlet"):
        _tell([*_share_a_file(folder / "shared"), *in_a_thread(lambda: every_operation(folder / "all"))])
    elif place == "atexit":
        atexit.register(lambda: _tell(every_operation(folder)))
    else:
        raise ValueError(place)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
