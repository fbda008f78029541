"""Token usage of agents and orchestrators, by session, agent, day, month, role or a metadata key."""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..database.database import Database
from ..database.values import UnreadableError
from ..database.views import READABLE
from .listing import END_OF_TIME, moment
from .metadata import check_metadata

# SQL for the group of a row, for messages and for the states of orchestrators.
_KEYS = {
    "session": ("session_id", "session_id"),
    "agent": ("agent_id", "multi_agent_id"),
    "day": ("substr(created_at, 1, 10)", "substr(updated_at, 1, 10)"),
    "month": ("substr(created_at, 1, 7)", "substr(updated_at, 1, 7)"),
    "role": (f"json_extract({READABLE}, '$.role')", "'assistant'"),
}
_IN_TIME = ("day", "month")
_NUMBERS = (
    "usage.inputTokens",
    "usage.outputTokens",
    "usage.totalTokens",
    "usage.cacheReadInputTokens",
    "usage.cacheWriteInputTokens",
    "metrics.latencyMs",
)


# The JSON of a message that may be an answer with its usage; others are not parsed.
_ANSWER = """
        CASE
            WHEN coalesce(redact_message, message) GLOB '*"usage"*' AND json_valid(coalesce(redact_message, message))
            THEN coalesce(redact_message, message)
        END
"""


def _counts(table: str, *identity: str) -> str:
    """Return the SQL condition that a row is not a fork's copy.

    A copy has the identity of its original, including times. If the original session was deleted, the copy that was
    stored first counts.
    """
    same = " AND ".join(f"original.{column} = {table}.{column}" for column in identity)
    return f"""
        (
            {table}.session_id NOT IN (SELECT session_id FROM sessions WHERE forked_from IS NOT NULL)
            OR EXISTS (
                SELECT 1
                FROM sessions AS fork
                WHERE fork.session_id = {table}.session_id AND CASE
                    WHEN forked_from IN (SELECT session_id FROM sessions)
                    THEN NOT EXISTS (
                        SELECT 1 FROM {table} AS original WHERE original.session_id = forked_from AND {same}
                    )
                    ELSE {table}.rowid IN (SELECT min(rowid) FROM {table} GROUP BY {", ".join(identity)})
                END
            )
        )
"""


_MESSAGE_COUNTS = _counts("messages", "agent_id", "message_id", "created_at")
_STATE_COUNTS = _counts("multi_agents", "multi_agent_id", "created_at", "updated_at")


@dataclass(frozen=True)
class UsageSummary:
    """The usage of one session, agent, day or other group.

    Attributes:
        key: The session's id, the agent's id, the day, and so on. For a metadata key, its value, or None for sessions
            without it.
        sessions: The number of sessions.
        messages: The number of stored messages, including those of the user.
        answers: The number of answers that came with their usage: messages of the model, and nodes of orchestrators.
        input_tokens: Their input tokens.
        output_tokens: Their output tokens.
        total_tokens: Their tokens in total, as the model's provider counts them.
        cache_read_input_tokens: Input tokens that were read from a cache.
        cache_write_input_tokens: Input tokens that were written to a cache.
        latency_ms: The time that the model took, in milliseconds.
    """

    key: str | None
    sessions: int
    messages: int
    answers: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    latency_ms: int


def usage(
    database: Database,
    *,
    by: str = "session",
    metadata: Mapping[str, str] | None = None,
    after: datetime | str | None = None,
    before: datetime | str | None = None,
) -> list[UsageSummary]:
    """Return the usage of each group; see `SQLiteSessionRepository.usage`."""
    if not isinstance(by, str):
        raise TypeError(f"by=<{type(by).__name__}> | must be a string")
    filter_ = check_metadata(metadata)
    check_metadata({by: ""})
    between = (
        "" if after is None else moment(after, "after"),
        END_OF_TIME if before is None else moment(before, "before"),
    )

    def read(connection: sqlite3.Connection) -> list[UsageSummary]:
        key_of = {}
        if by not in _KEYS:
            query = "SELECT session_id, value FROM session_metadata WHERE key = ?"
            key_of = dict(connection.execute(query, (by,)).fetchall())
        spent: defaultdict[str | None, _Spent] = defaultdict(_Spent)
        for key, sessions, messages, numbers in (
            *_answers(connection, by, filter_, between),
            *_states(connection, by, filter_, between),
        ):
            if by not in _KEYS:
                key = key_of.get(key)
            spent[None if key is None else str(key)].add(sessions, messages, numbers)
        return [of_key.summary(key) for key, of_key in spent.items()]

    found = database.snapshot(read)
    if by in _IN_TIME:
        return sorted(found, key=lambda summary: str(summary.key))
    return sorted(found, key=lambda summary: (-summary.total_tokens, -summary.messages, str(summary.key)))


