"""A session as a conversation to read."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..codec import decode
from ..content import Part, parts
from .output import local_time, print_json, safe, safe_lines, style


@dataclass(frozen=True)
class Said:
    """One message, as it is to be shown."""

    agent_id: str
    message_id: int
    created_at: str
    redacted: bool
    text: str  # the message's JSON
    message: Any

    @property
    def role(self) -> str:
        """Who said it."""
        return str(self.message.get("role", "?")) if isinstance(self.message, dict) else "?"


def conversation(connection: sqlite3.Connection, session_id: str, agent_id: str | None, limit: int) -> Iterator[Said]:
    """Return the last messages of a session, or of one agent, in the order of their time."""
    rows = connection.execute(
        """
        SELECT agent_id, message_id, created_at, redact_message IS NOT NULL, coalesce(redact_message, message)
        FROM (
            SELECT *, rowid AS row
            FROM messages
            WHERE session_id = ? AND agent_id = coalesce(?, agent_id)
            ORDER BY created_at DESC, row DESC
            LIMIT ?
        )
        ORDER BY created_at, row
        """,
        (session_id, agent_id, limit),
    )
    with closing(rows):
        for agent, message_id, created_at, redacted, text in rows:
            message = decode(text, "message", message_id, "of agent", agent, "in session", session_id)
            yield Said(agent, message_id, created_at, bool(redacted), text, message)


def print_text(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message for people."""
    agent = f" ({safe(said.agent_id)})" if with_agent else ""
    redacted = style("  [redacted]", "red") if said.redacted else ""
    role = style(safe(said.role) + agent, "cyan" if said.role == "user" else "green")
    print(f"{role}  {style(f'#{said.message_id}  {local_time(said.created_at)}', 'dim')}{redacted}")
    for part in parts(said.message):
        for line in _TEXT[part.kind](part):
            print(f"  {line}")
    print()


def print_markdown(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message as Markdown."""
    agent = f" ({safe(said.agent_id)})" if with_agent else ""
    redacted = " [redacted]" if said.redacted else ""
    print(f"### {safe(said.role)}{agent}{redacted}\n\n*{local_time(said.created_at)}, message {said.message_id}*\n")
    for part in parts(said.message):
        if part.kind == "call":
            print(f"Calls `{safe(part.name)}`:\n\n```json\n{safe(part.text)}\n```\n")
        elif part.kind == "result":
            body = "\n".join(safe_lines(part.text))
            print(f"Result ({safe(part.name)}):\n\n````\n{body}\n````\n")
        else:
            print("\n".join(safe_lines(part.text)) + "\n")


def print_line(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message as a line of JSON."""
    print_json(
        {
            "session_id": session_id,
            "agent_id": said.agent_id,
            "message_id": said.message_id,
            "created_at": said.created_at,
            "redacted": said.redacted,
            "message": json.loads(said.text),
        }
    )


FORMATS: dict[str, Callable[[str, Said, bool], None]] = {
    "text": print_text,
    "markdown": print_markdown,
    "json": print_line,
}


def _text_of_result(part: Part) -> list[str]:
    first, *others = safe_lines(part.text) or [""]
    mark = style("✗" if part.name == "error" else "←", "red" if part.name == "error" else "dim")
    return [f"{mark} {first}", *(f"  {line}" for line in others)]


_TEXT: dict[str, Callable[[Part], list[str]]] = {
    "text": lambda part: safe_lines(part.text),
    "reasoning": lambda part: [style(line, "dim") for line in safe_lines(part.text)],
    "call": lambda part: [f"{style('→', 'yellow')} {safe(part.name)} {safe(part.text)}"],
    "result": _text_of_result,
    "attachment": lambda part: safe_lines(part.text),
}
