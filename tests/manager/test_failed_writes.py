"""A failed write says why and changes nothing, and the next write stores what it should have stored."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.hooks import MessageAddedEvent
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.conversations import build, resume
from ..support.fresh_processes import held_by
from ..support.scripted_model import ScriptedModel

NEXT_EVENTS: dict[str, Callable[[SQLiteSessionManager, Agent], object]] = {
    "a turn": lambda manager, agent: agent("and now?"),
    "a sync": lambda manager, agent: manager.sync_agent(agent),
}


def open_agent(folder: Path) -> tuple[SQLiteSessionManager, Agent]:
    """Open a session in which something was said, by a manager that does not wait long."""
    manager = SQLiteSessionManager("session", folder / "sessions.db", timeout=0.1)
    agent = build(manager)
    agent("hello")
    return manager, agent


@contextmanager
def another_writer(folder: Path) -> Iterator[sqlite3.Connection]:
    """Hold the database as a writer in another process would."""
    with closing(sqlite3.connect(folder / "sessions.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_the_next_event_stores_state_that_another_writer_blocked(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    agent.state.set("kept", [1, 2])
    with another_writer(tmp_path), pytest.raises(SessionException, match=r"another writer .* 0\.1 seconds"):
        manager.sync_agent(agent)
    assert resume(tmp_path)["state"] == {}
    NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == held_by(agent)
    assert resume(tmp_path)["state"] == {"kept": [1, 2]}


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_messages_that_were_trimmed_meanwhile_stay_trimmed(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    agent.messages.pop(0)
    with another_writer(tmp_path), pytest.raises(SessionException, match="another writer"):
        manager.sync_agent(agent)
    NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == held_by(agent)


def test_a_turn_that_another_writer_blocked_can_be_repeated(tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    with another_writer(tmp_path), pytest.raises(SessionException, match="another writer"):
        agent("are you there?")
    agent("are you there?")
    assert resume(tmp_path) == held_by(agent)
    said = [message.to_message()["content"] for message in manager.list_messages("session", "default")]
    assert said == [message["content"] for message in agent.messages]
    assert said.count([{"text": "are you there?"}]) == 2


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_the_next_event_stores_a_redaction_that_another_writer_blocked(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    agent.model = ScriptedModel("a secret")
    agent("tell me")
    agent.messages[-1]["content"] = [{"text": "[redacted]"}]
    with another_writer(tmp_path), pytest.raises(SessionException, match="another writer"):
        manager.redact_latest_message(agent.messages[-1], agent)
    NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == held_by(agent)
    assert "a secret" not in str(manager.list_messages("session", "default"))


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_state_beside_an_unstorable_value_is_stored_once_that_value_is_gone(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    agent.state.set("good", 1)
    agent.state.set("bad", {"deep": [(1, 2)]})
    with pytest.raises(SessionException, match=r"state\['bad'\]\['deep'\]\[0\] .* tuple"):
        manager.sync_agent(agent)
    assert resume(tmp_path)["state"] == {}
    agent.state.delete("bad")
    NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == held_by(agent)
    assert resume(tmp_path)["state"] == {"good": 1}


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_state_is_not_lost_with_an_unstorable_message(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    agent.state.set("kept", 1)
    with pytest.raises(SessionException, match=r"message\['content'\]\[0\]\['text'\] .* set"):
        manager.append_message({"role": "user", "content": [{"text": {"a", "set"}}]}, agent)
    assert resume(tmp_path)["state"] == {}
    NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == held_by(agent)
    assert resume(tmp_path)["state"] == {"kept": 1}
    stored = manager.list_messages("session", "default")
    assert [message.message_id for message in stored] == list(range(len(agent.messages)))


@pytest.mark.parametrize("event", NEXT_EVENTS)
def test_state_that_is_set_while_a_closed_manager_refuses_is_not_considered_stored(event: str, tmp_path: Path) -> None:
    manager, agent = open_agent(tmp_path)
    stored = resume(tmp_path)
    manager.close()
    agent.state.set("lost", 1)
    for _ in range(2):
        with pytest.raises(SessionException, match="closed"):
            NEXT_EVENTS[event](manager, agent)
    assert resume(tmp_path) == stored


@pytest.mark.parametrize("released", ["soon", "later"])
def test_a_message_whose_task_is_canceled_is_stored_at_once_or_with_the_next_event(
    released: str, tmp_path: Path
) -> None:
    manager = SQLiteSessionManager("session", tmp_path / "sessions.db")
    agent = build(manager)
    agent("hello")

    async def add_message() -> None:
        message: Any = {"role": "user", "content": [{"text": "are you there?"}]}
        agent.messages.append(message)
        await agent.hooks.invoke_callbacks_async(MessageAddedEvent(agent=agent, message=message))

    async def lose_patience() -> None:
        with another_writer(tmp_path) as connection:
            task = asyncio.ensure_future(add_message())
            await asyncio.sleep(0.1)  # it waits for the other writer
            task.cancel()
            if released == "soon":
                asyncio.get_running_loop().call_later(0.1, connection.rollback)
            begun = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - begun < 20  # rather than the 30 seconds that a write may wait

    asyncio.run(lose_patience())
    if released == "soon":
        assert resume(tmp_path) == held_by(agent)
    manager.sync_agent(agent)
    assert resume(tmp_path) == held_by(agent)
    said = [message.to_message()["content"] for message in manager.list_messages("session", "default")]
    assert said == [message["content"] for message in agent.messages]
    assert said[-1] == [{"text": "are you there?"}]
