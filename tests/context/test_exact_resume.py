"""Build an agent on an existing session and it is exactly what the last one was, whatever happened to that one.

Each history of `support/histories` happens in this process, and another process resumes it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from strands.hooks import AfterInvocationEvent, HookRegistry, registry

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.conversations import build
from ..support.fresh_processes import another_process, in_a_new_process
from ..support.histories import HISTORIES, SESSION, resume
from ..support.histories.history import accepts, call, say
from ..support.histories.turns import answers
from ..support.recording_manager import Recorder, held, written
from ..support.tiers import every


@dataclass
class Life:
    """A history that was lived through, the manager that was there, and its file."""

    name: str
    manager: Recorder
    path: Path


@pytest.fixture(scope="module", params=every(20, HISTORIES))
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Live through a history."""
    history = HISTORIES[request.param]
    if history.missing:
        pytest.skip(history.missing)
    path = tmp_path_factory.mktemp("life") / "sessions.db"
    with Recorder(SESSION, path) as manager:
        agent = history.build(manager)
        history.drive(agent)
        assert manager.held["default"] == held(agent), "the history does not end with an event"
        yield Life(request.param, manager, path)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Another process, in which no agent of this module has lived."""
    with another_process() as call:
        yield call


@pytest.mark.every_case
def test_a_new_agent_in_another_process_holds_what_the_live_one_held(life: Life, elsewhere: Callable[..., Any]) -> None:
    assert elsewhere(resume, life.name, life.path) == life.manager.held["default"]


@pytest.mark.every_case
def test_the_history_is_what_was_said(life: Life) -> None:
    assert written(life.manager.listed()) == written(life.manager.log.messages())


def test_several_agents_in_one_session_each_resume_with_their_own_context(tmp_path: Path) -> None:
    names = ("plain turns", "a sliding window", "a truncated tool result", "a program that reorders them")
    path = tmp_path / "sessions.db"
    with Recorder(SESSION, path) as manager:
        agents = [HISTORIES[name].build(manager, agent_id=name) for name in names]
        for agent in agents:
            HISTORIES[agent.agent_id].drive(agent)
        for agent in agents:
            say(agent, "and on, in turns")
        for agent in agents:
            assert in_a_new_process(resume, agent.agent_id, path, agent.agent_id) == manager.held[agent.agent_id]
            assert written(manager.listed(agent.agent_id)) == written(manager.log.messages(agent.agent_id))


def test_a_new_agent_can_answer_an_interrupt_that_an_earlier_one_raised(tmp_path: Path) -> None:
    name = "an interrupt without an answer"
    path = tmp_path / "sessions.db"
    with Recorder(SESSION, path) as manager:
        result = say(
            HISTORIES[name].build(manager),
            "both",
            [call("remember", "t1", key="b", value=2), call("lookup", "t2", key="a")],
        )
    assert result.stop_reason == "interrupt"
    with Recorder(SESSION, path) as manager:
        agent = HISTORIES[name].build(manager)
        assert say(agent, answers(result, "yes"), "done").stop_reason == "end_turn"
        assert "the value of a" in str(agent.messages[-2])
        assert in_a_new_process(resume, name, path) == manager.held["default"] == held(agent)


def test_a_hook_that_fails_after_an_invocation_costs_the_session_nothing(tmp_path: Path) -> None:
    if not accepts(HookRegistry.add_callback, "order"):
        pytest.skip("this Strands runs hooks in the order they come in")
    name = "an interrupt without an answer"
    with Recorder(SESSION, tmp_path / "sessions.db") as manager:
        agent = HISTORIES[name].build(manager)
        agent.hooks.add_callback(AfterInvocationEvent, lambda event: 1 / 0, order=registry.HookOrder.SDK_LAST)
        with pytest.raises(ZeroDivisionError):
            HISTORIES[name].drive(agent)
    assert in_a_new_process(resume, name, tmp_path / "sessions.db") == held(agent)


def test_a_message_is_redacted_though_an_edited_copy_of_it_stands_in_front(path: Path) -> None:
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = build(manager, "hello")
        agent("a secret")
        said = agent.messages[0]
        said["tracking_id"] = "its own"  # as newer versions of Strands do
        manager.sync_agent(agent)
        agent.messages.insert(0, {**said, "content": [{"text": "an edited copy"}]})
        manager.sync_agent(agent)
        said["content"] = [{"text": "[redacted]"}]
        manager.redact_latest_message(said, agent)
        texts = [message.to_message()["content"][0]["text"] for message in manager.list_messages(SESSION, "default")]
        live = held(agent)
    assert texts == ["[redacted]", "hello"]
    with SQLiteSessionManager(SESSION, path) as manager:
        assert held(build(manager)) == live
