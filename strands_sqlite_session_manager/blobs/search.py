"""Search by words, ranked by Strands' own keyword search, as of one moment of the file."""

import asyncio
import sqlite3
from typing import Any

from ..database.database import Database
from ..database.values import UnreadableError
from . import values


def search(database: Database, prefix: str, query: str) -> list[Any]:
    """Return the values that contain words of a query, best first; it reads only keys with the prefix.

    Call it in a thread without an event loop: it looks at every word of these values.

    Args:
        database: The file.
        prefix: The prefix of all keys to search. They are ranked and returned without it.
        query: The query.

    Returns:
        A `StorageSearchResult` for each.

    Raises:
        ImportError: If Strands has no search yet.
        SessionException: If the file cannot be read.
    """
    try:
        from strands.storage.search import KeywordSearchStrategy
    except ImportError as error:
        raise ImportError("search needs strands-agents 1.54 or newer: pip install -U strands-agents") from error

    def look(connection: sqlite3.Connection) -> list[Any]:
        moment: Any = _Moment(connection, prefix)
        return asyncio.run(KeywordSearchStrategy().search(moment, query))

    return database.snapshot(look)


class _Moment:
    """The part of a storage that a search needs."""

    def __init__(self, connection: sqlite3.Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix

    async def list(self, query: str) -> list[str]:
        return [key[len(self._prefix) :] for key in values.list_keys(self._connection, self._prefix + query)]

    async def read(self, key: str) -> bytes | None:
        from strands.types.exceptions import StorageError

        try:
            return values.read(self._connection, self._prefix + key)
        except UnreadableError as error:  # the search skips it
            raise StorageError(str(error)) from error
