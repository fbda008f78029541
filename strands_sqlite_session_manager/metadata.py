"""What is known of a session: strings under string keys, kept as JSON and found by any of them."""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress

from .codec import decode, encode
from .errors import UnreadableError, session_exception

_MOST_INDEXES = 16
_INDEX = "sessions_with_"
_ENOUGH = 1000  # rows that are counted to tell which key is the rarer one
# What can be written inside a JSON path as it is; and what SQLite's JSON functions do not give back as it was.
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,99}")
_ODD_VALUE = re.compile("[\x00-\x1f\ud800-\udfff]")


def checked(metadata: Mapping[str, str | None], *, removable: bool = False) -> dict[str, str | None]:
    """Return metadata as a dict of strings.

    Args:
        metadata: What a caller gave.
        removable: Whether a value may be None, which removes its key.

    Raises:
        TypeError: If it is no mapping, or holds anything but strings.
    """
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata=<{type(metadata).__name__}> | must be a mapping")
    plain: dict[str, str | None] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not (isinstance(value, str) or (removable and value is None)):
            raise TypeError(f"metadata[{key!r}] | keys and values must be strings")
        plain[str.__str__(key)] = None if value is None else str.__str__(value)  # SQLite takes no subclasses
    return plain


def is_metadata(value: object) -> bool:
    """Tell whether a value is what `checked` returns."""
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def merge(connection: sqlite3.Connection, session_id: str, changes: Mapping[str, str | None]) -> None:
    """Merge changes into the metadata of a session; None removes a key.

    Args:
        connection: A transaction that writes.
        session_id: The session's id.
        changes: What `checked` returned.

    Raises:
        SessionException: If there is no such session.
    """
    row = connection.execute("SELECT metadata FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if row is None:
        raise session_exception(f"Session {session_id} does not exist")
    known = of_row(row[0], session_id)
    merged = {key: value for key, value in {**known, **changes}.items() if value is not None}
    if merged != known:
        connection.execute(
            "UPDATE sessions SET metadata = ? WHERE session_id = ?", (encode(merged, "metadata"), session_id)
        )
        index_keys(connection, merged)


def of_row(text: str, session_id: str) -> dict[str, str]:
    """Return the metadata of a session from its row.

    Raises:
        UnreadableError: If they are not a JSON object.
    """
    found = decode(text, "metadata of session", session_id)
    if not isinstance(found, dict):
        raise UnreadableError(f"metadata of session {session_id} cannot be read: they are not a JSON object")
    return found


def index_keys(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
    """See to it that sessions are found by these keys of their metadata; there are indexes for a limited number."""
    indexed = _indexed_keys(connection)
    for key in keys:
        if key not in indexed and len(indexed) < _MOST_INDEXES and _PLAIN_KEY.fullmatch(key):
            indexed.add(key)
            connection.execute(
                # In hexadecimal digits, because SQLite does not care about the case of names.
                f'CREATE INDEX "{_INDEX}{key.encode().hex()}" ON sessions ({_value(key)}, active_at, session_id)'
                f" WHERE {_value(key)} IS NOT NULL"
            )


def condition(connection: sqlite3.Connection, metadata: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """Return an SQL condition on `sessions` that holds where the metadata have these values, and its parameters.

    SQLite searches by the key whose value is the rarest, as far as there are indexes. What it finds is looked at once
    more, because its JSON functions stop at NUL characters and know no lone surrogates.
    """
    if not metadata:
        return "TRUE", []
    wanted = dict(metadata)
    connection.create_function("has_wanted", 1, lambda json: wanted.items() <= of_row(json, "").items())
    known = _indexed_keys(connection)
    indexed = {
        key: value
        for key, value in metadata.items()
        if isinstance(value, str) and key in known and not _ODD_VALUE.search(value)
    }
    if not indexed:
        return "has_wanted(metadata)", []
    key = next(iter(indexed)) if len(indexed) == 1 else _rarest(connection, indexed)
    return f"{_value(key)} = ? AND has_wanted(metadata)", [indexed[key]]


def _rarest(connection: sqlite3.Connection, indexed: Mapping[str, str]) -> str:
    counts = {
        key: connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM sessions WHERE {_value(key)} = ? LIMIT {_ENOUGH})", (value,)
        ).fetchone()[0]
        for key, value in indexed.items()
    }
    return min(counts, key=lambda key: counts[key])


def _indexed_keys(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute(
        "SELECT substr(name, ?) FROM sqlite_master WHERE type = 'index' AND substr(name, 1, ?) = ?",
        (len(_INDEX) + 1, len(_INDEX), _INDEX),
    ).fetchall()
    keys = set()
    for (name,) in rows:
        with suppress(ValueError):  # an index of somebody else's, by chance
            keys.add(bytes.fromhex(name).decode())
    return keys


def _value(key: str) -> str:
    return f"""json_extract(metadata, '$."{key}"')"""
