"""Writers of one process commit together.

A writer without competition writes in its own thread, at no extra cost. All others queue, and one thread, the
committer, writes everything that waits as one transaction: while a commit is on its way to the disk, the next one
fills. Every writer gets its own outcome after the commit. A write that fails inside such a transaction is undone alone;
a failed commit fails all of them.

Only the committer waits for other processes, which take turns (see `turns`). It keeps this process's turn for a moment,
in which a writer without competition in the process can again write in its own thread.

A queued write can be withdrawn until the committer has the database's write lock. So a writer that runs out of time, is
interrupted or is canceled knows whether its write will happen.
"""

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from .connections import Connection, Settings, is_read_only
from .locks import hold, is_locked, locked, new_lock
from .outcome import Ended, Outcome, end_all
from .transactions import roll_back, transact
from .turns import Turns

_IDLE = 5.0  # seconds after which an idle committer ends
_STEP = 0.1  # seconds after which a wait that must not be given up starts again
_COMMITTERS = {name: Settings(name, _STEP).instant for name in ("FULL", "NORMAL")}
_CROWDED = 0.008  # seconds for which the committer keeps the lock while many threads write
_LINGER = 0.001  # seconds to wait in a turn for the next write
_PAUSES = (0.0005, 0.01)  # seconds between attempts while a program outside the queue writes: first, longest
_REST = 0.05  # seconds to wait for the end of a turn in which nothing more arrives

UseConnection = Callable[..., Any]
"""Takes settings, a function and its arguments; calls it with the calling thread's connection and the arguments."""


@dataclass
class Write:
    """One write, all or nothing.

    Attributes:
        work: Called with a connection; its result is the write's.
        settings: The settings of its user.
        is_statement: Whether it is one statement, which needs no transaction of its own.
        outcome: The outcome if the write was queued, otherwise None.
    """

    work: Callable[[sqlite3.Connection], Any]
    settings: Settings
    is_statement: bool = False
    outcome: Outcome | None = None


_Queued = tuple[Write, Outcome]


