"""What the file is known to hold of a live agent, kept right whatever happens to a write.

After an interrupt or a canceled task, it can be unknown whether a write took place. So a `Change` carries a proof: a
query that finds a row only if this very write is in the file. The next event first settles the account: it adopts the
change or forgets it.
"""

import asyncio
import os
import random
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .. import errors
from ..database.database import Database, Row
from ..database.event_loops import ended, result_of
from ..database.locks import FOREVER, hold, is_mine, new_lock
from ..database.writers import Write

_T = TypeVar("_T")
_PAUSE = 0.002  # seconds until an event loop checks again whether another thread is done with the same account


class StaleError(Exception):
    """The file does not hold what this process knows: another writer changed it, and nothing was written."""


class Change(NamedTuple):
    """One write of an account, and how to tell whether it took place.

    Attributes:
        work: Does the write, or raises `StaleError`; called with a connection in a transaction.
        proof: A query, and its parameters, that finds a row if and only if the write took place.
        adopt: Updates the account to what is stored after the write; called again if it was interrupted.
        is_statement: Whether it is one statement, which needs no transaction of its own.
    """

    work: Callable[[sqlite3.Connection], Any]
    proof: tuple[str, Row]
    adopt: Callable[[], None]
    is_statement: bool = False


class Account:
    """What the file is known to hold of one agent or orchestrator; one event at a time changes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: tuple[Change, Write] | None = None
        self._lock = new_lock()
        _accounts.add(self)

    def renew(self) -> None:
        """Start over in a forked child, where the owner of the lock and the queue of writes do not exist."""
        self._lock = new_lock()
        if self._pending is not None:
            self._expect(self._pending[0])

    def store(self, prepare: Callable[[], Change | None]) -> None:
        """Store what an event changes.

        Args:
            prepare: Returns the change, or None if there is nothing to write; called when the account is settled and no
                other event changes it.

        Raises:
            StaleError: If another writer changed the file; nothing was written.
            SessionException: If a value has no exact form in JSON, or cannot be written.
        """

        def settle_and_write() -> None:
            self._settle()
            change = prepare()
            if change is not None:
                self._database.do(self._expect(change))
                self._adopt(change)

        self._exclusively(settle_and_write)

    async def store_async(self, prepare: Callable[[], Change | None]) -> None:
        """Store what an event changes without blocking the event loop; otherwise as `store`.

        If the task is canceled, the write still gets a short time to finish; if it does not, the next event stores it.
        """
        while True:
            try:
                write, is_ours = self._exclusively(lambda: self._submit(prepare), timeout=0)
            except sqlite3.OperationalError:  # another thread stores the same agent
                await asyncio.sleep(_PAUSE)
                continue
            if write is None:
                return
            if is_ours:
                await result_of(self._database, write)
                return
            await ended(write)

    def update(self, work: Callable[[], _T]) -> _T:
        """Call `work` when the account is settled and no event changes it, and return its result."""

        def settle_and_work() -> _T:
            self._settle()
            return work()

        return self._exclusively(settle_and_work)

    def _exclusively(self, work: Callable[[], _T], timeout: float = FOREVER) -> _T:
        if is_mine(self._lock):
            raise errors.SessionException(
                f"{self._database.path} | this thread is in the middle of storing the same agent or orchestrator:"
                " a signal handler that interrupts it cannot store more"
            )
        return hold(self._lock, work, timeout=timeout)

    def _submit(self, prepare: Callable[[], Change | None]) -> tuple[Write | None, bool]:
        """Queue what an event changes.

        Returns:
            The write to wait for, if any, and whether it belongs to this event. If it is an earlier write, nothing was
            queued.
        """
        if self._pending is not None:
            earlier = self._pending[1]
            if earlier.outcome is not None and not earlier.outcome.is_done:
                return earlier, False
        self._settle()
        change = prepare()
        if change is None:
            return None, True
        write = self._expect(change)
        if self._database.submit(write):
            return write, True
        self._database.do(write)
        self._adopt(change)
        return None, True

    def _expect(self, change: Change) -> Write:
        write = Write(change.work, self._database.settings, change.is_statement)
        self._pending = (change, write)
        return write

    def _adopt(self, change: Change) -> None:
        change.adopt()
        self._pending = None

    def _settle(self) -> None:
        """Find out whether the last write took place, if that is not known yet."""
        if self._pending is None:
            return
        change, write = self._pending
        if self._database.is_done(write) or self._database.read(*change.proof):
            self._adopt(change)
        else:
            self._pending = None


def new_revision() -> int:
    """Return a revision that no other writer has, so that a writer recognizes its own."""
    return _random.getrandbits(62)


_random = random.SystemRandom()
_accounts: "weakref.WeakSet[Account]" = weakref.WeakSet()


def _renew_accounts() -> None:
    for account in list(_accounts):
        account.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_accounts)
