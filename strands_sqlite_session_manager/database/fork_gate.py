"""Makes `os.fork` safe: no database is open at the moment of a fork.

SQLite forbids carrying a connection across a fork, and leaving it alone in the child is not enough: the library keeps
its record of file locks per process, and a child inherits the record without the locks. It would believe that it holds
what it does not, and its parent could remove the write-ahead log under it. So a fork waits for work in progress and
closes everything, and parent and child open again what they need.

Taking the locks of all connections would not do. A thread that holds one may need a second before it can finish, when
the `progress` of a backup writes to a second file. A fork that holds the second and waits for the first would wait
forever. The gate holds up only threads that begin work, not threads that already work.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_PAUSE = 0.0005  # seconds between two checks, of a fork and of the threads that wait for it


class ForkGate:
    """Lets any number of threads work on databases, and a fork wait until none does.

    Entering takes no lock: a thread first registers as inside and then checks for a fork; a fork does these in reverse
    order.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._open, after_in_child=self._reset)

    def around_fork(self, before: Callable[[], None], in_child: Callable[[], None]) -> None:
        """Call one function before every fork, once no other thread is inside the gate, and one in the child."""
        if hasattr(os, "register_at_fork"):
            # Before a fork, what was registered last runs first: the gate closes, and then the callback runs.
            os.register_at_fork(before=before, after_in_child=in_child)
            os.register_at_fork(before=self._close)

    def inside(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Call `work` with the arguments when no fork is under way, and return its result.

        A thread that is inside may enter again.
        """
        thread = threading.get_ident()
        if thread in self._inside or thread == self._forking:
            return work(*arguments)
        try:
            try:
                self._inside.add(thread)
                while self._forking is not None:
                    self._inside.discard(thread)
                    time.sleep(_PAUSE)
                    self._inside.add(thread)
                return work(*arguments)
            finally:
                self._inside.discard(thread)
        finally:
            self._inside.discard(thread)

    def _reset(self) -> None:
        self._turn = threading.Lock()  # held by the thread that forks
        self._inside: set[int] = set()
        self._forking: int | None = None  # the thread that forks

    def _close(self) -> None:
        thread = threading.get_ident()
        self._turn.acquire()
        self._forking = thread
        while self._inside - {thread}:
            time.sleep(_PAUSE)

    def _open(self) -> None:
        self._forking = None
        self._turn.release()


FORK_GATE = ForkGate()
