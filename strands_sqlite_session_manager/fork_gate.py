"""Keeps `os.fork` and open databases apart.

SQLite's own notes forbid carrying a connection across a fork, and not using it in the child is not
enough: the library keeps its record of file locks per process, and a child inherits that record
without the locks. It would believe that it holds what it does not, and its parent could remove the
write-ahead log under it. So nothing may be open at the moment of the fork: work in progress is
waited for, everything is closed, and parent and child open what they need again.
"""

import os
import threading
from collections.abc import Callable


class ForkGate:
    """Lets any number of threads work on databases, and a fork wait until none does.

    Going in and out is on the way of every statement, so it takes no lock: a thread first says that it is
    inside and then looks whether a fork is under way; a fork does it the other way round.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._open, after_in_child=self._reset)

    def around_fork(self, before: Callable[[], None], in_child: Callable[[], None]) -> None:
        """Call back around every fork: before it, when no thread is inside the gate, and in the child."""
        if hasattr(os, "register_at_fork"):
            # What is registered last is called first before a fork: the gate closes, and then comes the callback.
            os.register_at_fork(before=before, after_in_child=in_child)
            os.register_at_fork(before=self._close)

    def enter(self) -> None:
        """Go in, waiting while a fork is under way; a thread that is inside may enter again."""
        thread = threading.get_ident()
        depth = self._inside.get(thread, 0)
        self._inside[thread] = depth + 1
        if self._forking is not None and depth == 0 and self._forking != thread:
            del self._inside[thread]
            with self._changed:
                self._changed.notify_all()
                while self._forking is not None:
                    self._changed.wait()
            self.enter()

    def leave(self) -> None:
        """Go out as often as entered."""
        thread = threading.get_ident()
        depth = self._inside.pop(thread)
        if depth > 1:
            self._inside[thread] = depth - 1
        elif self._forking is not None:
            with self._changed:
                self._changed.notify_all()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}  # how often each thread has entered
        self._forking: int | None = None  # the thread that forks

    def _close(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            while self._forking is not None:
                self._changed.wait()
            self._forking = thread
            while self._inside.keys() - {thread}:
                self._changed.wait()

    def _open(self) -> None:
        with self._changed:
            self._forking = None
            self._changed.notify_all()


FORK_GATE = ForkGate()
