"""Transactions that end, wherever an exception strikes."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def transact(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Run statements as one transaction: all of them happen, or none.

    The rollback is tried twice, as the release is in `locks.hold`. A cursor that is left half-way would keep its view
    of the database even then: `work` fetches what it selects, or iterates over a cursor that no variable names, so
    that it is gone with the iteration.

    Args:
        connection: A connection in autocommit mode, outside a transaction.
        begin: `BEGIN` or `BEGIN IMMEDIATE`.
        work: Called with the connection; what it returns is returned.
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
    """Roll back what is open; nothing happens outside a transaction."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
