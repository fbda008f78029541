"""Every place in a session that holds a value, and how to store and read a value there."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager

from .records import Orchestrator, agent, message, query

_message_ids = count(1)


@dataclass(frozen=True)
class Place:
    """A column that holds JSON.

    Attributes:
        name: What an error calls it.
        where: What an error adds to name the value itself, which sits a little deeper.
        table: The table.
        column: The column.
        store: Stores a value there.
        read: Returns the value that was stored last.
    """

    name: str
    where: str
    table: str
    column: str
    store: Callable[[SQLiteSessionManager, Any], None]
    read: Callable[[SQLiteSessionManager], Any]

    def value_in(self, field: Any) -> Any:
        """Return the value that a whole field of a record holds."""
        return field["content"][0]["x"] if self.table == "messages" else field["x"]

    def stored_text(self, path: Path) -> str:
        """Return the text in the file of what was stored last."""
        latest = " ORDER BY message_id DESC LIMIT 1" if self.table == "messages" else ""
        ((text,),) = query(path, f"SELECT {self.column} FROM {self.table}{latest}")
        assert isinstance(text, str)
        return text


def prepared(path: Path) -> SQLiteSessionManager:
    """A manager whose session `home` has an agent `ada` with a message, and an orchestrator `graph`."""
    manager = SQLiteSessionManager("home", path, synchronous="NORMAL")
    manager.create_agent(
        "home", agent("ada", conversation_manager_state=SlidingWindowConversationManager().get_state())
    )
    manager.create_message("home", "ada", message(0))
    manager.create_multi_agent("home", Orchestrator("graph"))
    return manager


def _message_place(name: str) -> Place:
    def store(repository: SQLiteSessionManager, value: Any) -> None:
        holding: Any = {"role": "user", "content": [{"x": value}]}
        fields: Any = {"message": {"role": "user", "content": []}, name: holding}
        repository.create_message("home", "ada", SessionMessage(message_id=next(_message_ids), **fields))

    def read(repository: SQLiteSessionManager) -> Any:
        listed = repository.list_messages("home", "ada")[-1]
        assert repr(repository.read_message("home", "ada", listed.message_id)) == repr(listed)
        return getattr(listed, name)["content"][0]["x"]

    return Place(name, "['content'][0]['x']", "messages", name, store, read)


def _agent_place(name: str) -> Place:
    def store(repository: SQLiteSessionManager, value: Any) -> None:
        repository.update_agent("home", agent("ada", **{name: {"x": value}}))

    def read(repository: SQLiteSessionManager) -> Any:
        return getattr(repository.read_agent("home", "ada"), name)["x"]

    return Place(name, "['x']", "agents", name.lstrip("_"), store, read)


def _orchestrator_place() -> Place:
    def store(repository: SQLiteSessionManager, value: Any) -> None:
        repository.update_multi_agent("home", Orchestrator("graph", {"x": value}))

    def read(repository: SQLiteSessionManager) -> Any:
        state = repository.read_multi_agent("home", "graph")
        assert state is not None
        return state["x"]

    return Place("state", "['x']", "multi_agents", "state", store, read)


MESSAGE_PLACES = {name: _message_place(name) for name in ("message", "redact_message")}
AGENT_PLACES = {name: _agent_place(name) for name in ("state", "conversation_manager_state", "_internal_state")}
PLACES = {**MESSAGE_PLACES, **AGENT_PLACES, "orchestrator state": _orchestrator_place()}
