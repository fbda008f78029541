"""A spoken conversation resumes as a written one does, with its placeholders completed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import StaleSessionException

from ..support.fresh_processes import held_by, in_a_new_process, open_session

try:
    from ..support.bidi_agents import EARLY, HANG_UP, STORED_EVENTS, WAIT, build, called, go_on, resume, said, talk
except ImportError as error:
    pytest.skip(f"this version of Strands has no BidiAgent here: {error}", allow_module_level=True)

needs_placeholders = pytest.mark.skipif(EARLY, reason="this version of Strands adds a message when it is complete")


def log(manager: Any) -> list[Any]:
    """The stored messages."""
    return [message.to_message() for message in manager.list_messages("session", "default")]


def test_a_spoken_conversation_is_stored_and_resumed(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(
        manager,
        WAIT,
        *said("assistant", "hello, ", "who are you?"),
        *said("user", "it's ", "me"),
        *called("shout", "t1", text="hi"),
        *said("assistant", "HI"),
        HANG_UP,
    )
    asyncio.run(talk(agent, "hello"))
    texts = [block["text"] for message in agent.messages for block in message["content"] if "text" in block]
    assert texts == ["hello", "hello, who are you?", "it's me", "HI"]
    results = [
        block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block
    ]
    assert results[-1]["content"] == [{"text": "HI"}]
    assert log(manager) == agent.messages
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_a_resumed_agent_sends_its_model_the_history_and_continues(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager, *said("user", "hello"), *called("shout", "t1", text="hi"), HANG_UP)
    asyncio.run(talk(agent))
    told, held = in_a_new_process(go_on, tmp_path)
    assert told == agent.messages
    assert [message["content"] for message in held["messages"][-2:]] == [
        [{"text": "me again"}],
        [{"text": "welcome back"}],
    ]
    assert log(manager) == held["messages"]
    assert in_a_new_process(resume, tmp_path) == held


def test_state_that_a_tool_sets_is_resumed(tmp_path: Path) -> None:
    agent = build(
        open_session("sqlite", "session", tmp_path),
        *called("remember", "t1", key="city", value={"name": "Köln"}),
        HANG_UP,
        state={"from": "the start"},
    )
    asyncio.run(talk(agent))
    held = in_a_new_process(resume, tmp_path)
    assert held == held_by(agent)
    assert held["state"] == {"from": "the start", "city": {"name": "Köln"}}


def test_initial_messages_are_stored(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    messages = [{"role": "user", "content": [{"text": f"{number}"}]} for number in range(100)]
    agent = build(manager, *said("assistant", "so much"), HANG_UP, messages=messages)
    asyncio.run(talk(agent))
    assert len(log(manager)) == 101
    assert log(manager) == agent.messages
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_at_every_event_a_new_agent_would_hold_the_same(tmp_path: Path) -> None:
    user, assistant = said("user", "one ", "two"), said("assistant", "three ", "four")
    both_at_once = [event for pair in zip(user, assistant, strict=True) for event in pair]
    agent = build(
        open_session("sqlite", "session", tmp_path), *both_at_once, *called("shout", "t1", text="a"), *user, HANG_UP
    )
    seen = 0

    def compare(event: Any) -> None:
        nonlocal seen
        seen += 1
        assert resume(tmp_path) == held_by(agent)

    for event in STORED_EVENTS:
        agent.hooks.add_callback(event, compare)  # after the manager, which has stored by then
    asyncio.run(talk(agent))
    assert seen >= len(agent.messages)
    assert resume(tmp_path) == held_by(agent)


@needs_placeholders
def test_the_history_has_the_completed_text_of_a_placeholder(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    start, *rest = said("user", "one ", "two")
    later = said("assistant", "three")
    agent = build(manager, start, *later, *rest, HANG_UP)
    first: list[list[Any]] = []
    asyncio.run(talk(agent, on_event=lambda event: first.append(log(manager)[0]["content"])))
    assert first[0] == []
    assert first[-1] == [{"text": "one two"}]
    assert [message["content"] for message in log(manager)] == [[{"text": "one two"}], [{"text": "three"}]]
    assert [message.message_id for message in manager.list_messages("session", "default")] == [0, 1]
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


@needs_placeholders
def test_a_placeholder_of_an_earlier_process_is_completed_by_its_tracking_id(tmp_path: Path) -> None:
    first = build(open_session("sqlite", "session", tmp_path))
    pending = {"role": "assistant", "content": []}
    asyncio.run(first._append_messages(pending))
    manager = open_session("sqlite", "session", tmp_path)
    second = build(manager)
    assert second.messages == first.messages
    completed = {**second.messages[0], "content": [{"text": "at last"}]}
    asyncio.run(second._update_message(completed))
    assert log(manager) == [completed]
    assert in_a_new_process(resume, tmp_path)["messages"] == [completed]


@needs_placeholders
def test_a_connection_that_breaks_leaves_what_the_agent_has_made_of_it(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    start, part, *_ = said("assistant", "I was about to", " say")
    agent = build(manager, *said("user", "hello"), start, part, HANG_UP)
    asyncio.run(talk(agent))
    assert agent.messages[-1]["content"] != []
    assert log(manager) == agent.messages
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_a_conversation_that_was_continued_elsewhere_is_refused(tmp_path: Path) -> None:
    stale = build(open_session("sqlite", "session", tmp_path))
    manager = open_session("sqlite", "session", tmp_path)
    winner = build(manager, *said("user", "hello"), HANG_UP)
    asyncio.run(talk(winner))
    with pytest.raises(StaleSessionException, match="another writer continued the conversation"):
        asyncio.run(stale._append_messages({"role": "user", "content": [{"text": "too late"}]}))
    assert log(manager) == winner.messages
    assert in_a_new_process(resume, tmp_path) == held_by(winner)