class Writers:
    """The queue of one file in this process.

    Attributes:
        lock: Held by the thread that writes.
    """

    def __init__(self, use_connection: UseConnection, turns: Turns) -> None:
        self._use_connection = use_connection
        self._turns = turns
        self.renew()

    def renew(self) -> None:
        """Start over in a forked child, where neither the holders of the locks nor the committer exist."""
        self._turns.close()
        self.lock = new_lock()
        self._queue: SimpleQueue[_Queued] = SimpleQueue()
        self._starting = new_lock()
        self._committer: threading.Thread | None = None

    def rest(self) -> None:
        """Leave the queue of processes until the next write, unless a thread keeps writing."""
        with suppress(sqlite3.OperationalError):
            hold(self.lock, self._turns.remove, timeout=_REST)

    def write(self, write: Write) -> Any:
        """Do a write and return its result.

        Raises:
            sqlite3.OperationalError: If others kept the database locked for the whole timeout; nothing was written.
            sqlite3.Error: If SQLite fails; nothing was written.
            Exception: What `work` raises; nothing was written.
        """
        end = time.monotonic() + write.settings.timeout
        if self._queue.empty() and self._turns.may_write():
            # As in `locks.hold`, but without waiting for the lock.
            try:
                try:
                    if self.lock.acquire(blocking=False):
                        return self._use_connection(write.settings.instant, _alone, write)
                except sqlite3.Error as error:
                    if not is_locked(error):
                        raise
                    self._turns.expect_rivals()
                finally:
                    self._end_write()
            finally:
                self._end_write()
        return self._wait(write, end)

    def _end_write(self) -> None:
        if self.lock._is_owned():
            self._turns.end_write()
            self.lock.release()

    def exclusively(self, settings: Settings, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run what must not be part of a transaction, such as VACUUM, while no other thread of the process writes.

        Raises:
            sqlite3.OperationalError: If others kept the database locked for the whole timeout.
        """
        return hold(self.lock, self._use_connection, settings, work, *arguments, timeout=settings.timeout)

    def submit(self, write: Write) -> Outcome:
        """Queue a write and return its outcome, for the caller to check later; it never waits.

        Raises:
            RuntimeError: If there is no committer and none can be started, because the interpreter is shutting down.
        """
        if sys.is_finalizing():
            raise RuntimeError("the interpreter is shutting down")
        is_queued = False
        try:
            try:
                outcome = write.outcome = Outcome()
                self._queue.put((write, outcome))
                hold(self._starting, self._start_committer)
                is_queued = True
                return outcome
            finally:
                if not is_queued:
                    withdraw(write)
        finally:
            if not is_queued:
                withdraw(write)

    def _wait(self, write: Write, end: float) -> Any:
        try:
            outcome = self.submit(write)
        except RuntimeError:  # the interpreter is shutting down
            return self.exclusively(write.settings, _alone, write)
        try:
            if not outcome.wait(end - time.monotonic()) and outcome.withdraw():
                raise locked()
            while not outcome.is_done:  # it is being written
                outcome.wait(_STEP)
        except BaseException:
            outcome.withdraw()
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    def _start_committer(self) -> None:
        if self._committer is None:
            committer = threading.Thread(target=self._commit, name="strands-sqlite-committer", daemon=True)
            committer.start()
            self._committer = committer

    def _commit(self) -> None:
        """Run in the committer: write what waits, until nothing more arrives."""
        while True:
            in_turn = self._turns.is_ours
            try:
                first = self._queue.get(timeout=_LINGER if in_turn else _IDLE)
            except Empty:
                if in_turn:
                    with suppress(sqlite3.OperationalError):  # a thread is writing
                        hold(self.lock, self._turns.leave_if_unused_for, _LINGER, timeout=0)
                else:
                    self.rest()
                    if hold(self._starting, self._retire):
                        return
                continue
            hold(self.lock, self._serve, first)
            del first  # drop the reference while waiting for the next write

    def _serve(self, first: _Queued) -> None:
        """Write what waits, in this process's turn; after several at once, wait in it for their writers' next ones."""
        batch = [first]
        end = time.monotonic() + _CROWDED
        try:
            while batch:
                self._write_together(batch)
                linger = min(_LINGER, end - time.monotonic()) if len(batch) > 1 else 0
                batch = []
                with suppress(Empty):
                    if linger > 0:
                        batch.append(self._queue.get(timeout=linger))
        except BaseException as error:
            for _, outcome in batch:
                outcome.fail(error)
        finally:
            self._turns.end_write()

    def _write_together(self, batch: list[_Queued]) -> None:
        """Write all that waits, as soon as no other process writes, unless no writer waits for it any longer."""
        pause, longest = _PAUSES
        self._turns.enter()
        while not self._commit_together(batch):
            self._turns.expect_rivals()
            self._turns.enter()
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
            batch[:] = [(write, outcome) for write, outcome in batch if not outcome.is_withdrawn]
            if not batch:
                return

    def _retire(self) -> bool:
        if self._queue.empty():
            self._committer = None
            return True
        return False

    def _commit_together(self, batch: list[_Queued]) -> bool:
        """Write all that waits as one transaction, FULL if one of the writes is; return False if others are writing."""
        with suppress(Empty):
            while True:
                batch.append(self._queue.get_nowait())
        is_full = any(write.settings.synchronous == "FULL" for write, _ in batch)
        has_begun = False

        def commit(connection: Connection) -> None:
            nonlocal has_begun
            raw = connection.raw
            raw.execute("BEGIN IMMEDIATE")
            has_begun = True
            try:
                results = _write_each(raw, batch)
                raw.execute("COMMIT")
            finally:
                roll_back(raw)
            end_all(results)

        try:
            self._use_connection(_COMMITTERS["FULL" if is_full else "NORMAL"], commit)
        except BaseException as error:
            if not has_begun and is_locked(error):
                return False
            for _, outcome in batch:
                outcome.fail(error)
        return True


def withdraw(write: Write) -> None:
    """Withdraw a write from the queue; the committer skips it."""
    if write.outcome is not None:
        write.outcome.withdraw()


def _alone(connection: Connection, write: Write) -> Any:
    if write.is_statement:
        return write.work(connection.raw)
    return transact(connection.raw, "BEGIN IMMEDIATE", write.work)


def _write_each(raw: sqlite3.Connection, batch: list[_Queued]) -> list[Ended]:
    """Do the writes of a batch in a transaction; return the result or error to report to each after the commit."""
    results: list[Ended] = []
    for write, outcome in batch:
        if not outcome.begin():
            continue
        try:
            if write.is_statement:
                result = write.work(raw)
            else:
                raw.execute("SAVEPOINT one_of_many")
                result = write.work(raw)
                raw.execute("RELEASE one_of_many")
        except BaseException as error:
            # SQLite rolled everything back, as when the disk is full; or this connection can write nothing at all.
            if not raw.in_transaction or is_read_only(raw, error):
                raise
            if not write.is_statement:
                raw.execute("ROLLBACK TO one_of_many")
                raw.execute("RELEASE one_of_many")
            results.append((outcome, None, error))
        else:
            results.append((outcome, result, None))
    return results
