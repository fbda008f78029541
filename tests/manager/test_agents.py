"""Whatever an agent has been through, the next one on its session holds the same, even in another process.

The stored messages are those that Strands' own `FileSessionManager` stores.
"""

import asyncio
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.conversations import (
    CONVERSATIONS,
    IMAGE,
    SECRET,
    Person,
    answer,
    build,
    resume,
    resume_conversation,
    shout,
)
from ..support.fresh_processes import another_process, held_by, in_a_new_process, open_session
from ..support.scripted_model import ScriptedModel, tool_use


def said(manager: Any, agent_id: str = "default") -> list[dict[str, Any]]:
    """The stored messages, without the ids that Strands draws and the times that it measures."""
    messages = [message.to_message() for message in manager.list_messages("session", agent_id)]
    for message in messages:
        message.pop("tracking_id", None)
        message.get("metadata", {}).pop("metrics", None)
    return messages


def texts(messages: list[Any]) -> list[str]:
    """The texts of messages that hold nothing but a text."""
    return [message["content"][0]["text"] for message in messages]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Another process, in which no agent of this module has lived."""
    with another_process() as call:
        yield call


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_another_process_resumes_with_what_the_live_agent_held(
    name: str, elsewhere: Callable[..., Any], tmp_path: Path
) -> None:
    agent = CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path))
    assert elsewhere(resume_conversation, name, tmp_path) == held_by(agent)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_stored_messages_are_those_of_the_file_session_manager(name: str, tmp_path: Path) -> None:
    ours, theirs = (open_session(store, "session", tmp_path) for store in ("sqlite", "files"))
    CONVERSATIONS[name].play(ours)
    CONVERSATIONS[name].play(theirs)
    assert said(ours) == said(theirs)
    numbers = [message.message_id for message in ours.list_messages("session", "default")]
    assert numbers == list(range(len(said(theirs))))


@pytest.mark.parametrize("name", [name for name in CONVERSATIONS if not name.startswith("interrupted")])
def test_a_resumed_agent_continues_as_the_live_one_would_have(name: str, tmp_path: Path) -> None:
    live, other = tmp_path / "live", tmp_path / "other"
    agent = CONVERSATIONS[name].play(open_session("sqlite", "session", live))
    agent.model = ScriptedModel()
    agent("and now?")
    CONVERSATIONS[name].play(open_session("sqlite", "session", other))
    resumed = CONVERSATIONS[name].agent(open_session("sqlite", "session", other))
    resumed.model = ScriptedModel()
    resumed("and now?")
    assert said(open_session("sqlite", "session", other)) == said(open_session("sqlite", "session", live))


# -- redaction --


@pytest.mark.parametrize("name", ["redacted user content", "a redacted tool result"])
def test_what_a_guardrail_redacts_is_gone_from_the_file(name: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    CONVERSATIONS[name].play(manager)
    redacted = [message for message in manager.list_messages("session", "default") if message.redact_message]
    assert len(redacted) == 1
    assert "[redacted]" in str(redacted[0].to_message())
    assert SECRET not in str(redacted)

    with sqlite3.connect(tmp_path / "sessions.db") as connection:
        rows = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("agents", "messages")]
    connection.close()
    assert "[redacted]" in str(rows)
    assert SECRET not in str(rows)

    manager.vacuum()
    manager.close()
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.db"]
    assert SECRET.encode() not in (tmp_path / "sessions.db").read_bytes()


def test_there_must_be_a_message_to_redact(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager)
    with pytest.raises(SessionException, match="No message to redact"):
        manager.redact_latest_message({"role": "user", "content": [{"text": "[redacted]"}]}, agent)
    assert said(manager) == []


# -- interrupts --


@pytest.mark.parametrize(
    ("name", "response", "outcome"),
    [
        ("interrupted in a tool", "42", "the answer is 42"),
        ("interrupted in a hook", "yes", "A"),
        ("interrupted in a hook", "no", "not approved"),
    ],
)
def test_an_interrupt_is_answered_after_the_restart(name: str, response: str, outcome: str, tmp_path: Path) -> None:
    agent = CONVERSATIONS[name].agent(open_session("sqlite", "session", tmp_path))
    (result,) = [agent(prompt) for prompt in CONVERSATIONS[name].prompts]
    assert result.stop_reason == "interrupt"
    (interrupt,) = result.interrupts
    responses = [{"interruptResponse": {"interruptId": interrupt.id, "response": response}}]

    stop_reason, held = in_a_new_process(answer, name, tmp_path, responses)

    assert stop_reason == "end_turn"
    *_, results, reply = held["messages"]
    assert results["content"][-1]["toolResult"]["content"] == [{"text": outcome}]
    assert reply["content"] == [{"text": "thanks"}]
    assert in_a_new_process(resume_conversation, name, tmp_path) == held


def test_an_interrupt_waits_for_its_answer_through_any_number_of_restarts(tmp_path: Path) -> None:
    name = "interrupted in a tool"
    held = held_by(CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path)))
    assert held["internal_state"]["interrupt_state"]["activated"]
    for _ in range(3):
        assert in_a_new_process(resume_conversation, name, tmp_path) == held


# -- structured output --

PERSON = {"toolUse": {"toolUseId": "t1", "name": "Person", "input": {"name": "Ada", "age": 36}}}


def test_structured_output_in_a_turn_is_resumed(tmp_path: Path) -> None:
    agent = build(open_session("sqlite", "session", tmp_path), [PERSON], "done")
    assert agent("who?", structured_output_model=Person).structured_output == Person(name="Ada", age=36)
    assert len(agent.messages) >= 3
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_structured_output_from_a_separate_call_is_resumed(tmp_path: Path) -> None:
    agent = build(open_session("sqlite", "session", tmp_path), "hello", {"name": "Ada", "age": 36})
    agent("hello")
    assert agent.structured_output(Person, "who?") == Person(name="Ada", age=36)
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


# -- turns that do not end well --


def test_a_turn_in_which_the_model_fails_keeps_what_was_said(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    script = ["hello", [tool_use("shout", "t1", text="a")], ConnectionError("gone")]
    agent = build(manager, *script)
    agent("hello")
    with pytest.raises(Exception, match="gone"):
        agent("shout")
    assert texts(said(manager)[:3]) == ["hello", "hello", "shout"]
    assert "toolResult" in said(manager)[-1]["content"][0]
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="this version of Strands cannot cancel an agent")
def test_a_canceled_turn_is_resumed(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager)
    agent.model = ScriptedModel(lambda messages: agent.cancel() or [tool_use("shout", "t1", text="a")])
    assert agent("shout").stop_reason == "cancelled"
    assert said(manager)[0]["content"] == [{"text": "shout"}]
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_an_abandoned_stream_is_resumed(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager)

    async def leave_early() -> None:
        stream = agent.stream_async("hello")
        async for event in stream:
            if "data" in event:
                break
        await stream.aclose()

    asyncio.run(leave_early())
    assert texts(said(manager)) == ["hello"]
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


# -- ways to call an agent --


def test_a_streamed_turn_is_stored(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager, "hello there")

    async def stream() -> list[str]:
        return [event["data"] async for event in agent.stream_async("hello") if "data" in event]

    assert asyncio.run(stream()) == ["hello there"]
    assert texts(said(manager)) == ["hello", "hello there"]
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_an_agent_may_be_called_from_any_thread_and_any_event_loop(tmp_path: Path) -> None:
    agent = build(open_session("sqlite", "session", tmp_path))
    for turn in range(4):
        thread = threading.Thread(target=agent, args=(f"thread {turn}",))
        thread.start()
        thread.join()
        agent(f"here {turn}")
        asyncio.run(agent.invoke_async(f"loop {turn}"))
    expected = [f"{place} {turn}" for turn in range(4) for place in ("thread", "here", "loop")]
    assert texts(agent.messages)[::2] == expected
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_a_tool_that_is_called_directly_is_recorded(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager)
    agent.tool.shout(text="hi")
    assert "HI" in str(said(manager))
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


# -- several agents --


def test_each_agent_of_a_session_resumes_with_its_own_context(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agents = {
        agent_id: build(manager, agent_id=agent_id, state={"i am": agent_id}) for agent_id in ("one", "two", "three")
    }
    for turn in range(2):
        for agent_id, agent in agents.items():
            agent(f"{agent_id}, {turn}")
    for agent_id, agent in agents.items():
        assert texts(agent.messages)[::2] == [f"{agent_id}, 0", f"{agent_id}, 1"]
        assert in_a_new_process(resume, tmp_path, agent_id) == held_by(agent)


def test_the_agents_of_a_session_can_talk_at_the_same_time(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agents = [build(manager, agent_id=f"agent {number}") for number in range(8)]
    together = threading.Barrier(len(agents))

    def talk(agent: Agent) -> None:
        together.wait()
        for turn in range(5):
            agent(f"{agent.agent_id}, {turn}")

    threads = [threading.Thread(target=talk, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for agent in agents:
        assert texts(said(manager, agent.agent_id))[::2] == [f"{agent.agent_id}, {turn}" for turn in range(5)]
        assert resume(tmp_path, agent.agent_id) == held_by(agent)


def test_an_agent_id_cannot_be_used_twice_in_a_manager(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    first = build(manager, agent_id="twin")
    first("hello")
    with pytest.raises(SessionException, match="must be unique"):
        build(manager, agent_id="twin")
    first("still there?")
    assert texts(said(manager, "twin"))[::2] == ["hello", "still there?"]


# -- an agent that comes with messages --


def commits(wal: bytes) -> int:
    """How many transactions a write-ahead log holds: the last frame of each tells the database's size."""
    page_size: int = struct.unpack_from(">I", wal, 8)[0]
    return sum(struct.unpack_from(">I", wal, at + 4)[0] > 0 for at in range(32, len(wal), 24 + page_size))


def test_an_agent_with_a_thousand_messages_is_created_in_one_transaction(tmp_path: Path) -> None:
    messages = [
        {"role": role, "content": [{"text": f"{number}"}]} for number in range(500) for role in ("user", "assistant")
    ]
    messages[10]["content"].append(IMAGE)
    manager = open_session("sqlite", "session", tmp_path)
    before = commits((tmp_path / "sessions.db-wal").read_bytes())

    agent = build(manager, messages=messages)

    assert commits((tmp_path / "sessions.db-wal").read_bytes()) == before + 1
    assert said(manager) == messages
    agent("and one more")
    assert [message.message_id for message in manager.list_messages("session", "default")] == list(range(1002))
    assert in_a_new_process(resume, tmp_path) == held_by(agent)


def test_a_manager_in_memory_holds_a_conversation() -> None:
    manager = SQLiteSessionManager("session", ":memory:")
    agent = Agent(
        model=ScriptedModel([tool_use("shout", "t1", text="hi")], "it says HI"),
        tools=[shout],
        session_manager=manager,
        callback_handler=None,
    )
    agent("shout hi")
    assert [message.to_message() for message in manager.list_messages("session", "default")] == agent.messages
