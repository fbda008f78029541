"""The snapshots of Strands' `SnapshotSessionManager`, as a store that sessions are copied from and to.

A snapshot has only the messages that an agent holds. So a session from snapshots has no other history, and a session
copied to snapshots loses the rest of its history.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.session import (
    Session,
    SessionAgent,
    SessionMessage,
    SessionType,
    decode_bytes_values,
    encode_bytes_values,
)

from .. import errors
from ..context.strands_private import internal_state_of, snapshot_storage
from ..database.event_loops import run
from ..database.identifiers import validate_id
from ..database.values import encode

_T = TypeVar("_T")
_SCHEMA_VERSION = "1.0"
_LATEST = "snapshots/snapshot_latest.json"
_INTERNAL = ("interrupt_state", "model_state")
_AGENT_DATA = {"messages", "state", "conversation_manager_state", *_INTERNAL}


class SnapshotRepository(SessionRepository):
    """All sessions that `SnapshotSessionManager` keeps in a Strands `Storage`.

    It reads sessions, and `copy_session` writes them. Snapshots are written whole, so single records cannot be written.

    Example:
        ```python
        snapshots = SnapshotRepository(SQLiteStorage("sessions.db"))
        copy_session(SQLiteSessionRepository("sessions.db"), snapshots, "my-session")
        ```
    """

    def __init__(self, storage: Any) -> None:
        """Open a storage.

        Args:
            storage: The storage that you would pass to `SnapshotSessionManager`. A view that `namespace()` returned is
                used as it is; otherwise the sessions are where that manager keeps them, under `session/`.

        Raises:
            ImportError: If this version of Strands has no snapshots; it names the version that has them.
        """
        self._storage = snapshot_storage(storage)

    # -- reading --

    def list_session_ids(self) -> list[str]:
        """Return the ids of all sessions, in alphabetical order.

        Raises:
            SessionException: If the storage cannot be read.
        """
        return sorted({key.partition("/")[0] for key in self._list("") if "/scopes/" in key})

    def list_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of the agents of a session that have a latest snapshot."""
        return self._ids(session_id, "agent")

    def list_multi_agent_ids(self, session_id: str) -> list[str]:
        """Return the ids of a session's orchestrators."""
        return self._ids(session_id, "multiAgent")

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Return a session, with the times of its newest snapshot; None if there is none."""
        agent_ids, multi_agent_ids = self.list_agent_ids(session_id), self.list_multi_agent_ids(session_id)
        if not agent_ids and not multi_agent_ids:
            return None
        times = [self._read(session_id, "agent", id_)["created_at"] for id_ in agent_ids]
        times += [self._read(session_id, "multiAgent", id_)["created_at"] for id_ in multi_agent_ids]
        newest = max(map(_iso, times))
        return Session(session_id, SessionType.AGENT, newest, newest)

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Return an agent as its latest snapshot has it, or None if there is none."""
        if agent_id not in self.list_agent_ids(session_id):
            return None
        snapshot = decode_bytes_values(self._read(session_id, "agent", agent_id))
        data, time = snapshot["data"], _iso(snapshot["created_at"])
        internal_state = {name: data[name] for name in _INTERNAL if name in data}
        return SessionAgent(
            agent_id, data.get("state", {}), data.get("conversation_manager_state", {}), internal_state, time, time
        )

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """Return the messages that an agent held, numbered from 0."""
        if agent_id not in self.list_agent_ids(session_id):
            return []
        snapshot = decode_bytes_values(self._read(session_id, "agent", agent_id))
        time = _iso(snapshot["created_at"])
        messages = [
            SessionMessage(message, number, None, time, time)
            for number, message in enumerate(snapshot["data"].get("messages", []))
        ]
        return messages[offset : None if limit is None else offset + limit]

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Return a message that an agent held, or None if there is none."""
        messages = self.list_messages(session_id, agent_id)
        return messages[message_id] if 0 <= message_id < len(messages) else None

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Return the state of an orchestrator, or None if there is none."""
        if multi_agent_id not in self.list_multi_agent_ids(session_id):
            return None
        state: dict[str, Any] = self._read(session_id, "multiAgent", multi_agent_id)["data"]["state"]
        return state

    def left_behind(self, session_id: str) -> list[str]:
        """Return what a SQLite session cannot hold of a snapshot session, in words."""
        found: dict[str, None] = {}
        keys = self._list(f"{validate_id(session_id, 'session')}/")
        if any("/immutable_history/" in key for key in keys):
            found["the immutable snapshots"] = None
        for scope, ids in (
            ("agent", self.list_agent_ids(session_id)),
            ("multiAgent", self.list_multi_agent_ids(session_id)),
        ):
            for id_ in ids:
                snapshot = self._read(session_id, scope, id_)
                if snapshot.get("app_data"):
                    found["the application's data (app_data)"] = None
                unknown = snapshot["data"].keys() - _AGENT_DATA if scope == "agent" else set()
                found.update(
                    (f"the agents' {name}", None) for name in sorted(unknown) if snapshot["data"][name] is not None
                )
        return list(found)

    # -- writing --

    def write_session(
        self, session_id: str, agents: list[tuple[SessionAgent, list[Message]]], multi_agents: dict[str, dict[str, Any]]
    ) -> None:
        """Write the latest snapshots of a session's agents and orchestrators.

        Args:
            session_id: The session's id.
            agents: The agents, each with the messages that it holds.
            multi_agents: The states of the orchestrators, by their ids.

        Raises:
            SessionException: If the storage cannot be written; it says what was written.
        """
        written: list[str] = []
        for agent, messages in agents:
            data = {
                "messages": messages,
                "state": agent.state,
                "conversation_manager_state": agent.conversation_manager_state,
                **internal_state_of(agent),
            }
            self._write(session_id, "agent", agent.agent_id, data, written)
            written.append(f"agent {agent.agent_id}")
        for id_, state in multi_agents.items():
            self._write(session_id, "multiAgent", id_, {"orchestrator_id": id_, "state": state}, written)
            written.append(f"orchestrator {id_}")

    def _write(self, session_id: str, scope: str, id_: str, data: dict[str, Any], written: list[str]) -> None:
        snapshot = {
            "scope": scope,
            "schema_version": _SCHEMA_VERSION,
            "created_at": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
            "data": data,
            "app_data": {},
        }
        # An orchestrator's state can hold bytes in their encoded form, which `encode` refuses as ambiguous.
        text = encode(snapshot, "snapshot") if scope == "agent" else json.dumps(encode_bytes_values(snapshot))
        key = _key(session_id, scope, id_)
        so_far = f". Written so far: {'; '.join(written) or 'nothing'}"
        self._call(lambda: self._storage.write(key, text.encode()), f"Session {session_id} was not copied", so_far)

    # -- the storage --

    def _list(self, prefix: str) -> list[str]:
        return list(self._call(lambda: self._storage.list(prefix), "the snapshots cannot be listed"))

    def _ids(self, session_id: str, scope: str) -> list[str]:
        prefix = f"{validate_id(session_id, 'session')}/scopes/{scope}/"
        found = [key[len(prefix) :].partition("/") for key in self._list(prefix)]
        return sorted(id_ for id_, _, rest in found if rest == _LATEST)

    def _read(self, session_id: str, scope: str, id_: str) -> dict[str, Any]:
        key = _key(session_id, scope, id_)
        data = self._call(lambda: self._storage.read(key), f"{key} cannot be read")
        try:
            snapshot = json.loads(data or b"")
            is_snapshot = snapshot["schema_version"] == _SCHEMA_VERSION and snapshot["scope"] == scope
            is_snapshot = is_snapshot and isinstance(snapshot["data"], dict) and isinstance(snapshot["created_at"], str)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            errors.without_content(error)
            raise errors.SessionException(f"{key} | is not a snapshot") from error
        if not is_snapshot:
            raise errors.SessionException(f"{key} | is not a snapshot of version {_SCHEMA_VERSION}")
        return snapshot  # type: ignore[no-any-return]

    @staticmethod
    def _call(work: Callable[[], Awaitable[_T]], failing: str, so_far: str = "") -> _T:
        try:
            return run(work)
        except Exception as error:  # of any type: every storage fails in its own way
            problem, cause = errors.first_line(error), errors.harmless(error)
        raise errors.SessionException(f"{failing}: {problem}{so_far}") from cause

    # -- what snapshots cannot do --

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Refuse: snapshots are written whole.

        Raises:
            TypeError: Always.
        """
        raise TypeError("snapshots are written whole: use copy_session, or SnapshotSessionManager for an agent")

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Refuse; see `create_session`."""
        self.create_session(Session(session_id, SessionType.AGENT))

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Refuse; see `create_session`."""
        self.create_session(Session(session_id, SessionType.AGENT))

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Refuse; see `create_session`."""
        self.create_session(Session(session_id, SessionType.AGENT))

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Refuse; see `create_session`."""
        self.create_session(Session(session_id, SessionType.AGENT))


def _key(session_id: str, scope: str, id_: str) -> str:
    return f"{session_id}/scopes/{scope}/{id_}/{_LATEST}"


def _iso(time: str) -> str:
    """Return a time in the form of Strands' sessions."""
    return time.replace("Z", "+00:00")
