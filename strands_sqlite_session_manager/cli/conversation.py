"""A session as a conversation to read."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..database.database import Database, Row
from ..database.identifiers import validate_id
from ..database.values import UnreadableError, decode
from ..sessions.listing import END_OF_TIME, check_range
from ..sessions.text import Part, parts
from .layout import cut, space, width, wrap
from .output import local_time, print_json, safe, safe_block, safe_lines, style


@dataclass(frozen=True)
class Said:
    """One message, as it is shown."""

    agent_id: str
    message_id: int | None  # None: it is shown as an agent holds it, and may not be in the history
    created_at: str | None
    is_redacted: bool
    text: str  # the message's JSON
    message: Any

    @property
    def role(self) -> str:
        """Who said it."""
        return str(self.message.get("role", "?")) if isinstance(self.message, dict) else "?"


def read_conversation(
    database: Database,
    session_id: str,
    agent_id: str | None = None,
    limit: int | None = None,
    after: str = "",
    before: str = END_OF_TIME,
) -> Iterator[Said]:
    """Return the last messages of a session, or of one of its agents, that were stored between two times.

    Each agent's messages are in the order of their ids. Messages of several agents are interleaved as they were
    stored. All are read before the first one is returned, so that a slow reader does not keep a transaction open.

    Raises:
        ValueError: If the id of the agent is not allowed, or the limit is negative.
        SessionNotFoundException: If the session has no such agent.
        SessionException: If the file cannot be read.
    """
    if agent_id is not None and not database.read(
        "SELECT 1 FROM agents WHERE session_id = ? AND agent_id = ?", (session_id, validate_id(agent_id, "agent"))
    ):
        raise errors.SessionNotFoundException(f"Agent {agent_id} in session {session_id} does not exist")
    limit, _ = check_range(limit)
    rows = database.read(
        # A message's place is after every message of its agent with a lower id, whichever was stored first.
        """
        SELECT agent_id, message_id, created_at, redact_message IS NOT NULL, coalesce(redact_message, message)
        FROM (
            SELECT sequence, max(sequence) OVER (PARTITION BY agent_id ORDER BY message_id) AS place
            FROM messages
            WHERE session_id = ? AND agent_id = coalesce(?, agent_id) AND created_at > ? AND created_at < ?
            ORDER BY place DESC, message_id DESC
            LIMIT ?
        )
        JOIN messages USING (sequence)
        ORDER BY place, message_id
        """,
        (session_id, agent_id, after, before, limit),
    )
    yield from _said(database, session_id, rows)


def last_sequence(database: Database) -> int:
    """Return the place of the last stored message of the whole file."""
    ((last,),) = database.read("SELECT coalesce(max(sequence), 0) FROM messages")
    return int(last)


def read_added(database: Database, session_id: str, agent_id: str | None, after: int, through: int) -> Iterator[Said]:
    """Return the messages of a session that were stored after one place, up to another."""
    rows = database.read(
        "SELECT agent_id, message_id, created_at, redact_message IS NOT NULL, coalesce(redact_message, message)"
        " FROM messages WHERE sequence > ? AND sequence <= ? AND session_id = ? AND agent_id = coalesce(?, agent_id)"
        " ORDER BY sequence",
        (after, through, session_id, agent_id),
    )
    yield from _said(database, session_id, rows)


def _said(database: Database, session_id: str, rows: Sequence[Row]) -> Iterator[Said]:
    for agent, message_id, created_at, is_redacted, text in rows:
        try:
            message = decode(text, "message", message_id, "of agent", agent, "in session", session_id)
        except UnreadableError as error:
            raise database.failure(error) from error
        yield Said(agent, message_id, created_at, bool(is_redacted), text, message)


def count_messages(database: Database, session_id: str, agent_id: str | None, after: str, before: str) -> int:
    """Return how many messages `read_conversation` returns without a limit."""
    ((count,),) = database.read(
        "SELECT count(*) FROM messages"
        " WHERE session_id = ? AND agent_id = coalesce(?, agent_id) AND created_at > ? AND created_at < ?",
        (session_id, agent_id, after, before),
    )
    return int(count)


def print_text(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message for people, in full."""
    _print_heading(said, with_agent, with_time=True)
    for line in text_lines(said.message):
        print(f"  {line}")
    print()


