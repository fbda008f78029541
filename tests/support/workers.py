"""Runs work in other threads and processes: all at once, in a forked child, or in one that is killed half-way."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds, far longer than anything here takes
_SIMPLEST_START = "fork" if hasattr(os, "fork") else "spawn"


def in_threads(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what `work(index, *arguments)` returns in each of some threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def meet_and_work(index: int) -> Any:
        barrier.wait(PATIENCE)
        return work(index, *arguments)

    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(meet_and_work, range(count)))


def in_processes(
    count: int, work: Callable[..., Any], *arguments: Any, start_method: str = _SIMPLEST_START
) -> list[Any]:
    """Return what `work(index, *arguments)` returns in each of some processes that begin at the same moment."""
    context = multiprocessing.get_context(start_method)
    barrier = context.Barrier(count)
    processes, receivers = [], []
    for index in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_meet_and_answer, args=(barrier, sender, work, index, *arguments))
        process.start()
        sender.close()
        processes.append(process)
        receivers.append(receiver)
    try:
        answers = [_answer(receiver) for receiver in receivers]
    finally:
        for process in processes:
            process.kill()
            process.join()
    failures = [failure for failure, _ in answers if failure]
    assert not failures, "\n".join(failures)
    return [result for _, result in answers]


def _meet_and_answer(barrier: Any, sender: Any, work: Callable[..., Any], index: int, *arguments: Any) -> None:
    try:
        barrier.wait(PATIENCE)
        sender.send((None, work(index, *arguments)))
    except BaseException:
        sender.send((traceback.format_exc(), None))


def _answer(receiver: Any) -> Any:
    if not receiver.poll(PATIENCE):
        return "a process did not end", None
    try:
        return receiver.recv()
    except EOFError:
        return "a process died", None


@contextmanager
def forked(work: Callable[[Connection], object]) -> Iterator[Connection]:
    """Run a function in a child made by `os.fork`; the two talk through the ends of a pipe.

    The end of the block waits for the child, and fails if the child did.
    """
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        work_and_exit(lambda: work(theirs))
    theirs.close()
    try:
        yield ours
        assert ours.poll(PATIENCE), "the child did not end"  # its end of the pipe closes with it
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child failed, see stderr"


def killed(work: Callable[[], object], is_time: Callable[[], bool]) -> int:
    """Run a function in a child, kill it when it is time, and return the signal that it died of, if any."""
    pid = os.fork()
    if pid == 0:
        work_and_exit(work)
    try:
        while not is_time():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            time.sleep(0.0002)
        else:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert os.WIFSIGNALED(status) or status == 0, "the child failed, see stderr"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed_at_size(work: Callable[[], object], size: int) -> int:
    """Run a function in a child that dies in the middle of the write that would make a file larger than that."""

    def work_with_limit() -> None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()

    return killed(work_with_limit, lambda: False)


def work_and_exit(work: Callable[[], object]) -> None:
    """Work, and end the process without the parent's exit handlers."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def descriptors(path: Path | None = None) -> list[str]:
    """List the files that this process has open, or those of a database; needs /proc."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:  # it was the listing itself
            continue
        if path is None or name.startswith(str(path)):
            names.append(name)
    return sorted(names)
