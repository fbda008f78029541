"""Makes a disk fail in the middle of some work, and reports what became of the work."""

import errno
import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from strands.types.exceptions import EventLoopException, SessionException

from .disk_calls import Disk, Go, Request, go_ahead
from .disk_workloads import Work, view
from .recording_manager import held

# Requests that need space, and so fail on a full disk.
_GROWS = ("write", "truncate", "sync", "mkdir", "link")


@dataclass
class Fault:
    """A disk that fails at one request, or from that request on.

    Attributes:
        number: The number of the first request to fail, among those that can.
        error: The error.
        lasting: Whether the ones after it fail as well.
        half: Whether the first half of a write is done before the failure.
    """

    number: int
    error: int
    lasting: bool
    half: bool = False
    seen: int = 0
    failed: str = ""

    def __call__(self, request: Request, go: Go) -> Any:
        """Answer a request; see `Disk`."""
        if self.error == errno.ENOSPC and not self._grows(request):
            return go()
        self.seen += 1
        if self.seen - 1 < self.number or (self.failed and not self.lasting):
            return go()
        if self.half and not self.failed and request.call == "write" and request.size > 1:
            self.number = self.seen  # the rest of it is what fails
            return go(request.size // 2)
        self.failed = self.failed or f"{request.call} of {os.path.basename(request.path)}"
        raise OSError(self.error, os.strerror(self.error), request.path)

    @staticmethod
    def _grows(request: Request) -> bool:
        return request.call in _GROWS or (request.call == "open" and not os.path.lexists(request.path))


FAULTS: dict[str, dict[str, Any]] = {
    "full for a moment": {"error": errno.ENOSPC, "lasting": False},
    "full": {"error": errno.ENOSPC, "lasting": True},
    "full in the middle of a write": {"error": errno.ENOSPC, "lasting": True, "half": True},
    "an error": {"error": errno.EIO, "lasting": False},
    "errors from then on": {"error": errno.EIO, "lasting": True},
}


@dataclass
class Attempt:
    """The result of work on a disk that failed.

    Attributes:
        folder: Where.
        failed: The request that failed first; empty if none did.
        problems: What is wrong.
        held: What the agent held in the end.
    """

    folder: Path
    path: Path
    failed: str
    problems: list[str] = field(default_factory=list)
    held: str | None = None
    after_failure: bool = True


def go_on(work: Work) -> None:
    """Continue; SQLite may have opened the write-ahead log read-only, which it reports only at the first write."""
    try:
        work.go_on()
    except Exception as error:
        if "readonly" not in str(error):
            raise
        work.go_on()


def attempt(disk: Disk, folder: Path, work: Work, fault: Fault, after: Any, tell: Callable[[Attempt], None]) -> None:
    """Do some work on a disk that fails, and continue when it works again; report after both."""
    work.begin()
    before = view(work.path)
    error: BaseException | None = None
    disk.answer = fault
    try:
        work.act()
    except BaseException as raised:
        error = raised
    finally:
        disk.answer = go_ahead
    result = Attempt(folder, work.path, fault.failed)
    if isinstance(error, EventLoopException):  # so Strands wraps what happens in an agent's work
        error = error.__cause__
    if error is not None and not isinstance(error, SessionException):
        result.problems.append(f"raised {error!r}")
    elif error is not None and str(folder) not in str(error):
        result.problems.append(f"does not name the file: {error}")
    elif error is not None and not fault.failed:
        result.problems.append(f"raised without a reason: {error!r}")
    if not work.is_whole(before, view(work.path), after):
        result.problems.append("something half-done is visible")
    tell(result)
    try:
        go_on(work)
        result.problems += work.problems()
        result.held = None if work.agent is None else held(work.agent)
        work.end()
    except Exception as raised:
        result.problems.append(f"does not go on: {raised!r} after {error!r}")
    result.after_failure = False
    tell(result)


def attempts(kind: type[Work], root: Path, faults: Callable[[dict[int, int]], list[Fault]], pipe: Connection) -> None:
    """Do some work once on a working disk, and then on one that fails in each of several ways; in a child process.

    Args:
        kind: The work.
        root: An empty folder.
        faults: Returns the faults to try, given the number of requests that can fail with each error.
        pipe: Receives every `Attempt`, after the failure and at the end, and says when the next step may come.
    """

    def tell(result: Attempt) -> None:
        pipe.send(result)
        pipe.recv()

    def folder(name: str) -> Path:
        shutil.copytree(root / "prepared", root / name)
        return root / name

    (root / "prepared").mkdir()
    kind.prepare(root / "prepared")
    disk = Disk(root)
    work = kind(folder("healthy"))
    work.begin()
    counting = {error: Fault(1 << 60, error, False) for error in (errno.EIO, errno.ENOSPC)}
    disk.answer = lambda request, go: counting[errno.EIO](request, lambda: counting[errno.ENOSPC](request, go))
    work.act()
    disk.answer = go_ahead
    after = view(work.path)
    for number, fault in enumerate(faults({error: counter.seen for error, counter in counting.items()})):
        place = folder(str(number))
        attempt(disk, place, kind(place), fault, after, tell)
        gc.collect()
        if disk.failure is not None:
            raise disk.failure
    pipe.send(None)