def print_folded(conversation: Sequence[Said], with_agent: bool, *, with_times: bool) -> None:
    """Print messages for people, with each tool call and its result on one line."""
    columns = space()
    results, answered = _pair(conversation)
    for index, said in enumerate(conversation):
        lines: list[str] = []
        is_left_out = False
        for number, part in enumerate(parts(said.message)):
            if (index, number) in answered:
                is_left_out = True
            elif part.kind == "call":
                lines.append(_call(part, results.get((index, number)), columns))
            elif part.kind == "result":
                mark, text = _mark(part), cut(_on_one_line(part.text), columns and columns - 4)
                lines.append(f"{mark} {text}")
            else:
                wrapped = (piece for line in safe_lines(part.text) for piece in wrap(line, columns and columns - 2))
                lines += [style(line, "dim") if part.kind == "reasoning" else line for line in wrapped]
        if lines or not is_left_out:
            _print_heading(said, with_agent, with_time=with_times)
            for line in lines:
                print(f"  {line}")
            print()


_Place = tuple[int, int]
"""The number of a message in a conversation, and of a part in the message."""


def _pair(conversation: Sequence[Said]) -> tuple[dict[_Place, Part], set[_Place]]:
    """Return the results of tool calls by the places of the calls, and the places of these results."""
    results: dict[_Place, Part] = {}
    answered: set[_Place] = set()
    waiting: dict[tuple[str, str], _Place] = {}
    for index, said in enumerate(conversation):
        for number, part in enumerate(parts(said.message)):
            if part.kind == "call":
                waiting[said.agent_id, part.call_id] = (index, number)
            elif part.kind == "result" and (said.agent_id, part.call_id) in waiting:
                results[waiting.pop((said.agent_id, part.call_id))] = part
                answered.add((index, number))
    return results, answered


def _call(call: Part, result: Part | None, columns: int | None) -> str:
    called, returned = _on_one_line(f"{call.name} {call.text}"), _on_one_line(result.text) if result else ""
    if columns is not None:
        room = columns - len("  → ") - (len("  ← ") if result else 0)
        called = cut(called, max(room - width(returned), room // 2))
        returned = cut(returned, room - width(called))
    line = f"{style('→', 'yellow')} {called}"
    return f"{line}  {_mark(result)} {returned}".rstrip() if result else line


def _on_one_line(text: str) -> str:
    return safe(" ".join(text.split()))


def _print_heading(said: Said, with_agent: bool, *, with_time: bool) -> None:
    agent = f" ({safe(said.agent_id)})" if with_agent else ""
    redacted = style("  [redacted]", "red") if said.is_redacted else ""
    role = style(safe(said.role) + agent, "cyan" if said.role == "user" else "green")
    place = "" if said.message_id is None else f"#{said.message_id}"
    if with_time and said.created_at is not None:
        place += f"  {local_time(said.created_at)}"
    print(f"{role}  {style(place, 'dim')}{redacted}".rstrip())


def text_lines(message: Any) -> list[str]:
    """Return what a message says, as lines."""
    return [line for part in parts(message) for line in _TEXT[part.kind](part)]


def print_markdown(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message as Markdown."""
    agent = f" ({safe(said.agent_id)})" if with_agent else ""
    redacted = " [redacted]" if said.is_redacted else ""
    place = "" if said.created_at is None else f"*{local_time(said.created_at)}, message {said.message_id}*\n\n"
    print(f"### {safe(said.role)}{agent}{redacted}\n\n{place}", end="")
    for part in parts(said.message):
        if part.kind == "call":
            print(f"Calls `{safe(part.name)}`:\n\n```json\n{safe(part.text)}\n```\n")
        elif part.kind == "result":
            print(f"Result ({safe(part.name)}):\n\n````\n{safe_block(part.text)}\n````\n")
        else:
            print(safe_block(part.text) + "\n")


def print_line(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message as a line of JSON."""
    print_json(
        {
            "session_id": session_id,
            "agent_id": said.agent_id,
            "message_id": said.message_id,
            "created_at": said.created_at,
            "redacted": said.is_redacted,
            "message": json.loads(said.text),
        }
    )


FORMATS: dict[str, Callable[[str, Said, bool], None]] = {
    "text": print_text,
    "markdown": print_markdown,
    "json": print_line,
}


def _mark(result: Part) -> str:
    return style("✗", "red") if result.name == "error" else style("←", "dim")


def _text_of_result(part: Part) -> list[str]:
    first, *others = safe_lines(part.text) or [""]
    return [f"{_mark(part)} {first}", *(f"  {line}" for line in others)]


_TEXT: dict[str, Callable[[Part], list[str]]] = {
    "text": lambda part: safe_lines(part.text),
    "reasoning": lambda part: [style(line, "dim") for line in safe_lines(part.text)],
    "call": lambda part: [f"{style('→', 'yellow')} {safe(part.name)} {safe(part.text)}"],
    "result": _text_of_result,
    "attachment": lambda part: safe_lines(part.text),
}
