"""Runs work in a child process that may hang, crash or leave locks behind, and that reports its progress."""

import faulthandler
import gc
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any


def told_by_a_child(work: Callable[[Callable[[Any], None]], object], patience: float) -> Iterator[Any]:
    """Run `work(tell)` in a forked child and yield what it passes to `tell`, at once.

    Args:
        work: What to run.
        patience: Seconds of silence after which the child counts as hung and is killed.

    Raises:
        TimeoutError: If it hung.
        ChildProcessError: If it died or raised.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(patience):
                os.kill(process.pid or 0, signal.SIGUSR1)  # show where it hangs, on stderr
                process.join(0.5)
                raise TimeoutError(f"nothing was heard for {patience:g} s")
            try:
                kind, value = ours.recv()
            except EOFError:
                process.join()
                raise ChildProcessError(f"the child died with exit code {process.exitcode}") from None
            if kind == "raised":
                raise ChildProcessError(value)
            if kind == "done":
                return
            yield value
    finally:
        process.kill()
        process.join()
        ours.close()


def _work(work: Callable[[Callable[[Any], None]], object], pipe: Connection) -> None:
    faulthandler.register(signal.SIGUSR1)
    gc.freeze()  # the garbage collector must not touch, and so copy, the parent's objects
    try:
        work(lambda value: pipe.send(("told", value)))
        pipe.send(("done", None))
    except BaseException:
        pipe.send(("raised", traceback.format_exc()))
    finally:
        os._exit(0)  # a hanging thread stays behind


def in_a_child(work: Callable[[], Any], patience: float = 20) -> Any:
    """Return what a function returns in a forked child; see `told_by_a_child`."""
    (result,) = told_by_a_child(lambda tell: tell(work()), patience)
    return result
