"""Searching what was said, in any script, without an index: appending a message costs nothing more."""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..database.database import Database, Row
from ..database.identifiers import validate_id
from ..database.values import UnreadableError, decode, encode
from .listing import END_OF_TIME, check_range
from .metadata import check_metadata, condition
from .orchestrators import flat, orchestrator
from .text import parts

_LONGEST_PATTERN = 10_000  # characters; SQLite takes no more than 50,000 bytes
_AROUND = 60  # characters of a snippet on each side of the match


@dataclass(frozen=True)
class MessageMatch:
    """A message in which a text was found.

    Attributes:
        session_id: The session's id.
        agent_id: The agent's id.
        message_id: The message's id. None for the answer of an orchestrator's node, or for an orchestrator's task,
            which are not messages of their own. `agent_id` is then the id of the node or the orchestrator.
        role: Who said it: `user` or `assistant`.
        created_at: When, ISO 8601.
        snippet: The first place where the text was found, with some text around it, on one line.
    """

    session_id: str
    agent_id: str
    message_id: int | None
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
    between: tuple[str, str] = ("", END_OF_TIME),
) -> list[MessageMatch]:
    """Return the messages that contain a text; see `SQLiteSessionRepository.search_messages`.

    `between` also limits when the messages were stored: two times, both exclusive, as the file holds times.
    """
    if not isinstance(text, str):
        raise TypeError(f"text=<{type(text).__name__}> | must be a string")
    if not text:
        raise ValueError("text | cannot be empty")
    for name, value in (("session", session_id), ("agent", agent_id)):
        if value is not None:
            validate_id(value, name)
    filter_ = check_metadata(metadata)
    clauses, parameters = _condition("messages", filter_, session_id=session_id, agent_id=agent_id)
    limit, _ = check_range(limit)
    folded = text.casefold()

    def search(connection: sqlite3.Connection) -> list[MessageMatch]:
        said, said_parameters = _contains(connection, text, "coalesce(redact_message, message)")
        found: list[MessageMatch] = []
        if limit == 0:
            return found
        of_nodes = [
            match
            for match in _matches_of_nodes(connection, text, filter_, session_id)
            if (agent_id is None or match.agent_id == agent_id) and between[0] < match.created_at < between[1]
        ]
        for row in connection.execute(
            "SELECT session_id, agent_id, message_id, created_at, coalesce(redact_message, message) FROM messages"
            f" WHERE created_at > ? AND created_at < ? AND {said}{clauses} ORDER BY sequence DESC",
            (*between, *said_parameters, *parameters),
        ):
            match = _match(row, folded)
            if match is not None:
                while of_nodes and str(of_nodes[0].created_at) > str(match.created_at):
                    found.append(of_nodes.pop(0))
                found.append(match)
                if len(found) >= limit:
                    break
        found = [*found, *of_nodes][:limit]
        if not all(isinstance(id_, str) for match in found for id_ in (match.session_id, match.agent_id)):
            raise UnreadableError("a session or an agent whose text was found has an id that is not text")
        return found

    return database.snapshot(search)


def _condition(table: str, metadata: Mapping[str, str | None], **ids: str | None) -> tuple[str, list[str | None]]:
    clauses, parameters = condition(metadata, table)
    equal = {column: value for column, value in ids.items() if value is not None}
    return "".join(f" AND {column} = ?" for column in equal) + clauses, [*equal.values(), *parameters]


def _matches_of_nodes(
    connection: sqlite3.Connection, text: str, metadata: Mapping[str, str | None], session_id: str | None
) -> list[MessageMatch]:
    """Return the tasks of orchestrators, and the last answers of their nodes, that contain a text; newest first."""
    said, said_parameters = _contains(connection, text, "state")
    clauses, parameters = _condition("multi_agents", metadata, session_id=session_id)
    found = []
    for in_session, multi_agent_id, state, updated_at in connection.execute(
        "SELECT session_id, multi_agent_id, state, updated_at FROM multi_agents"
        f" WHERE {said}{clauses} ORDER BY updated_at DESC, session_id, multi_agent_id",
        (*said_parameters, *parameters),
    ).fetchall():
        asked = orchestrator(in_session, multi_agent_id, state, updated_at)
        answered = [(node.node_id, "assistant", _words(node.message, node.error)) for node in flat(asked.nodes)]
        for agent_id, role, words in (*reversed(answered), (multi_agent_id, "user", _words(asked.task))):
            snippet = _found(words, text.casefold())
            if snippet is not None:
                found.append(MessageMatch(in_session, agent_id, None, role, updated_at, snippet))
    return found


def _words(message: Any, *others: str | None) -> list[str]:
    return [*(words for part in parts(message) for words in part.words), *filter(None, others)]


def _contains(connection: sqlite3.Connection, text: str, said: str) -> tuple[str, list[str]]:
    """Return a condition on the JSON of rows that may contain a text, and its parameters.

    It can match too much: in the JSON, the text can also be a key.
    """
    written = encode(text, "text")[1:-1].casefold()
    connection.create_function("contains", 1, lambda json: written in json.casefold(), deterministic=True)
    if not written.isascii() or len(written) >= _LONGEST_PATTERN:
        return f"contains({said})", []
    # LIKE is faster, but folds only ASCII letters. Other characters can fold to these: the Kelvin sign folds to k.
    pattern = "%" + re.sub("([%_~])", r"~\1", written) + "%"
    is_not_ascii = f"length({said}) < length(CAST({said} AS BLOB))"
    return f"({said} LIKE ? ESCAPE '~' OR ({is_not_ascii} AND contains({said})))", [pattern]


def _match(row: Row, folded: str) -> MessageMatch | None:
    session_id, agent_id, message_id, created_at, text = row
    message = decode(text, "message", message_id, "of agent", agent_id, "in session", session_id)
    snippet = _found(_words(message), folded)
    if snippet is None:
        return None
    return MessageMatch(session_id, agent_id, message_id, str(message.get("role", "")), created_at, snippet)


def _found(said: Iterable[str], folded: str) -> str | None:
    return next((_snippet(words, folded) for words in said if folded in words.casefold()), None)


def _snippet(said: str, folded: str) -> str:
    at = _start(said, folded)
    first, last = max(0, at - _AROUND), at + len(folded) + _AROUND
    snippet = " ".join(said[first:last].split())
    return f"{'…' if first else ''}{snippet}{'…' if last < len(said) else ''}"


def _start(said: str, folded: str) -> int:
    """Return where in a text the folded text begins; folding can change the length of what comes before it."""
    at = said.casefold().index(folded)
    if len(said.casefold()) == len(said):
        return at
    length = 0
    for index, character in enumerate(said):
        if length >= at:
            return index
        length += len(character.casefold())
    return len(said)
