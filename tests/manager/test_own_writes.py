"""Changes to a live agent's rows by its own manager, or refused by a trigger, are not reported as another writer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, StaleSessionException

from ..support.recording_manager import held
from ..support.records import Orchestrator, query
from ..support.scripted_model import ScriptedModel


def build(manager: SQLiteSessionManager, *script: Any) -> Agent:
    return Agent(model=ScriptedModel(*script), session_manager=manager, callback_handler=None)


def say(agent: Agent) -> None:
    agent("a word")


def change_state(agent: Agent) -> None:
    agent.state.set("mood", "wild")
    agent("no matter what")


def redact(agent: Agent) -> None:
    agent.model = ScriptedModel({"redactContent": {"redactUserContentMessage": "[redacted]"}})
    agent("no matter what")


TRIGGERS = {
    "of an inserted message": ("BEFORE INSERT ON messages", say),
    "of an inserted message, afterwards": ("AFTER INSERT ON messages", say),
    "of an agent": ("BEFORE UPDATE ON agents", change_state),
    "of a redacted message": ("BEFORE UPDATE ON messages", redact),
}


@pytest.mark.parametrize("action", ["ABORT", "ROLLBACK", "FAIL"])
@pytest.mark.parametrize(("when", "deed"), TRIGGERS.values(), ids=TRIGGERS)
def test_a_trigger_that_refuses_a_write_is_not_reported_as_another_writer(
    when: str, deed: Callable[[Agent], None], action: str, path: Path
) -> None:
    manager = SQLiteSessionManager("session", path, synchronous="NORMAL")
    agent = build(manager)
    agent("hello")
    query(path, f"CREATE TRIGGER policy {when} BEGIN SELECT RAISE({action}, 'against our policy'); END")
    with pytest.raises(SessionException, match="against our policy") as raised:
        deed(agent)
    assert not isinstance(raised.value, StaleSessionException)
    query(path, "DROP TRIGGER policy")
    agent("and on")
    with SQLiteSessionManager("session", path) as another:
        assert held(build(another)) == held(agent)


def test_a_trigger_that_refuses_an_orchestrator_is_not_reported_as_another_writer(path: Path) -> None:
    manager = SQLiteSessionManager("session", path, synchronous="NORMAL")
    team = Orchestrator("team", {"node": "a"})
    manager.initialize_multi_agent(team)
    query(path, "CREATE TRIGGER policy BEFORE UPDATE ON multi_agents BEGIN SELECT RAISE(ABORT, 'our policy'); END")
    with pytest.raises(SessionException, match="our policy") as raised:
        manager.sync_multi_agent(team)
    assert not isinstance(raised.value, StaleSessionException)


def edit(manager: SQLiteSessionManager, number: int) -> None:
    """Change a stored message, as a program that maintains the history may."""
    stored = manager.read_message("session", "default", number)
    assert stored is not None
    message: Any = {"role": "user", "content": [{"text": "edited in the history"}]}
    manager.update_message("session", "default", SessionMessage(message, number))


@pytest.mark.parametrize("number", [0, 2, 3], ids=["an early message", "a late one", "the last one"])
def test_an_agent_whose_own_manager_updates_a_message_continues(number: int, path: Path) -> None:
    manager = SQLiteSessionManager("session", path, synchronous="NORMAL")
    agent = build(manager)
    agent("one")
    agent("two")
    edit(manager, number)
    agent("three")
    edit(manager, number)
    agent.state.set("mood", "calm")
    manager.sync_agent(agent)
    edited = manager.read_message("session", "default", number)
    assert edited is not None
    assert edited.message["content"] == [{"text": "edited in the history"}]
    with SQLiteSessionManager("session", path) as another:
        resumed = build(another)
        if resumed.messages[number]["content"] == edited.message["content"]:  # rather than what the agent holds
            resumed.messages[number] = agent.messages[number]
        assert held(resumed) == held(agent)


def test_an_agent_whose_own_manager_adds_to_another_agent_continues(path: Path) -> None:
    manager = SQLiteSessionManager("session", path, synchronous="NORMAL")
    agent = build(manager)
    agent("one")
    manager.update_session_metadata("session", {"user_id": "42"})
    other = Agent(model=ScriptedModel(), agent_id="other", session_manager=manager, callback_handler=None)
    other("hello")
    agent("two")
    edit(manager, 0)
    other("and on")
    with SQLiteSessionManager("session", path) as another:
        assert another.read_message("session", "other", 3) is not None
