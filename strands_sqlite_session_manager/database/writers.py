"""Writers of one process commit together.

A writer with nobody in its way writes in its own thread, which costs nothing more. All others queue, and one thread,
the committer, writes whatever waits as one transaction: while a commit is on its way to the disk, the next one
fills. Every writer gets an outcome of its own, and gets it after the commit. A write that fails inside such a
transaction is undone alone; a failed commit fails all of them.

Processes take turns as well, see `turns`. What the queue holds can be withdrawn until the committer has the database's write lock: a writer that runs out of time,
is interrupted or is canceled knows whether its write will happen.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from .connections import Connection, Settings
from .locks import hold, is_mine, locked, new_lock
from .transactions import roll_back, transact
from .turns import Turns

_IDLE = 5.0  # seconds after which a committer that nobody needs ends
_STEP = 0.1  # seconds that the committer waits for another process before it looks who still waits

UseConnection = Callable[[Settings, Callable[[Connection], Any]], Any]
"""Calls a function with the calling thread's connection."""


@dataclass
class Write:
    """One write, all or nothing.

    Attributes:
        work: Called with a connection; its result is the write's.
        settings: Its user's.
        is_statement: Whether it is one statement, which needs no transaction of its own.
        is_queued: Whether it was queued, and so `outcome` gets its result or its exception.
        outcome: See `is_queued`; its cancellation withdraws the write.
    """

    work: Callable[[sqlite3.Connection], Any]
    settings: Settings
    is_statement: bool = False
    is_queued: bool = False
    outcome: "Future[Any]" = field(default_factory=Future)


class Writers:
    """The queue of one file in this process."""

    def __init__(self, use_connection: UseConnection, turns: Turns) -> None:
        self._use_connection = use_connection
        self._turns = turns
        self.renew()

    def renew(self) -> None:
        """Begin anew in a forked child: neither the holders of the locks nor the committer exist there."""
        self._turns.close()
        self._turn = new_lock()  # held by the thread that writes
        self._queue: SimpleQueue[Write] = SimpleQueue()
        self._starting = new_lock()
        self._committer: threading.Thread | None = None

    def rest(self) -> None:
        """Leave the queue of processes until the next write, unless a thread writes at this moment."""
        with suppress(sqlite3.OperationalError):
            hold(self._turn, self._turns.remove, timeout=0)

    @property
    def is_writing(self) -> bool:
        """Whether the calling thread is in the middle of a write."""
        return is_mine(self._turn)

    def write(self, write: Write) -> Any:
        """Do a write and return its result.

        Raises:
            sqlite3.OperationalError: If others kept the database locked for the whole timeout; nothing was written.
            sqlite3.Error: If SQLite fails; nothing was written.
            Exception: What `work` raises; nothing was written.
        """
        if self._queue.empty():
            # As in `locks.hold`, but for a lock that is not waited for.
            try:
                try:
                    if self._turn.acquire(blocking=False) and self._turns.enter(wait=False):
                        return self._use_connection(write.settings, lambda connection: _alone(connection.raw, write))
                finally:
                    self._end_turn()
            finally:
                self._end_turn()
        return self._wait(write)

    def _end_turn(self) -> None:
        if is_mine(self._turn):
            self._turns.leave()
            self._turn.release()

    def exclusively(self, settings: Settings, work: Callable[[Connection], Any]) -> Any:
        """Do what must not be part of a transaction, such as VACUUM, while no other thread of the process writes.

        Raises:
            sqlite3.OperationalError: If others kept the database locked for the whole timeout.
        """
        return hold(self._turn, lambda: self._use_connection(settings, work), settings.timeout)

    def submit(self, write: Write) -> None:
        """Queue a write whose outcome the caller looks at later; it never waits.

        Raises:
            RuntimeError: If there is no committer and none can be started, because the interpreter shuts down.
        """
        write.is_queued = True
        self._queue.put(write)
        hold(self._starting, self._start_committer)

    def _wait(self, write: Write) -> Any:
        end = time.monotonic() + write.settings.timeout
        try:
            self.submit(write)
        except RuntimeError:  # the interpreter shuts down
            if not write.outcome.cancel():
                return write.outcome.result()
            again = Write(write.work, write.settings, write.is_statement)
            return self.exclusively(write.settings, lambda connection: _alone(connection.raw, again))
        try:
            return write.outcome.result(max(end - time.monotonic(), 0))
        except FutureTimeoutError as error:
            if write.outcome.cancel():
                raise locked() from error
            return write.outcome.result()  # it is being written, or the exception is its own
        except BaseException:
            write.outcome.cancel()
            raise

    def _start_committer(self) -> None:
        if self._committer is None:
            committer = threading.Thread(target=self._commit, name="strands-sqlite-committer", daemon=True)
            committer.start()
            self._committer = committer

    def _commit(self) -> None:
        """Run in the committer: write what waits, until nothing comes any more."""
        while True:
            try:
                first = self._queue.get(timeout=_IDLE)
            except Empty:
                if hold(self._starting, self._retire):
                    return
                continue
            batch = [first]
            try:
                hold(self._turn, lambda: self._commit_together(batch))  # noqa: B023
            except BaseException as error:
                for write in batch:
                    _fail(write, error)

    def _retire(self) -> bool:
        if self._queue.empty():
            self._committer = None
            return True
        return False

    def _commit_together(self, batch: list[Write]) -> None:
        """Write all that waits as one transaction; a write in NORMAL may be part of one in FULL, not the other way."""
        self._take(batch)
        strictest = next((write for write in batch if write.settings.synchronous == "FULL"), batch[0])

        def commit(connection: Connection) -> None:
            raw = connection.raw
            if not _begin(connection, batch):
                return
            try:
                self._take(batch, strictest.settings.synchronous)
                done = _write_each(raw, batch)
                raw.execute("COMMIT")
            finally:
                roll_back(raw)
            for write, result in done:
                write.outcome.set_result(result)

        try:
            self._turns.enter(wait=True)
            self._use_connection(strictest.settings, commit)
        finally:
            self._turns.leave()

    def _take(self, batch: list[Write], synchronous: str | None = None) -> None:
        """Add what waits to a batch; what needs a stricter commit goes to the next one."""
        later: list[Write] = []
        while True:
            try:
                write = self._queue.get_nowait()
            except Empty:
                break
            is_stricter = synchronous == "NORMAL" and write.settings.synchronous == "FULL"
            (later if is_stricter else batch).append(write)
        for write in later:
            self._queue.put(write)


