"""Exact resume: the file keeps up with a live agent, and an event writes only what changed.

The history in `messages` only grows; `ranges.py` explains how the file says which of its messages the agent holds.
Simply appending a message changes only the history.

Every write is guarded: it happens only if the agent's `revision` is the known one and no other message was added.
Otherwise another writer got there first.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from strands.types.content import Message

from .. import errors
from ..database.database import Database, Row
from ..database.identifiers import LAST_MESSAGE_ID
from ..database.tables import AGENTS, MESSAGES
from ..database.values import decode, encode, exact_copy, is_same, timestamp, to_json
from .account import Account, Change, StaleError, new_revision
from .checkpoints import EDITED_FORM, SAID_FORM, parts_by_upstreams_rule, rows_of
from .ranges import Finder, Held, Source, locate, read_context, write_context
from .strands_private import AgentColumns, StateVersion

COLUMNS = ("state", "conversation_manager_state", "internal_state")
_THIS = "session_id = ? AND agent_id = ?"

# If no agent has the known revision, `message_id` is NULL, and its constraint refuses the row.
_APPEND = MESSAGES.insert.replace(
    "VALUES (?, ?, ?,", f"VALUES (?, ?, (SELECT ? FROM agents WHERE {_THIS} AND revision = ?),"
)

StoreForm = Callable[[Message], Message]
"""Returns the form in which a message is stored, given a copy of it."""


class _Append(NamedTuple):
    """A message that becomes part of the history, in the form in which it was said."""

    message: Message
    copy: Message
    text: str
    created_at: str


class _Stored(NamedTuple):
    """What the file is known to hold of an agent.

    Attributes:
        revision: The agent's revision.
        next_id: The id of the history's next message.
        columns: Copies of the values of `COLUMNS`.
        held: The messages that the agent held at the last write.
        context: The column `context`.
        version: The version of the agent's state that is stored, or None if it is unknown.
        appends: Messages that should be in the history, but whose write failed or was interrupted.
        rewrites: Statements of redactions whose write failed or was interrupted.
    """

    revision: int
    next_id: int
    columns: Mapping[str, Any]
    held: Held
    context: str | None = None
    version: StateVersion | None = None
    appends: tuple[_Append, ...] = ()
    rewrites: tuple[tuple[str, Row], ...] = ()


class LiveAgent(Account):
    """One live agent, and what the file is known to hold of it.

    The methods that return a `Change` are for `store` and `store_async`. They take the `messages` that the agent holds,
    and its `columns`: after the change, a new agent would resume with exactly these. They raise `SessionException` if a
    value has no exact form in JSON.
    """

    def __init__(self, database: Database, session_id: str, agent_id: str, store_form: StoreForm | None = None) -> None:
        super().__init__(database)
        self._keys = (session_id, agent_id)
        self._where = ("of agent", agent_id, "in session", session_id)  # for errors
        self._store_form = store_form
        self._stored = _Stored(0, 0, {}, Held())

    def renew(self) -> None:
        """Start over in a forked child: at the fork, another thread may have been changing the agent's state."""
        super().renew()
        if self._stored.version is not None:
            self._stored = self._stored._replace(version=self._stored.version.in_child())

    # -- creating and loading --

    def create(self, messages: list[Message], columns: AgentColumns) -> bool:
        """Store a new agent with the messages that it already holds.

        Returns:
            False if the agent exists already; then nothing was written.

        Raises:
            SessionNotFoundException: If there is no such session.
        """
        held = Held()
        for index, message in enumerate(messages):
            held.add(message, exact_copy(message, f"messages[{index}]"), index)
        copies = {name: exact_copy(columns.values[name], name) for name in COLUMNS}
        context = write_context(held.sources, len(messages))
        after = _Stored(new_revision(), len(messages), copies, held, context, columns.version)
        now = timestamp()
        agent_row = (*self._keys, now, now, *(self._column(name, copies[name]) for name in COLUMNS), after.context)
        message_rows = [
            (*self._keys, index, now, now, self._encode(copy, f"messages[{index}]"), None, None)
            for index, copy in enumerate(held.copies)
        ]

        def insert(connection: sqlite3.Connection) -> bool:
            if connection.execute(f"SELECT 1 FROM agents WHERE {_THIS}", self._keys).fetchone():
                return False
            try:
                connection.execute(AGENTS.insert, agent_row)
            except connection.IntegrityError as error:
                errors.raise_violation(error, orphan=f"Session {self._keys[0]} does not exist")
            connection.executemany(MESSAGES.insert, message_rows)
            updated = connection.execute(f"UPDATE agents SET revision = ? WHERE {_THIS}", (after.revision, *self._keys))
            if not updated.rowcount:  # a trigger that another program added removed it
                raise errors.SessionNotFoundException(
                    f"Agent {self._keys[1]} in session {self._keys[0]} does not exist"
                )
            return True

        created = self._database.transaction(insert)
        if created:
            self._stored = after
        return created

    def load(self, connection: sqlite3.Connection) -> dict[str, Any] | None:
        """Read the agent's columns, or None if there is no such agent.

        Args:
            connection: A snapshot, so that the columns and the messages belong together.
        """
        row = connection.execute(
            f"SELECT revision, (SELECT max(message_id) FROM messages WHERE {_THIS}), context, {', '.join(COLUMNS)}"
            f" FROM agents WHERE {_THIS}",
            (*self._keys, *self._keys),
        ).fetchone()
        if row is None:
            return None
        revision, last_id, context, *texts = row
        columns = {name: decode(text, name, *self._where) for name, text in zip(COLUMNS, texts, strict=True)}
        copies = {name: exact_copy(value, name) for name, value in columns.items()}
        self._stored = _Stored(revision, 0 if last_id is None else last_id + 1, copies, Held(), context)
        return columns

    def load_messages(self, connection: sqlite3.Connection, prepended: list[Message], offset: int) -> list[Message]:
        """Read the messages that the agent held when it was last written.

        If that is unknown because the agent comes from another store, they follow upstream's rule.

        Args:
            connection: The snapshot in which the columns were loaded.
            prepended: By upstream's rule, messages that the conversation manager puts in front.
            offset: By upstream's rule, how many messages of the history it has removed.
        """
        if self._stored.context is None:
            parts = parts_by_upstreams_rule(connection, self._keys, prepended, offset)
            form = SAID_FORM
        else:
            # A summary is the conversation manager's own object, as it was before.
            parts = [
                next((own for own in prepended if own == part), part)
                for part in read_context(self._stored.context, "context", *self._where)
            ]
            form = EDITED_FORM
        objects: list[Message] = []
        sources: list[Source] = []
        for part in parts:
            if isinstance(part, list):
                for message_id, text in rows_of(connection, self._keys, part, form):
                    objects.append(decode(text, "message", message_id, *self._where))
                    sources.append(message_id)
            else:
                objects.append(part)
                sources.append(self._encode(exact_copy(part, "context"), "context"))
        copies = [exact_copy(message, "message") for message in objects]
        self._stored = self._stored._replace(held=Held(objects, copies, sources))
        return list(objects)

    # -- events --

    def append(self, message: Message, messages: list[Message], columns: AgentColumns) -> Change:
        """Return the change that adds a message to the history, and stores whatever else has changed."""
        copy = exact_copy(message, "message")
        before = self._stored
        if before.next_id + len(before.appends) > LAST_MESSAGE_ID:
            raise errors.SessionException(
                f"Agent {self._keys[1]} in session {self._keys[0]} has a message with the largest possible id: none can"
                " follow it; rewind the session"
            )
        append = _Append(message, copy, self._encode(copy, "message"), timestamp())
        is_simple = len(messages) > 0 and messages[-1] is message and self._is_current(messages, columns, added=1)
        self._stored = before._replace(appends=(*before.appends, append))  # until it is adopted
        return self._simple_append(before, append, columns) if is_simple else self._change(messages, columns)

    def save(self, messages: list[Message], columns: AgentColumns) -> Change | None:
        """Return the change that stores what has changed; None if nothing has."""
        if self._is_current(messages, columns):
            self._stored = self._stored._replace(version=columns.version)
            return None
        return self._change(messages, columns)

    @property
    def version(self) -> StateVersion | None:
        """The version of the agent's state that is stored, or None if it is unknown."""
        return self._stored.version

    def complete(self, message: Message, messages: list[Message], columns: AgentColumns) -> Change | None:
        """Return the change that replaces a placeholder in the history with its message."""
        stored = self._stored
        index = Finder(stored.held).find(message)
        source = None if index is None else stored.held.sources[index]
        if index is None or not isinstance(source, int):
            return self.save(messages, columns)
        objects = list(stored.held.objects)
        objects[index] = message
        self._stored = stored._replace(held=replace(stored.held, objects=objects))
        return self._rewrite(message, {source}, messages, columns, redacting=False)

    def redact(self, message: Message, messages: list[Message], columns: AgentColumns) -> Change:
        """Return the change that overwrites the rows of a message, usually the latest, with its present form.

        A retried prompt occupies several rows.

        Raises:
            SessionException: If the history is empty.
        """
        stored = self._stored
        if stored.next_id == 0:
            raise errors.SessionException("No message to redact.")
        latest = stored.next_id - 1
        rows = {source for own, source in stored.held.places() if own is message and isinstance(source, int)}
        if not rows and not self._holds_beside(message, messages, latest):
            rows = {latest}
        return self._rewrite(message, rows, messages, columns, redacting=True)

    def note_update(
        self, before: int, after: int, *, message: tuple[int, Message] | None = None, columns_changed: bool = False
    ) -> None:
        """Note a write to the agent by this manager's own repository methods; it does not make the agent stale.

        `before` and `after` are the revisions around that write, and `message` is the id and the new form of a message
        that was replaced. The agent's next event stores again what it holds in another form.
        """
        stored = self._stored
        if stored.revision != before:
            return
        stored = stored._replace(revision=after)
        if columns_changed:
            stored = stored._replace(columns={}, version=None)
        if message is not None:
            held = stored.held.overwritten({message[0]}, exact_copy(message[1], "message"))
            stored = stored._replace(held=held)
        self._stored = stored

    # -- writing --

    def _holds_beside(self, message: Message, messages: list[Message], row_id: int) -> bool:
        """Return whether the agent holds a message and also, unchanged, the message of a row of the history.

        Then the row belongs to the other message, and the first was never part of the history.
        """
        others = [other for other in messages if other is not message]
        held = self._stored.held
        return len(others) < len(messages) and any(
            source == row_id and (own is other or copy == other)
            for (own, source), copy in zip(held.places(), held.copies, strict=True)
            for other in others
        )

    def _is_current(self, messages: list[Message], columns: AgentColumns, *, added: int = 0) -> bool:
        """Return whether everything is stored, except for `added` messages at the end."""
        stored = self._stored
        return (
            not stored.appends
            and not stored.rewrites
            and stored.context is not None
            and not self._changed(columns)  # before the messages, which can be many
            and stored.held.is_followed_by(messages, added)
        )

    def _changed(self, columns: AgentColumns) -> list[str]:
        """Return the names of the columns that differ from what is stored."""
        stored = self._stored.columns
        return [
            name for name, value in columns.values.items() if name not in stored or not is_same(value, stored[name])
        ]

    def _simple_append(self, before: _Stored, append: _Append, columns: AgentColumns) -> Change:
        message_id = before.next_id
        times = (append.created_at, append.created_at)
        parameters = (*self._keys, message_id, *self._keys, before.revision, *times, append.text, None, None)
        position = len(before.held)

        def insert(connection: sqlite3.Connection) -> None:
            try:
                connection.execute(_APPEND, parameters)
            except connection.IntegrityError as error:
                # The guard refused it, or another writer's message has the id. Anything else is not ours.
                if str(error) in _STALE:
                    raise StaleError from error
                raise

        def adopt() -> None:
            before.held.add(append.message, append.copy, message_id, position=position)
            self._stored = before._replace(next_id=message_id + 1, version=columns.version)

        proof = (
            f"SELECT 1 FROM messages WHERE {_THIS} AND message_id = ? AND created_at = ? AND message = ?",
            (*self._keys, message_id, append.created_at, append.text),
        )
        return Change(insert, proof, adopt, is_statement=True)

    def _rewrite(
        self, message: Message, rows: set[int], messages: list[Message], columns: AgentColumns, *, redacting: bool
    ) -> Change:
        """Return the change that overwrites rows of the history with a message, whether or not the agent holds it."""
        copy = exact_copy(message, "message")
        text = self._encode(copy, "message")
        # Other messages may share these rows. If the agent holds the new message, they are stored again. Otherwise the
        # redaction did not reach the agent, and what it holds must stay out of the file.
        is_held = any(own is message for own in messages)
        overwritten = self._stored.held.overwritten(rows if is_held else (), copy)
        now = timestamp()
        statements = tuple(
            (
                "UPDATE messages SET updated_at = ?, message = ?, redact_message = coalesce(?, redact_message),"
                f" edited_message = NULL WHERE {_THIS} AND message_id = ?",
                (now, text, text if redacting else None, *self._keys, row_id),
            )
            for row_id in sorted(rows)
        )
        self._stored = self._stored._replace(rewrites=(*self._stored.rewrites, *statements))
        return self._change(messages, columns, overwritten)

    def _change(self, messages: list[Message], columns: AgentColumns, held: Held | None = None) -> Change:
        """Return the change that writes everything that differs from what is stored, in one transaction.

        `held` is what counts as held before this change, with the rewrites applied; None is what it held.
        """
        before = self._stored
        changed = {name: exact_copy(columns.values[name], name) for name in self._changed(columns)}
        texts = [self._column(name, changed[name]) if name in changed else None for name in COLUMNS]
        added = [(append, before.next_id + index) for index, append in enumerate(before.appends)]
        next_id = before.next_id + len(added)
        if held is None and not added and before.context is not None and before.held.is_followed_by(messages):
            now_held, edited, context = before.held, dict[int, str](), before.context
        else:
            places = [(append.message, append.copy, message_id) for append, message_id in added]
            now_held, edited = locate(before.held if held is None else held, messages, places, self._encode)
            context = write_context(now_held.sources, next_id)
        revision = new_revision()
        update = (
            "UPDATE agents SET revision = ?, updated_at = ?, context = ?,"
            f" {', '.join(f'{name} = coalesce(?, {name})' for name in COLUMNS)} WHERE {_THIS}",
            (revision, timestamp(), context, *texts, *self._keys),
        )
        known = (
            f"SELECT 1 FROM agents WHERE {_THIS} AND revision = ?"
            f" AND NOT EXISTS (SELECT 1 FROM messages WHERE {_THIS} AND message_id >= ?)",
            (*self._keys, before.revision, *self._keys, before.next_id),
        )
        rows = [
            (*self._keys, message_id, append.created_at, append.created_at, append.text, None, None)
            for append, message_id in added
        ]
        edits = [(text, *self._keys, message_id) for message_id, text in edited.items()]

        def write(connection: sqlite3.Connection) -> None:
            if not connection.execute(*known).fetchone():
                raise StaleError
            for statement in before.rewrites:
                connection.execute(*statement)
            connection.executemany(MESSAGES.insert, rows)
            connection.execute(*update)  # after the messages: what it replaces was current until the last was added
            connection.executemany(f"UPDATE messages SET edited_message = ? WHERE {_THIS} AND message_id = ?", edits)

        def adopt() -> None:
            known = {**before.columns, **changed}
            self._stored = _Stored(revision, next_id, known, now_held, context, columns.version)

        return Change(write, (f"SELECT 1 FROM agents WHERE {_THIS} AND revision = ?", (*self._keys, revision)), adopt)

    def _encode(self, copy: Message, name: str) -> str:
        """Return the JSON to store for a message that `exact_copy` returned."""
        if self._store_form is None:
            return to_json(copy, name)
        return encode(self._store_form(exact_copy(copy, name)), name)

    def _column(self, name: str, copy: Any) -> str:
        """Return the JSON of a column; the conversation manager's summary is a message, too."""
        if self._store_form is not None and isinstance(copy, dict) and isinstance(copy.get("summary_message"), dict):
            copy = {**copy, "summary_message": self._store_form(exact_copy(copy["summary_message"], name))}
        return encode(copy, name)


_STALE = (
    "NOT NULL constraint failed: messages.message_id",
    "UNIQUE constraint failed: messages.session_id, messages.agent_id, messages.message_id",
)