class _Spent:
    """Adds up a summary."""

    def __init__(self) -> None:
        self._sessions: set[str] = set()
        self._counts = [0] * (2 + len(_NUMBERS))

    def add(self, sessions: Sequence[str], messages: int, answers: Sequence[Sequence[Any]]) -> None:
        self._sessions.update(sessions)
        more = [messages, len(answers), *(_sum(column) for column in zip(*answers, strict=True))]
        for index, count in enumerate(more):
            self._counts[index] += count

    def summary(self, key: str | None) -> UsageSummary:
        return UsageSummary(key, len(self._sessions), *self._counts)


_Row = tuple[Any, Sequence[str], int, Sequence[Sequence[Any]]]
"""A key, its sessions, a number of messages, and the numbers of each answer."""


def _answers(
    connection: sqlite3.Connection, by: str, metadata: Mapping[str, str | None], between: tuple[str, str]
) -> Iterator[_Row]:
    condition, parameters = _in_sessions(metadata)
    paths = ", ".join(f"'$.metadata.{name}'" for name in _NUMBERS)
    # `LIMIT -1` limits nothing, but makes SQLite sort the few numbers of each message, not the messages themselves.
    rows = connection.execute(
        f"""
        SELECT key, json_group_array(DISTINCT session_id), count(*), group_concat(numbers)
        FROM (
            SELECT
                session_id,
                {_KEYS.get(by, _KEYS["session"])[0]} AS key,
                json_extract({_ANSWER}, {paths}) AS numbers
            FROM messages
            WHERE created_at > ? AND created_at < ? AND {_MESSAGE_COUNTS} {condition}
            LIMIT -1
        )
        GROUP BY key
        """,
        (*between, *parameters),
    )
    for key, sessions, messages, numbers in rows:
        answers = _parse(f"[{numbers}]", key) if numbers else []
        yield key, json.loads(sessions), messages, [answer for answer in answers if any(answer)]


def _states(
    connection: sqlite3.Connection, by: str, metadata: Mapping[str, str | None], between: tuple[str, str]
) -> Iterator[_Row]:
    condition, parameters = _in_sessions(metadata)
    paths = ", ".join(f"'$.accumulated_{name}'" for name in _NUMBERS)
    rows = connection.execute(
        f"""
        SELECT
            session_id,
            {_KEYS.get(by, _KEYS["session"])[1]},
            json_extract(CASE WHEN json_valid(state) THEN state END, '$.node_results', {paths})
        FROM multi_agents
        WHERE updated_at > ? AND updated_at < ? AND {_STATE_COUNTS} {condition}
        """,
        (*between, *parameters),
    )
    for session_id, key, found in rows:
        nodes, *numbers = _parse(found, key) if found else [None]
        if isinstance(nodes, dict) and nodes:
            if not any(numbers):  # older versions of Strands keep them for each node only
                numbers = [_sum([_number_of(node, name) for node in nodes.values()]) for name in _NUMBERS]
            yield key, [session_id], 0, [numbers, *([[0] * len(numbers)] * (len(nodes) - 1))]


def _number_of(node: Any, name: str) -> Any:
    group, _, name = f"accumulated_{name}".partition(".")
    numbers = node.get(group) if isinstance(node, dict) else None
    return numbers.get(name) if isinstance(numbers, dict) else None


def _in_sessions(metadata: Mapping[str, str | None]) -> tuple[str, list[str | None]]:
    """Return a condition on the sessions of rows that lets SQLite find them without reading others."""
    if not metadata:
        return "", []
    pairs = ", ".join(["(?, ?)"] * len(metadata))
    return (
        "AND session_id IN (SELECT session_id FROM session_metadata"
        f" WHERE (key, value) IN (VALUES {pairs}) GROUP BY session_id HAVING count(*) = {len(metadata)})",
        [text for pair in metadata.items() for text in pair],
    )


def _parse(text: str, key: Any) -> list[Any]:
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except ValueError:  # Python refuses integers of thousands of digits
        return json.loads(text, parse_int=float)  # type: ignore[no-any-return]
    except RecursionError as error:
        raise UnreadableError(f"the usage of {key} cannot be read: it is nested too deeply") from error


def _sum(values: Sequence[Any]) -> int:
    """Return the sum of the finite numbers among values."""
    try:
        return int(sum(filter(None, values)))
    except (TypeError, ValueError, OverflowError):
        return sum(int(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value))
