"""A history of numbered messages: quick to write, and easy to check for gaps and order."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

from strands import Agent
from strands.types.content import Message
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .scripted_model import ScriptedModel

SESSION = "session"
AGENT = "agent"


def begin(path: str | PathLike[str], agent_ids: Iterable[str] = (AGENT,), **settings: Any) -> SQLiteSessionManager:
    """Open the session and give it agents whose histories are empty."""
    manager = SQLiteSessionManager(SESSION, path, **settings)
    for agent_id in agent_ids:
        manager.create_agent(SESSION, SessionAgent(agent_id, {}, {}))
    return manager


def text(number: object) -> Message:
    """Return the message that says a number."""
    return {"role": "user", "content": [{"text": str(number)}]}


def add(repository: SQLiteSessionRepository, number: int, agent_id: str = AGENT) -> None:
    """Write the message with this number, which is also its id."""
    repository.create_message(SESSION, agent_id, SessionMessage(text(number), number))


def add_all(repository: SQLiteSessionRepository, numbers: Iterable[int], agent_id: str = AGENT) -> None:
    """Write the messages with these numbers, one by one."""
    for number in numbers:
        add(repository, number, agent_id)


def numbers(repository: SQLiteSessionRepository, agent_id: str = AGENT) -> list[int]:
    """Return the numbers that an agent's history says, in order."""
    return [int(stored.message["content"][0]["text"]) for stored in repository.list_messages(SESSION, agent_id)]


def live_agent(manager: SQLiteSessionManager, agent_id: str = "live", **settings: Any) -> Agent:
    """Build a real agent on a session; it answers `reply 1`, `reply 2` and so on."""
    return Agent(model=ScriptedModel(), agent_id=agent_id, session_manager=manager, callback_handler=None, **settings)


def converse(index: int, path: str | PathLike[str]) -> list[int]:
    """Use the file as a worker process does, with its own manager and agent; return the numbers in its history."""
    own = f"agent {index}"
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = live_agent(manager, f"live {index}")
        for _ in range(5):
            agent("hello")
        add_all(manager, range(50), own)
        return numbers(manager, own)
