"""Short ways to build records, every call that takes an id, and plain SQL on a file."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

Call = Callable[[Any, Any], Any]


class Orchestrator:
    """The part of a Graph or Swarm that a repository sees."""

    def __init__(self, id_: str, state: dict[str, Any] | None = None) -> None:
        self.id = id_
        self.state = {} if state is None else state

    def serialize_state(self) -> dict[str, Any]:
        return self.state

    def deserialize_state(self, payload: dict[str, Any]) -> None:
        self.state = payload


def session(session_id: str) -> Session:
    return Session(session_id, SessionType.AGENT)


def agent(agent_id: str, **fields: Any) -> SessionAgent:
    return SessionAgent(agent_id, **{"state": {}, "conversation_manager_state": {}, **fields})


def message(message_id: int, text: str = "hello") -> SessionMessage:
    return SessionMessage({"role": "user", "content": [{"text": text}]}, message_id)


# Every call that takes a session id, or an agent's or orchestrator's: each with its other arguments filled in.
SESSION_ID_CALLS: dict[str, Call] = {
    "create_session": lambda repository, id_: repository.create_session(session(id_)),
    "read_session": lambda repository, id_: repository.read_session(id_),
    "delete_session": lambda repository, id_: repository.delete_session(id_),
    "create_agent": lambda repository, id_: repository.create_agent(id_, agent("ada")),
    "read_agent": lambda repository, id_: repository.read_agent(id_, "ada"),
    "update_agent": lambda repository, id_: repository.update_agent(id_, agent("ada")),
    "create_message": lambda repository, id_: repository.create_message(id_, "ada", message(0)),
    "read_message": lambda repository, id_: repository.read_message(id_, "ada", 0),
    "update_message": lambda repository, id_: repository.update_message(id_, "ada", message(0)),
    "list_messages": lambda repository, id_: repository.list_messages(id_, "ada"),
    "create_multi_agent": lambda repository, id_: repository.create_multi_agent(id_, Orchestrator("graph")),
    "read_multi_agent": lambda repository, id_: repository.read_multi_agent(id_, "graph"),
    "update_multi_agent": lambda repository, id_: repository.update_multi_agent(id_, Orchestrator("graph")),
}
AGENT_ID_CALLS: dict[str, Call] = {
    "create_agent": lambda repository, id_: repository.create_agent("home", agent(id_)),
    "read_agent": lambda repository, id_: repository.read_agent("home", id_),
    "update_agent": lambda repository, id_: repository.update_agent("home", agent(id_)),
    "create_message": lambda repository, id_: repository.create_message("home", id_, message(0)),
    "read_message": lambda repository, id_: repository.read_message("home", id_, 0),
    "update_message": lambda repository, id_: repository.update_message("home", id_, message(0)),
    "list_messages": lambda repository, id_: repository.list_messages("home", id_),
    "create_multi_agent": lambda repository, id_: repository.create_multi_agent("home", Orchestrator(id_)),
    "read_multi_agent": lambda repository, id_: repository.read_multi_agent("home", id_),
    "update_multi_agent": lambda repository, id_: repository.update_multi_agent("home", Orchestrator(id_)),
}
every_call_with_an_id = pytest.mark.parametrize(
    ("kind", "call"),
    [("session", call) for call in SESSION_ID_CALLS.values()] + [("agent", call) for call in AGENT_ID_CALLS.values()],
    ids=[f"session_id of {name}" for name in SESSION_ID_CALLS] + [f"agent_id of {name}" for name in AGENT_ID_CALLS],
)
# The same with a message id, which must be an integer.
MESSAGE_ID_CALLS: dict[str, Call] = {
    "create_message": lambda repository, id_: repository.create_message("home", "ada", message(id_)),
    "read_message": lambda repository, id_: repository.read_message("home", "ada", id_),
    "update_message": lambda repository, id_: repository.update_message("home", "ada", message(id_)),
}


def query(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on the file with nothing but `sqlite3`, as anyone may."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def dump(path: Path) -> list[str]:
    """Everything that a file holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
