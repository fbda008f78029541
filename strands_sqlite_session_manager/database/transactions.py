"""Transactions that always end, wherever an exception strikes."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def transact(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run statements as one transaction: all of them happen, or none.

    The rollback is tried twice, like the release in `locks.hold`. An unfinished cursor would keep its view of the
    database even then. So `work` fetches all that it selects, or iterates over a cursor that no variable names, so that
    it ends with the iteration.

    Args:
        connection: A connection in autocommit mode, outside a transaction.
        begin: `BEGIN` or `BEGIN IMMEDIATE`.
        work: Called with the connection; its result is returned.
    """
    try:
        try:
            connection.execute(begin)
            result = work(connection)
            connection.execute("COMMIT")
            return result
        finally:
            roll_back(connection)
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """Roll back the open transaction, if any."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
