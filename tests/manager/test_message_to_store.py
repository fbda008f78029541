"""A subclass decides what is stored of a message: what it leaves out is nowhere in the file, but the agent keeps it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.types.content import Message
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.records import dump
from ..support.scripted_model import OVERFLOW, REDACT_INPUT, ScriptedModel, tool_use

SECRET = "4111-1111"


class Scrubbing(SQLiteSessionManager):
    """Stores no card number."""

    def message_to_store(self, message: Message) -> Message:
        scrubbed: Message = json.loads(json.dumps(message).replace(SECRET, "[card]"))
        return scrubbed


@tool
def look_up() -> str:
    """Find the card."""
    return f"it is {SECRET}"


def build(manager: SQLiteSessionManager, *script: Any, **options: Any) -> Agent:
    return Agent(
        model=ScriptedModel(*script), tools=[look_up], session_manager=manager, callback_handler=None, **options
    )


def secret(role: str = "user") -> Any:
    return {"role": role, "content": [{"text": f"my card is {SECRET}"}]}


def appended(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager, f"I see {SECRET}")
    agent(f"my card is {SECRET}")
    return agent


def of_a_tool(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager, [tool_use("look_up", "1")], "found")
    agent("which card?")
    return agent


def given_at_first(manager: SQLiteSessionManager) -> Agent:
    return build(manager, messages=[secret()])


def edited(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager)
    agent("hello")
    agent.messages[0]["content"] = secret()["content"]
    manager.sync_agent(agent)
    return agent


def edited_before_another(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager)
    agent("hello")
    agent.messages[0]["content"] = secret()["content"]
    agent("again")
    return agent


def put_in_between(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager)
    agent("hello")
    agent.messages.insert(1, secret("assistant"))
    manager.sync_agent(agent)
    return agent


def summarized(manager: SQLiteSessionManager) -> Agent:
    conversation_manager = SummarizingConversationManager(summary_ratio=0.8, preserve_recent_messages=1)
    agent = build(
        manager, *["said"] * 3, OVERFLOW, f"a summary with {SECRET}", conversation_manager=conversation_manager
    )
    for number in range(4):
        agent(f"hello {number}")
    return agent


def redacted(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager)
    agent("hello")
    agent.messages[-1]["content"] = [{"text": f"[redacted, but for {SECRET}]"}]
    manager.redact_latest_message(agent.messages[-1], agent)
    return agent


def trimmed(manager: SQLiteSessionManager) -> Agent:
    agent = build(manager, conversation_manager=SlidingWindowConversationManager(window_size=4))
    for number in range(4):
        agent(f"my card is {SECRET}, and {number}")
    return agent


WAYS = [
    appended, of_a_tool, given_at_first, edited, edited_before_another, put_in_between, summarized, redacted, trimmed
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_subclass_leaves_out_of_a_message_is_nowhere_in_the_file(
    way: Callable[[SQLiteSessionManager], Agent], path: Path
) -> None:
    manager = Scrubbing("session", path)
    agent = way(manager)
    assert SECRET in json.dumps(agent.messages)  # the agent keeps it
    assert SECRET not in "\n".join(dump(path))
    manager.close()
    assert SECRET.encode() not in path.read_bytes()
    with Scrubbing("session", path) as another:
        resumed = build(another, conversation_manager=agent.conversation_manager)
        assert json.dumps(resumed.messages) == json.dumps(agent.messages).replace(SECRET, "[card]")


@pytest.mark.parametrize("way", [appended, edited, trimmed])
def test_an_agent_whose_messages_are_stored_in_another_form_continues(
    way: Callable[[SQLiteSessionManager], Agent], path: Path
) -> None:
    manager = Scrubbing("session", path)
    agent = way(manager)
    before = copy.deepcopy(agent.messages)
    written = dump(path)
    manager.sync_agent(agent)
    assert dump(path) == written  # what is stored is what is to be stored: there is nothing to write
    agent("and on")
    assert agent.messages[0] == before[0] or way is trimmed
    assert SECRET not in "\n".join(dump(path))


def test_a_guardrail_redacts_what_a_subclass_stores(path: Path) -> None:
    manager = Scrubbing("session", path)
    agent = build(manager, REDACT_INPUT)
    agent(f"my card is {SECRET}")
    assert next(stored.to_message()["content"] for stored in manager.list_messages("session", "default")) == [
        {"text": "[redacted]"}
    ]
    assert SECRET not in "\n".join(dump(path))


def test_records_that_a_program_stores_itself_are_stored_as_they_are(path: Path) -> None:
    manager = Scrubbing("session", path)
    build(manager)("hello")
    message = SessionMessage(secret(), 2)
    manager.create_message("session", "default", message)
    stored = manager.read_message("session", "default", 2)
    assert stored is not None
    assert stored.message in (secret(), manager.message_to_store(secret()))
