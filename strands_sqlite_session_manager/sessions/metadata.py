"""Session metadata: string values under string keys, one row for each."""

import sqlite3
from collections.abc import Mapping

from .. import errors
from ..database.tables import METADATA
from ..database.values import UnreadableError


def check_metadata(metadata: Mapping[str, str | None] | None, *, removable: bool = False) -> dict[str, str | None]:
    """Return metadata as a dict of plain strings.

    Args:
        metadata: The caller's metadata. None means empty, except for changes.
        removable: Whether these are changes, in which the value None removes a key.

    Raises:
        TypeError: If it is not a mapping, or holds anything but strings.
        ValueError: If a string is not valid Unicode.
    """
    if metadata is None and not removable:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata=<{type(metadata).__name__}> | must be a mapping")
    plain: dict[str, str | None] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not (isinstance(value, str) or (removable and value is None)):
            raise TypeError(f"metadata[{key!r}] | keys and values must be strings")
        plain[_plain(key, key)] = None if value is None else _plain(value, key)
    return plain


def _plain(text: str, key: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        errors.without_content(error)
        raise ValueError(f"metadata[{key!a}] | cannot contain lone surrogates") from error
    return str.__str__(text)  # SQLite takes no subclasses


def merge(connection: sqlite3.Connection, session_id: str, changes: Mapping[str, str | None]) -> None:
    """Merge changes that `check_metadata` returned into the metadata of a session; None removes a key.

    Raises:
        SessionNotFoundException: If there is no such session.
    """
    if not connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (session_id,)).fetchone():
        raise errors.SessionNotFoundException(f"Session {session_id} does not exist")
    for key, value in changes.items():
        if value is None:
            connection.execute("DELETE FROM session_metadata WHERE session_id = ? AND key = ?", (session_id, key))
        else:
            connection.execute(
                f"{METADATA.insert} ON CONFLICT (session_id, key) DO UPDATE SET value = excluded.value"
                " WHERE value <> excluded.value",
                (session_id, key, value),
            )


def read_metadata(connection: sqlite3.Connection, session_id: str) -> dict[str, str]:
    """Return the metadata of a session, in the order in which the keys were added.

    Raises:
        UnreadableError: If it is not text, because another program or damage to the file changed it.
    """
    rows = connection.execute(
        "SELECT key, value FROM session_metadata WHERE session_id = ? ORDER BY rowid", (session_id,)
    ).fetchall()
    if not all(isinstance(text, str) for row in rows for text in row):
        raise UnreadableError(f"the metadata of session {session_id} cannot be read: it is not text")
    return dict(rows)


def condition(metadata: Mapping[str, str | None], table: str) -> tuple[str, list[str | None]]:
    """Return a condition that selects the rows of a table whose session has this metadata.

    Returns:
        SQL to append to other conditions, and its parameters.
    """
    if not metadata:
        return "", []
    has = f"EXISTS (SELECT 1 FROM session_metadata WHERE session_id = {table}.session_id AND key = ? AND value = ?)"
    return f" AND {_times(has, len(metadata))}", [text for pair in metadata.items() for text in pair]


def _times(term: str, count: int) -> str:
    """Return a condition repeated, as a balanced tree: SQLite refuses expressions more than 1,000 levels deep."""
    return term if count == 1 else f"({_times(term, count // 2)} AND {_times(term, count - count // 2)})"
