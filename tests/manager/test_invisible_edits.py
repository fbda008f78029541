"""An edit that `==` does not see, such as from 1 to True, is stored like any other."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.recording_manager import held, written
from ..support.scripted_model import ScriptedModel

# What is equal to Python and not the same in JSON.
PAIRS = [(1, True), (0, False), (True, 1), (3, 3.0), (3.0, 3), (0.0, -0.0), (-0.0, 0.0), (2**53, float(2**53))]


def build(manager: SQLiteSessionManager, **options: Any) -> Agent:
    return Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None, **options)


def calling(value: Any) -> list[Any]:
    """A call of a tool and its result, both with the value deep inside."""
    nested = {"list": [1, {"deep": [value, "text"]}], "own": value}
    return [
        {"role": "user", "content": [{"text": "set it"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "set", "input": nested}}]},
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "1",
                        "status": "success",
                        "content": [{"json": {"result": copy.deepcopy(nested)}}],
                    }
                }
            ],
        },
    ]


def in_place(messages: list[Any], value: Any) -> None:
    """Put the value into the objects that the agent holds."""
    for message, edited in zip(messages, calling(value), strict=True):
        for block, new in zip(message["content"], edited["content"], strict=True):
            block.clear()
            block.update(new)


def deep_in_place(messages: list[Any], value: Any) -> None:
    messages[1]["content"][0]["toolUse"]["input"]["list"][1]["deep"][0] = value


def by_new_messages(messages: list[Any], value: Any) -> None:
    messages[:] = calling(value)


def sync(manager: SQLiteSessionManager, agent: Agent) -> None:
    manager.sync_agent(agent)


def append(manager: SQLiteSessionManager, agent: Agent) -> None:
    message: Any = {"role": "assistant", "content": [{"text": "done"}]}
    agent.messages.append(message)
    manager.append_message(message, agent)


CASES = [
    *((*pair, deep_in_place, sync) for pair in PAIRS),
    *((1, True, edit, event) for edit in (in_place, deep_in_place, by_new_messages) for event in (sync, append)),
]


@pytest.mark.parametrize(
    ("before", "after", "edit", "event"),
    CASES,
    ids=[f"{before} to {after} {edit.__name__}, {event.__name__}" for before, after, edit, event in CASES],
)
@pytest.mark.every_case
def test_an_edit_that_equality_does_not_see_is_stored(
    before: Any,
    after: Any,
    edit: Callable[[list[Any], Any], None],
    event: Callable[[SQLiteSessionManager, Agent], None],
    path: Path,
) -> None:
    with SQLiteSessionManager("session", path, synchronous="NORMAL") as manager:
        agent = build(manager, messages=calling(before))
        edit(agent.messages, after)
        event(manager, agent)
        live = held(agent)
    with SQLiteSessionManager("session", path, synchronous="NORMAL") as manager:
        assert held(build(manager)) == live


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[f"{before} to {after}" for before, after in PAIRS])
def test_a_change_of_the_state_that_equality_does_not_see_is_stored(before: Any, after: Any, path: Path) -> None:
    with SQLiteSessionManager("session", path, synchronous="NORMAL") as manager:
        agent = build(manager, state={"value": [before]})
        agent.state.set("value", [after])
        manager.sync_agent(agent)
        stored = manager.read_agent("session", agent.agent_id)
        assert stored is not None
        assert written(stored.state) == written({"value": [after]})
