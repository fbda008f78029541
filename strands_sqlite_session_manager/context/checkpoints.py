"""Checkpoints: what an agent would have resumed with after any message, just before the next one was added.

`agents` and `messages` hold what an agent has now. What it had before is in `agent_versions` and `message_versions`,
which triggers fill (`database/schema.py`): a row for each message after which something changed, with the values until
then. So a checkpoint stores only what changed besides the history, and nothing if only messages were added.
"""

import sqlite3
from dataclasses import astuple, dataclass, replace
from typing import Any

from .. import errors
from ..database.values import decode, encode
from .ranges import read_context

_THIS = "session_id = ? AND agent_id = ?"
EDITED_FORM = "coalesce(edited_message, redact_message, message)"
"""The form in which an agent holds a message whose context is known."""
SAID_FORM = "coalesce(redact_message, message)"


@dataclass(frozen=True)
class Checkpoint:
    """What a session keeps of an agent besides its messages, at one checkpoint; JSON text, as in `agents`.

    Attributes:
        state: The agent's state.
        conversation_manager_state: The state of its conversation manager.
        internal_state: Its interrupts, and its model's state.
        context: Which messages it holds; None means unknown, because another store wrote it.
    """

    state: str
    conversation_manager_state: str
    internal_state: str
    context: str | None


_COLUMNS = tuple(Checkpoint.__dataclass_fields__)


def read_checkpoint(
    connection: sqlite3.Connection, session_id: str, agent_id: str, through_message: int | None = None
) -> Checkpoint:
    """Return what an agent would have resumed with just before a message was added.

    Args:
        connection: A snapshot or a transaction.
        session_id: The session's id.
        agent_id: The agent's id.
        through_message: The id of the last message before it; -1 is the empty beginning, and None is now.

    Raises:
        SessionNotFoundException: If there is no such agent or message.
        UnreadableError: If what is stored is malformed.
    """
    keys = (session_id, agent_id)
    row = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM agents WHERE {_THIS}", keys).fetchone()
    if row is None:
        raise errors.SessionNotFoundException(f"Agent {agent_id} in session {session_id} does not exist")
    if through_message is None:
        return Checkpoint(*row)
    (last,) = connection.execute(f"SELECT max(message_id) FROM messages WHERE {_THIS}", keys).fetchone()
    found = connection.execute(f"SELECT 1 FROM messages WHERE {_THIS} AND message_id = ?", (*keys, through_message))
    if through_message != -1 and not found.fetchone():
        raise errors.SessionNotFoundException(
            f"Message {through_message} of agent {agent_id} in session {session_id} does not exist"
        )
    state, conversation_manager_state, internal_state, context = (
        _version(connection, keys, column, through_message, now) for column, now in zip(_COLUMNS, row, strict=True)
    )
    checkpoint = Checkpoint(
        state, conversation_manager_state, internal_state, None if context in (None, "[]") else context
    )
    if checkpoint.context is None:
        is_now = last is None or through_message == last
        return checkpoint if is_now else _derived(connection, keys, checkpoint, through_message)
    parts = read_context(checkpoint.context, "context", "of agent", agent_id, "in session", session_id)
    return replace(checkpoint, context=encode(_cut(parts, through_message), "context"))


def write_checkpoint(connection: sqlite3.Connection, session_id: str, agent_id: str, checkpoint: Checkpoint) -> None:
    """Give an agent the values of a checkpoint, its own or another agent's."""
    connection.execute(
        f"UPDATE agents SET {', '.join(f'{column} = ?' for column in _COLUMNS)} WHERE {_THIS}",
        (*astuple(checkpoint), session_id, agent_id),
    )


def _version(
    connection: sqlite3.Connection, keys: tuple[str, str], column: str, through_message: int, now: str | None
) -> Any:
    row = connection.execute(
        f"SELECT {column} FROM agent_versions WHERE {_THIS} AND before_message_id > ? AND {column} IS NOT NULL"
        " ORDER BY before_message_id LIMIT 1",
        (*keys, through_message),
    ).fetchone()
    return now if row is None else row[0]


def form_at(through_message: int | None) -> tuple[str, tuple[int, ...]]:
    """Return SQL for the `edited_message` that a row of `messages` had at a checkpoint, and its parameters."""
    if through_message is None:
        return "edited_message", ()
    version = (
        "message_versions WHERE session_id = messages.session_id AND agent_id = messages.agent_id"
        " AND message_id = messages.message_id AND before_message_id > ?"
    )
    return (
        f"CASE WHEN EXISTS (SELECT 1 FROM {version})"
        f" THEN (SELECT edited_message FROM {version} ORDER BY before_message_id LIMIT 1) ELSE edited_message END",
        (through_message, through_message),
    )


