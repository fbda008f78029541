"""Stops a process, as Control-Z or a debugger does, in the middle of what it does to a file."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .workers import PATIENCE

Work = Callable[..., object]


@contextmanager
def stopped(work: Work, *arguments: Any, is_right: Callable[[], bool]) -> Iterator[BaseProcess]:
    """Run a function in a child that is stopped during the block; then it continues, and must succeed.

    Args:
        work: The function.
        *arguments: Its arguments.
        is_right: Returns whether the child was stopped at the right moment; if not, it continues for a bit.
    """
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    assert process.pid is not None
    try:
        end = time.monotonic() + PATIENCE
        while True:
            os.kill(process.pid, signal.SIGSTOP)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "it ended before it could be stopped"
            if is_right():
                break
            os.kill(process.pid, signal.SIGCONT)
            assert time.monotonic() < end, "it was never stopped at the right moment"
            time.sleep(random.uniform(0, 0.005))
        yield process
        assert process.exitcode is None
        while process.exitcode is None and time.monotonic() < end + PATIENCE:
            os.kill(process.pid, signal.SIGCONT)
            process.join(0.1)
        assert process.exitcode == 0, "it failed, see stderr"
    finally:
        process.kill()
        process.join()


def holds_the_lock(path: Path) -> Callable[[], bool]:
    """Return whether another process is writing to a file that can be read meanwhile, as plain `sqlite3` sees it."""

    def is_locked() -> bool:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as stranger:
            try:
                stranger.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.OperationalError:  # so it is for a moment when the write-ahead log is emptied
                return False
            try:
                stranger.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return "locked" in str(error)
            stranger.execute("ROLLBACK")
            return False

    return is_locked
