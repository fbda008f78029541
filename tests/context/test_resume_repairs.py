"""Strands repairs broken tool use when it restores a conversation: the same agent comes out of either store."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.session.file_session_manager import FileSessionManager
from strands.session.session_manager import SessionManager
from strands.types.content import Message

from ..support.histories.broken_tool_use import BROKEN, without_new_tracking_ids
from ..support.histories.history import build, call, say
from ..support.recording_manager import Recorder, held, written

Open = Callable[[Path], SessionManager]
STORES: dict[str, Open] = {
    "sqlite": lambda folder: Recorder("broken", folder / "sessions.db"),
    "files": lambda folder: FileSessionManager("broken", storage_dir=str(folder)),
}


def broken_agent(open_session: Open, folder: Path, messages: list[Message]) -> Agent:
    """Store a broken conversation, and build another agent on it."""
    build(open_session(folder), {"messages": copy.deepcopy(messages)})
    return build(open_session(folder), {})


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_broken_tool_use_is_repaired_as_upstream_repairs_it(messages: list[Message], tmp_path: Path) -> None:
    ours, theirs = (broken_agent(open_session, tmp_path, messages) for open_session in STORES.values())
    assert without_new_tracking_ids(ours.messages, messages) == without_new_tracking_ids(theirs.messages, messages)


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_a_repair_is_kept_with_the_next_turn(messages: list[Message], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    build(Recorder("broken", path), {"messages": copy.deepcopy(messages)})
    with Recorder("broken", path) as manager:
        say(build(manager, {}), "well?")
    with Recorder("broken", path) as again:
        assert held(build(again, {})) == manager.held["default"]


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_a_repair_does_not_change_the_history(messages: list[Message], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with Recorder("broken", path) as manager:
        build(manager, {"messages": copy.deepcopy(messages)})
    with Recorder("broken", path, manager.log) as again:
        say(build(again, {}), "well?")
        assert written(again.listed()) == written(again.log.messages())


def removed_result(agent: Agent) -> None:
    del agent.messages[2]


def removed_call(agent: Agent) -> None:
    del agent.messages[1]


def exchanged(agent: Agent) -> None:
    agent.messages[1:3] = reversed(agent.messages[1:3])


@pytest.mark.parametrize("edit", [removed_result, removed_call, exchanged])
def test_what_a_live_agent_has_broken_is_repaired_as_upstream_does(
    edit: Callable[[Agent], Any], tmp_path: Path
) -> None:
    with Recorder("broken", tmp_path / "sessions.db") as manager:
        agent = build(manager, {})
        say(agent, "look", [call("lookup", "t1", key="a")], "found")
        edit(agent)
        say(agent, "well?")
    messages = json.loads(manager.held["default"])["messages"]
    theirs = broken_agent(STORES["files"], tmp_path, messages)
    ours = build(Recorder("broken", tmp_path / "sessions.db"), {})
    assert without_new_tracking_ids(ours.messages, messages) == without_new_tracking_ids(theirs.messages, messages)
