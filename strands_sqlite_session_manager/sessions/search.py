"""Searching what was said, in any script, without an index: appending a message costs nothing more."""

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from ..database.database import Database, Row
from ..database.identifiers import validate_id
from ..database.values import decode, encode
from .listing import check_range
from .metadata import check_metadata, condition
from .text import parts

_LONGEST_PATTERN = 10_000  # characters; SQLite takes no more than 50,000 bytes
_AROUND = 60  # characters of a snippet on each side of the match


@dataclass(frozen=True)
class MessageMatch:
    """A message in which a text was found.

    Attributes:
        session_id: The session's id.
        agent_id: The agent's id.
        message_id: The message's id.
        role: Who said it: `user` or `assistant`.
        created_at: When, ISO 8601.
        snippet: The first place where the text was found, with some words around it, on one line.
    """

    session_id: str
    agent_id: str
    message_id: int
    role: str
    created_at: str
    snippet: str


def search_messages(
    database: Database,
    text: str,
    *,
    session_id: str | None = None,
    agent_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    limit: int | None = 50,
) -> list[MessageMatch]:
    """Return the messages in which a text was said; see `SQLiteSessionRepository.search_messages`."""
    if not isinstance(text, str):
        raise TypeError(f"text=<{type(text).__name__}> | must be a string")
    if not text:
        raise ValueError("text | cannot be empty")
    filters = []
    for name, value in (("session", session_id), ("agent", agent_id)):
        if value is not None:
            filters.append((f"{name}_id", validate_id(value, name)))
    clauses, parameters = condition(check_metadata(metadata), "messages")
    clauses = "".join(f" AND {column} = ?" for column, _ in filters) + clauses
    limit, _ = check_range(limit)
    folded = text.casefold()

    def search(connection: sqlite3.Connection) -> list[MessageMatch]:
        said, said_parameters = _contains(connection, text)
        found: list[MessageMatch] = []
        if limit == 0:
            return found
        for row in connection.execute(
            "SELECT session_id, agent_id, message_id, created_at, coalesce(redact_message, message) FROM messages"
            f" WHERE {said}{clauses} ORDER BY sequence DESC",
            (*said_parameters, *(value for _, value in filters), *parameters),
        ):
            match = _match(row, folded)
            if match is not None:
                found.append(match)
                if len(found) == limit:
                    break
        return found

    return database.snapshot(search)


def _contains(connection: sqlite3.Connection, text: str) -> tuple[str, list[str]]:
    """Return a condition on messages that may contain a text, and its parameters.

    It looks at the JSON, where the text can also be the name of a key.
    """
    said = "coalesce(redact_message, message)"
    written = encode(text, "text")[1:-1].casefold()
    connection.create_function("contains", 1, lambda json: written in json.casefold(), deterministic=True)
    if not written.isascii() or len(written) >= _LONGEST_PATTERN:
        return f"contains({said})", []
    # LIKE is faster, but folds ASCII letters only; other characters can fold to these, such as the Kelvin sign to k.
    pattern = "%" + re.sub("([%_~])", r"~\1", written) + "%"
    is_not_ascii = f"length({said}) < length(CAST({said} AS BLOB))"
    return f"({said} LIKE ? ESCAPE '~' OR ({is_not_ascii} AND contains({said})))", [pattern]


def _match(row: Row, folded: str) -> MessageMatch | None:
    session_id, agent_id, message_id, created_at, text = row
    message = decode(text, "message", message_id, "of agent", agent_id, "in session", session_id)
    for words in (words for part in parts(message) for words in part.words):
        if folded in words.casefold():
            role = str(message.get("role", ""))
            return MessageMatch(session_id, agent_id, message_id, role, created_at, _snippet(words, folded))
    return None


def _snippet(said: str, folded: str) -> str:
    at = _start(said, folded)
    first, last = max(0, at - _AROUND), at + len(folded) + _AROUND
    snippet = " ".join(said[first:last].split())
    return f"{'…' if first else ''}{snippet}{'…' if last < len(said) else ''}"


def _start(said: str, folded: str) -> int:
    """Return where in a text the folded one begins; folding can change the length of what comes before it."""
    at = said.casefold().index(folded)
    if len(said.casefold()) == len(said):
        return at
    length = 0
    for index, character in enumerate(said):
        if length >= at:
            return index
        length += len(character.casefold())
    return len(said)
