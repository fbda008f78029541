"""Exact resume: a live agent, and how the database keeps up with it at the cost of what changed.

The log in `messages` only grows; `window.py` says how the file tells which of it the agent holds. A message
that is simply appended changes nothing but the log.

The database is written on the condition that it still is as this process knows it: that the agent's
`revision` is the known one, and that no message has come after the known ones.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from strands.types.content import Message
from strands.types.exceptions import SessionException

from .codec import decode, encode, exact_copy, timestamp, to_json
from .database import Database, Row
from .tables import found_in
from .window import Finder, Held, locate, read_window, write_window

COLUMNS = ("state", "conversation_manager_state", "internal_state")
_KEYS = "session_id = ? AND agent_id = ?"
_INSERT = "INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
# Without a row of the agent as it is known, the message has no id, which no row may be without.
_APPEND = f"{_INSERT} VALUES (?, ?, (SELECT ? FROM agents WHERE {_KEYS} AND revision = ?), ?, ?, ?)"


class StaleError(Exception):
    """The database is no longer as this process knows it; nothing was written."""


class LiveAgent:
    """One live agent, and what the database is known to hold of it.

    The methods take `messages`, the list that the agent holds, and `columns`, the values of `COLUMNS` as far
    as they may have changed. Each writes one transaction, after which a new agent would resume to exactly
    these. They raise `StaleError` when another writer was there, and `SessionException` when a value has no
    exact form in JSON or SQLite fails; then nothing was written.
    """

    def __init__(self, database: Database, session_id: str, agent_id: str) -> None:
        self.lock = threading.RLock()  # held by the caller while it reads the agent and writes what it read
        self._database = database
        self._keys = (session_id, agent_id)
        self._revision = 0
        self._next_id = 0
        self._columns: dict[str, Any] = {}
        self._window: str | None = None
        self._held = Held()
        self._owed: list[tuple[str, Row]] = []  # what the next write must make up for: a redaction that failed
        self.leaves_traces = False  # of what was redacted, until the caller has erased them
        self.traces_are_told = False  # whether an exception has said so

    def create(self, messages: list[Message], columns: Mapping[str, Any]) -> bool:
        """Store a new agent with the messages it already holds.

        Returns:
            False if the agent exists already; then nothing was written.

        Raises:
            SessionException: If there is no such session.
        """
        held = Held()
        for index, message in enumerate(messages):
            held.add(message, exact_copy(message, f"messages[{index}]"), index)
        stored = {name: exact_copy(columns[name], name) for name in COLUMNS}
        window = write_window(held.sources, len(messages))
        now = timestamp()
        with self._database.transaction() as connection:
            if connection.execute(f"SELECT 1 FROM agents WHERE {_KEYS}", self._keys).fetchone():
                return False
            try:
                connection.execute(
                    "INSERT INTO agents (session_id, agent_id, created_at, updated_at, live_messages,"
                    f" {', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*self._keys, now, now, window, *(to_json(stored[name], name) for name in COLUMNS)),
                )
            except connection.IntegrityError as error:
                raise SessionException(f"Session {self._keys[0]} does not exist") from error
            connection.executemany(
                _INSERT + " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (*self._keys, index, now, now, to_json(copy, f"messages[{index}]"))
                    for index, copy in enumerate(held.copies)
                ),
            )
            created = connection.execute(f"SELECT revision FROM agents WHERE {_KEYS}", self._keys).fetchone()
            if created is None:  # somebody else's trigger
                raise SessionException(f"Agent {self._keys[1]} in session {self._keys[0]} does not exist")
            (self._revision,) = created
        self._next_id, self._columns, self._window, self._held = len(messages), stored, window, held
        return True

    def load(self, connection: sqlite3.Connection) -> dict[str, Any] | None:
        """Read the agent's columns, or None where there is no such agent.

        Args:
            connection: A transaction, so that this and the messages are of one moment.
        """
        row = connection.execute(
            f"SELECT stored.revision, (SELECT max(message_id) FROM messages WHERE {_KEYS}), stored.live_messages,"
            f" {', '.join(f'stored.{name}' for name in COLUMNS)} FROM {found_in('agents')}"
            " WHERE found.session_id = ? AND found.agent_id = ?",
            (*self._keys, *self._keys),
        ).fetchone()
        if row is None:
            return None
        self._revision, last_id, self._window, *texts = row
        self._next_id = 0 if last_id is None else last_id + 1
        columns = {name: decode(text, *self._where(name)) for name, text in zip(COLUMNS, texts, strict=True)}
        self._columns = {name: exact_copy(value, name) for name, value in columns.items()}
        return columns

    def load_messages(self, connection: sqlite3.Connection, prepended: list[Message], offset: int) -> list[Message]:
        """Read the messages that the agent held when it was last written.

        Where that is not known, because the agent comes from elsewhere, they are derived as upstream does.

        Args:
            connection: The transaction in which the columns were loaded.
            prepended: By upstream's rule, messages that the conversation manager puts in front.
            offset: By upstream's rule, how many messages of the log it has removed.
        """
        self._held = Held()
        if self._window is None:
            for message in prepended:
                copy = exact_copy(message, "conversation_manager_state")
                self._held.add(message, copy, to_json(copy, "conversation_manager_state"))
            self._hold_rows(
                connection,
                "coalesce(stored.redact_message, stored.message)",
                "ORDER BY found.message_id LIMIT -1 OFFSET ?",
                (offset,),
            )
        else:
            content = "coalesce(stored.live_message, stored.redact_message, stored.message)"
            for part in read_window(self._window, *self._where("live_messages")):
                if not isinstance(part, list):
                    # A summary is the conversation manager's own object, as it was before.
                    message = next((own for own in prepended if own == part), part)
                    copy = exact_copy(message, "live_messages")
                    self._held.add(message, copy, to_json(copy, "live_messages"))
                elif part[1] is None:
                    self._hold_rows(
                        connection, content, "AND found.message_id >= ? ORDER BY found.message_id", part[:1]
                    )
                else:
                    between = "AND found.message_id BETWEEN ? AND ? ORDER BY found.message_id"
                    self._hold_rows(connection, content, between, part)
        return list(self._held.objects)

    def append(self, message: Message, messages: list[Message], columns: Mapping[str, Any]) -> None:
        """Add a message to the log, and keep up with whatever else has changed."""
        copy = exact_copy(message, "message")
        now = timestamp()
        row = (*self._keys, self._next_id, now, now, to_json(copy, "message"))
        added = (message, copy)
        if not self._owed and self._follows(messages, added) and not self._changes(columns):
            self._append_row(row)
            self._held.add(message, copy, self._next_id)
            self._next_id += 1
        else:
            self._write(messages, columns, [(_INSERT + " VALUES (?, ?, ?, ?, ?, ?)", row)], added)

    def save(self, messages: list[Message], columns: Mapping[str, Any]) -> None:
        """Keep up with what has changed; write nothing if nothing has."""
        if self._owed or self._changes(columns) or not self._follows(messages):
            self._write(messages, columns)

    def complete(self, message: Message, messages: list[Message], columns: Mapping[str, Any]) -> None:
        """Replace a message in the log: what was there was a placeholder for what is said now."""
        index = Finder(self._held).find(message)
        source = None if index is None else self._held.sources[index]
        if index is not None and isinstance(source, int):
            held = replace(self._held, objects=list(self._held.objects))
            held.objects[index] = message
            self._rewrite(held, message, {source}, False, messages, columns)
        else:
            self.save(messages, columns)

    def redact(self, message: Message, messages: list[Message], columns: Mapping[str, Any]) -> None:
        """Put a message in the place of what it was before in the log, which mostly is the latest message.

        It is so everywhere where the agent holds the same object: a prompt that was tried again is logged twice.

        Raises:
            SessionException: If the log is empty.
        """
        if self._next_id == 0:
            raise SessionException("No message to redact.")
        self.leaves_traces = True
        latest = self._next_id - 1
        rows = {source for own, source in self._held.places() if own is message and isinstance(source, int)}
        if not rows and not self._holds_beside(message, messages, latest):
            rows = {latest}
        self._rewrite(self._held, message, rows, True, messages, columns)

    def _holds_beside(self, message: Message, messages: list[Message], row_id: int) -> bool:
        """Tell whether the agent holds a message, and beside it, as it was, what is in a row of the log.

        Then the message cannot be what the row has become: it never was in the log.
        """
        others = [other for other in messages if other is not message]
        return len(others) < len(messages) and any(
            source == row_id and (own is other or copy == other)
            for (own, source), copy in zip(self._held.places(), self._held.copies, strict=True)
            for other in others
        )

    def _follows(self, messages: list[Message], added: tuple[Message, Message] | None = None) -> bool:
        """Tell whether the agent holds what it held before, with nothing but the added message behind it.

        Lists and dicts are compared by C code that passes over strings it knows to be the same object:
        some 5 µs for a window of 40 messages.
        """
        copies = self._held.copies
        if self._window is None or len(messages) != len(copies) + (added is not None):
            return False
        if added is None:
            return messages == copies
        return messages[-1] is added[0] and messages[:-1] == copies

    def _changes(self, columns: Mapping[str, Any]) -> list[str]:
        """Return the names of the columns that differ from what is stored.

        To Python, 1 and True are equal. Of a state, which is the user's, that is told apart.
        """
        return [
            name
            for name, value in columns.items()
            if value != self._columns[name]
            or (name == "state" and encode(value, name) != to_json(self._columns[name], name))
        ]

    def _append_row(self, row: Row) -> None:
        """Add a row to the log, if the database still is as known; a second writer's row would have the same id."""
        session_id, agent_id, message_id, *others = row
        parameters = (session_id, agent_id, message_id, session_id, agent_id, self._revision, *others)
        self._database.write(_APPEND, parameters, lambda error: StaleError())

    def _rewrite(
        self,
        held: Held,
        message: Message,
        rows: set[int],
        redacting: bool,
        messages: list[Message],
        columns: Mapping[str, Any],
    ) -> None:
        """Replace rows of the log by a message, which may be among those that the agent holds."""
        copy = exact_copy(message, "message")
        text = to_json(copy, "message")
        # Other messages may have been stored in these rows as well: if the agent holds the new one, they are its
        # own affair, and are stored again. Otherwise the agent was left out, and what it holds stays out of the file.
        is_held = any(own is message for own in messages)
        copies = [
            copy if source in rows and is_held else old for old, source in zip(held.copies, held.sources, strict=True)
        ]
        now = timestamp()
        statements: list[tuple[str, Row]] = [
            (
                "UPDATE messages SET updated_at = ?, message = ?, redact_message = coalesce(?, redact_message),"
                f" live_message = NULL WHERE {_KEYS} AND message_id = ?",
                (now, text, text if redacting else None, *self._keys, row_id),
            )
            for row_id in sorted(rows)
        ]
        self._owed += statements
        self._write(messages, columns, held=replace(held, copies=copies))

    def _write(
        self,
        messages: list[Message],
        columns: Mapping[str, Any],
        statements: Sequence[tuple[str, Row]] = (),
        added: tuple[Message, Message] | None = None,
        held: Held | None = None,
    ) -> None:
        """Write everything that differs from what is stored, in one transaction with the statements."""
        changed = {name: exact_copy(columns[name], name) for name in self._changes(columns)}
        next_id = self._next_id if added is None else self._next_id + 1
        if held is None and self._follows(messages, added):
            now_held, edited, window = self._held, dict[int, str](), self._window
        else:
            now_held, edited = locate(self._held if held is None else held, messages, added, self._next_id)
            window = write_window(now_held.sources, next_id)
        with self._database.transaction() as connection:
            guarded = connection.execute(
                "UPDATE agents SET revision = revision + 1, updated_at = ?, live_messages = ?,"
                f" {', '.join(f'{name} = coalesce(?, {name})' for name in COLUMNS)}"
                f" WHERE {_KEYS} AND revision = ?"
                f" AND NOT EXISTS (SELECT 1 FROM messages WHERE {_KEYS} AND message_id >= ?)",
                (
                    timestamp(),
                    window,
                    *(to_json(changed[name], name) if name in changed else None for name in COLUMNS),
                    *(*self._keys, self._revision),
                    *(*self._keys, self._next_id),
                ),
            )
            if not guarded.rowcount:
                raise StaleError
            for statement, parameters in (*self._owed, *statements):
                connection.execute(statement, parameters)
            connection.executemany(
                f"UPDATE messages SET live_message = ? WHERE {_KEYS} AND message_id = ?",
                ((text, *self._keys, row_id) for row_id, text in edited.items()),
            )
        self._owed = []
        if now_held is self._held and added is not None:
            now_held.add(*added, self._next_id)
        self._revision += 1
        self._next_id, self._window, self._held = next_id, window, now_held
        self._columns.update(changed)

    def _hold_rows(
        self, connection: sqlite3.Connection, content: str, condition: str, parameters: Sequence[Any]
    ) -> None:
        rows = connection.execute(
            f"SELECT found.message_id, {content} FROM {found_in('messages')}"
            f" WHERE found.session_id = ? AND found.agent_id = ? {condition}",
            (*self._keys, *parameters),
        ).fetchall()  # a cursor that is left half-way by an error keeps its transaction open
        for row_id, text in rows:
            message = decode(text, *self._where(f"message {row_id}"))
            self._held.add(message, exact_copy(message, "message"), row_id)

    def _where(self, column: str) -> tuple[str, ...]:
        return column, "of agent", self._keys[1], "in session", self._keys[0]
