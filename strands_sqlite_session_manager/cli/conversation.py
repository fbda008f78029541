"""A session as a conversation to read."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..database.database import Database
from ..database.identifiers import validate_id
from ..database.values import UnreadableError, decode
from ..sessions.listing import check_range
from ..sessions.text import Part, parts
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
    database: Database, session_id: str, agent_id: str | None = None, limit: int | None = None
) -> Iterator[Said]:
    """Return the last messages of a session, or of one of its agents.

    Each agent's are in the order of their ids. Those of several agents alternate in the order in which they were
    stored. All are read before the first one is returned, so that a slow reader does not keep a transaction open.

    Raises:
        ValueError: If the id of the agent is not allowed, or the limit is negative.
        SessionNotFoundException: If the session has no such agent.
        SessionException: If the file cannot be read.
    """
    if agent_id is not None and not database.read(
        "SELECT 1 FROM agents WHERE session_id = ? AND agent_id = ?",
        (session_id, validate_id(agent_id, "agent")),
    ):
        raise errors.SessionNotFoundException(f"Agent {agent_id} in session {session_id} does not exist")
    limit, _ = check_range(limit)
    rows = database.read(
        # A message's place is behind every message of its agent with a lower id, whichever was stored first.
        """
        SELECT agent_id, message_id, created_at, redact_message IS NOT NULL, coalesce(redact_message, message)
        FROM (
            SELECT sequence, max(sequence) OVER (PARTITION BY agent_id ORDER BY message_id) AS place
            FROM messages
            WHERE session_id = ? AND agent_id = coalesce(?, agent_id)
            ORDER BY place DESC, message_id DESC
            LIMIT ?
        )
        JOIN messages USING (sequence)
        ORDER BY place, message_id
        """,
        (session_id, agent_id, limit),
    )
    for agent, message_id, created_at, is_redacted, text in rows:
        try:
            message = decode(text, "message", message_id, "of agent", agent, "in session", session_id)
        except UnreadableError as error:
            raise database.failure(error) from error
        yield Said(agent, message_id, created_at, bool(is_redacted), text, message)


def print_text(session_id: str, said: Said, with_agent: bool) -> None:
    """Print a message for people."""
    agent = f" ({safe(said.agent_id)})" if with_agent else ""
    redacted = style("  [redacted]", "red") if said.is_redacted else ""
    role = style(safe(said.role) + agent, "cyan" if said.role == "user" else "green")
    place = "" if said.created_at is None else f"#{said.message_id}  {local_time(said.created_at)}"
    print(f"{role}  {style(place, 'dim')}{redacted}".rstrip())
    for line in text_lines(said.message):
        print(f"  {line}")
    print()


def text_lines(message: Any) -> list[str]:
    """Return the lines of what a message says."""
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
