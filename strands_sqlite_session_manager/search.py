"""Searching what was said, in any script, without an index: nothing is added to the cost of a message."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from .codec import decode, encode
from .content import parts
from .database import MOST, Database, Row

_LONGEST_PATTERN = 10_000  # characters; SQLite takes no more than 50,000 bytes
_AROUND = 60  # characters of a snippet on each side of the match


@dataclass(frozen=True)
class MessageMatch:
    """A message in which a text was found.

    Attributes:
        session_id: Its session.
        agent_id: The agent.
        message_id: Its id.
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
    database: Database, text: str, *, session_id: str | None, agent_id: str | None, limit: int
) -> list[MessageMatch]:
    """Return the messages in which a text was said; see `SQLiteSessionRepository.search_messages`."""
    wanted = text.casefold()
    found: list[MessageMatch] = []
    with database.transaction(write=False) as connection:
        # Candidates are found in their JSON, where a text can also be the name of a key. Most of the time, the newest
        # ones are enough.
        for newest in (min(4 * limit, MOST), MOST):
            found.clear()
            with closing(_candidates(connection, text, session_id, agent_id, newest)) as rows:
                seen = 0
                for row in rows:
                    seen += 1
                    if len(found) == limit:
                        return found
                    found.extend(_matches(row, wanted))
            if len(found) == limit or seen < newest:
                return found
    return found


def _candidates(
    connection: sqlite3.Connection, text: str, session_id: str | None, agent_id: str | None, newest: int
) -> sqlite3.Cursor:
    clauses, parameters = ["TRUE"], list[str]()
    for column, value in (("session_id", session_id), ("agent_id", agent_id)):
        if value is not None:
            clauses.append(f"{column} = ?")
            parameters.append(value)
    said = "coalesce(redact_message, message)"
    written = encode(text, "text")[1:-1].casefold()
    connection.create_function("tells", 1, lambda json: written in json.casefold(), deterministic=True)
    clauses.append(f"tells({said})")
    if written.isascii() and len(written) < _LONGEST_PATTERN:
        # SQLite is faster, but knows the case of ASCII letters only; others can be equal to them, as Kelvin's sign is.
        clauses[-1] = f"({said} LIKE ? ESCAPE '~' OR (length({said}) < length(CAST({said} AS BLOB)) AND tells({said})))"
        parameters.append("%" + re.sub("([%_~])", r"~\1", written) + "%")
    return connection.execute(
        f"""
        SELECT session_id, agent_id, message_id, created_at, {said}
        FROM (
            SELECT rowid AS row, created_at AS moment
            FROM messages
            WHERE {" AND ".join(clauses)}
            ORDER BY moment DESC, row DESC
            LIMIT ?
        ) CROSS JOIN messages ON messages.rowid = row
        """,
        (*parameters, newest),
    )


def _matches(row: Row, wanted: str) -> Iterator[MessageMatch]:
    session_id, agent_id, message_id, created_at, text = row
    message = decode(text, "message", message_id, "of agent", agent_id, "in session", session_id)
    for words in (words for part in parts(message) for words in part.words):
        if wanted in words.casefold():
            role = str(message.get("role", ""))
            yield MessageMatch(session_id, agent_id, message_id, role, created_at, _snippet(words, wanted))
            return


def _snippet(said: str, wanted: str) -> str:
    # Folding can change the length of a text; what comes before the match is folded like the rest of it.
    at = len(said) - len(said[_start(said, wanted) :])
    first, last = max(0, at - _AROUND), at + len(wanted) + _AROUND
    snippet = " ".join(said[first:last].split())
    return f"{'…' if first else ''}{snippet}{'…' if last < len(said) else ''}"


def _start(said: str, wanted: str) -> int:
    """Return where in a text the folded one begins."""
    at = said.casefold().index(wanted)
    if len(said.casefold()) == len(said):
        return at
    length = 0
    for index, character in enumerate(said):
        if length >= at:
            return index
        length += len(character.casefold())
    return len(said)