def read_messages(
    connection: sqlite3.Connection,
    session_id: str,
    agent_id: str,
    checkpoint: Checkpoint,
    through_message: int | None = None,
) -> list[Any]:
    """Return the messages that an agent holds at a checkpoint.

    `read_checkpoint` returned the checkpoint, for the same arguments.

    Raises:
        UnreadableError: If what is stored is malformed.
    """
    keys = (session_id, agent_id)
    where = ("of agent", agent_id, "in session", session_id)
    if checkpoint.context is None:
        state = decode(checkpoint.conversation_manager_state, "conversation_manager_state", *where)
        parts = _parts_by_state(connection, keys, state)
        form, parameters = SAID_FORM, tuple[int, ...]()
    else:
        parts = read_context(checkpoint.context, "context", *where)
        edited, parameters = form_at(through_message)
        form = f"coalesce({edited}, redact_message, message)"
    messages = []
    for part in parts:
        if isinstance(part, dict):
            messages.append(part)
            continue
        for message_id, text in rows_of(connection, keys, part, form, parameters, through_message):
            messages.append(decode(text, "message", message_id, *where))
    return messages


def rows_of(
    connection: sqlite3.Connection,
    keys: tuple[str, str],
    part: list[Any],
    form: str,
    parameters: tuple[Any, ...] = (),
    through_message: int | None = None,
) -> list[tuple[int, str]]:
    """Return the ids of the messages of a range, and their JSON in the form that an SQL expression selects."""
    first, last = part
    bounds = [bound for bound in (last, through_message) if bound is not None]
    condition = "AND message_id >= ?" + (" AND message_id <= ?" if bounds else "")
    return connection.execute(
        f"SELECT message_id, {form} FROM messages WHERE {_THIS} {condition} ORDER BY message_id",
        (*parameters, *keys, first, *([min(bounds)] if bounds else [])),
    ).fetchall()


def parts_by_upstreams_rule(
    connection: sqlite3.Connection, keys: tuple[str, str], prepended: list[Any], removed: int
) -> list[Any]:
    """Return what an agent from another store holds.

    Args:
        connection: A snapshot or a transaction.
        keys: The ids of the session and the agent.
        prepended: What its conversation manager puts in front, such as a summary.
        removed: How many messages its conversation manager has removed from the history's beginning.
    """
    first = connection.execute(
        f"SELECT message_id FROM messages WHERE {_THIS} ORDER BY message_id LIMIT 1 OFFSET ?", (*keys, removed)
    ).fetchone()
    return [*prepended, *([[*first, None]] if first else [])]


def _parts_by_state(connection: sqlite3.Connection, keys: tuple[str, str], state: Any) -> list[Any]:
    """Do the same, given the state of one of Strands' own conversation managers."""
    state = state if isinstance(state, dict) else {}
    summary = state.get("summary_message")
    prepended = [summary] if isinstance(summary, dict) else []
    return parts_by_upstreams_rule(connection, keys, prepended, int(state.get("removed_message_count") or 0))


def _cut(parts: list[Any], through_message: int) -> list[Any]:
    """Return a context as it was when the history ended with a message."""
    kept: list[Any] = []
    for part in parts:
        if isinstance(part, dict):
            kept.append(part)
        elif part[1] is None:
            kept.append([min(part[0], through_message + 1), None])
        elif part[0] <= through_message:
            kept.append([part[0], min(part[1], through_message)])
    return kept


def _derived(
    connection: sqlite3.Connection, keys: tuple[str, str], checkpoint: Checkpoint, through_message: int
) -> Checkpoint:
    """Return a checkpoint from before the session came here, when no store kept what the agent held.

    It holds the history from its beginning, as if its conversation manager had removed nothing, or from its summary on
    if there is one before the message. Interrupts and what the model's server keeps belong to a later time.
    """
    where = ("of agent", keys[1], "in session", keys[0])
    state = decode(checkpoint.conversation_manager_state, "conversation_manager_state", *where)
    parts = _parts_by_state(connection, keys, state)
    if len(parts) < 2 or parts[1][0] > through_message:
        (first,) = connection.execute(f"SELECT min(message_id) FROM messages WHERE {_THIS}", keys).fetchone()
        parts = [[first, None]]
        if isinstance(state, dict):
            nothing_removed = {"removed_message_count": 0, "summary_message": None}
            state = {key: nothing_removed.get(key, value) for key, value in state.items()}
    return Checkpoint(checkpoint.state, encode(state, "conversation_manager_state"), "{}", encode(parts, "context"))