def _alone(raw: sqlite3.Connection, write: Write) -> Any:
    if write.is_statement:
        return write.work(raw)
    return transact(raw, "BEGIN IMMEDIATE", write.work)


def _begin(connection: Connection, batch: list[Write]) -> bool:
    """Begin a transaction as soon as no other process writes; return False if nobody waits for it any more."""
    connection.wait_at_most(_STEP)
    while True:
        try:
            connection.raw.execute("BEGIN IMMEDIATE")
            return True
        except connection.raw.OperationalError as error:
            if "locked" not in str(error):
                raise
        batch[:] = [write for write in batch if not write.outcome.cancelled()]
        if not batch:
            return False


def _write_each(raw: sqlite3.Connection, batch: list[Write]) -> list[tuple[Write, Any]]:
    """Do the writes of a batch in a transaction; return those that succeeded, with their results."""
    done = []
    for write in batch:
        if not write.outcome.set_running_or_notify_cancel():
            continue
        try:
            if write.is_statement:
                result = write.work(raw)
            else:
                raw.execute("SAVEPOINT one_of_many")
                result = write.work(raw)
                raw.execute("RELEASE one_of_many")
        except BaseException as error:
            if not raw.in_transaction:  # SQLite gave up all of it: the disk is full, or fails
                raise
            if not write.is_statement:
                raw.execute("ROLLBACK TO one_of_many")
                raw.execute("RELEASE one_of_many")
            _fail(write, error)
        else:
            done.append((write, result))
    return done


def _fail(write: Write, error: BaseException) -> None:
    outcome = write.outcome
    if not outcome.done() and (outcome.running() or outcome.set_running_or_notify_cancel()):
        outcome.set_exception(error)
