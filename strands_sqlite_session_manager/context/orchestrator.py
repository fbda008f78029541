"""The state of a live orchestrator, a Graph or a Swarm, guarded against other writers."""

import sqlite3
import weakref
from typing import Any

from .. import errors
from ..database.database import Database
from ..database.tables import MULTI_AGENTS
from ..database.values import decode_state, encode_state, timestamp
from .account import Account, Change, StaleError, new_revision

_THIS = "session_id = ? AND multi_agent_id = ?"


class LiveOrchestrator(Account):
    """One live orchestrator, and the revision that its stored state is known to have."""

    def __init__(self, database: Database, session_id: str, source: Any) -> None:
        super().__init__(database)
        self._keys = (session_id, source.id)
        self._source = weakref.ref(source)
        self._revision = 0

    @property
    def source(self) -> Any:
        """The orchestrator, or None if it is gone."""
        return self._source()

    def initialize(self, source: Any) -> None:
        """Store a new orchestrator, or restore the stored state.

        Raises:
            SessionNotFoundException: If there is no such session.
        """
        stored = self._load()
        if stored is None:
            revision, now = new_revision(), timestamp()
            row = (*self._keys, now, now, encode_state(source.serialize_state(), "state"))

            def create(connection: sqlite3.Connection) -> bool:
                try:
                    created = connection.execute(f"{MULTI_AGENTS.insert} ON CONFLICT DO NOTHING", row).rowcount
                except connection.IntegrityError as error:
                    errors.raise_violation(error, orphan=f"Session {self._keys[0]} does not exist")
                if created:
                    connection.execute(f"UPDATE multi_agents SET revision = ? WHERE {_THIS}", (revision, *self._keys))
                return bool(created)

            if self._database.transaction(create):
                self._revision = revision
                return
            stored = self._load()
        if stored is None:  # deleted by another program
            raise errors.SessionNotFoundException(
                f"MultiAgent state {self._keys[1]} in session {self._keys[0]} does not exist"
            )
        self._revision, state = stored
        source.deserialize_state(state)

    def _load(self) -> tuple[int, dict[str, Any]] | None:
        session_id, multi_agent_id = self._keys
        rows = self._database.read(
            f"SELECT revision, state FROM multi_agents WHERE {_THIS}",
            self._keys,
            lambda row: (row[0], decode_state(row[1], "the state of", multi_agent_id, "in session", session_id)),
        )
        return rows[0] if rows else None

    def save(self, source: Any) -> Change:
        """Return the change that stores the orchestrator's present state."""
        revision = new_revision()
        parameters = (
            revision,
            timestamp(),
            encode_state(source.serialize_state(), "state"),
            *self._keys,
            self._revision,
        )

        def write(connection: sqlite3.Connection) -> None:
            if not connection.execute(
                f"UPDATE multi_agents SET revision = ?, updated_at = ?, state = ? WHERE {_THIS} AND revision = ?",
                parameters,
            ).rowcount:
                raise StaleError

        def adopt() -> None:
            self._revision = revision

        proof = (f"SELECT 1 FROM multi_agents WHERE {_THIS} AND revision = ?", (*self._keys, revision))
        return Change(write, proof, adopt, is_statement=True)
