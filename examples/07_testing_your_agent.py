"""Testing your agent: sessions in memory for pytest, and assertions on what was stored.

Run it with `pytest examples/07_testing_your_agent.py`, or with `python examples/07_testing_your_agent.py`. It needs
neither a network nor a real model.
"""

import json
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.models import Model

from strands_sqlite_session_manager import SQLiteSessionManager

try:
    import pytest
except ModuleNotFoundError:
    sys.exit("This example needs pytest: pip install -e '.[test]'")

# -- the code under test: in your project, it has a module of its own --


@tool
def order_status(order_id: str) -> str:
    """Tell where an order is."""
    return {"4711": "It was shipped on Monday."}[order_id]


@tool(context=True)
def open_ticket(subject: str, tool_context: ToolContext) -> str:
    """Hand a problem over to a person."""
    tool_context.agent.state.set("ticket", subject)
    return f"Ticket opened: {subject}"


def build_agent(session_manager: SQLiteSessionManager, model: Model) -> Agent:
    """Build a help-desk agent."""
    return Agent(
        model=model,
        tools=[order_status, open_ticket],
        system_prompt="You are the help desk of a shop.",
        session_manager=session_manager,
        callback_handler=None,
    )


# -- a model that follows a script --


class ScriptedModel(Model):
    """Gives one answer of its script at a time: a text, a tool call, a guardrail's event, or an exception."""

    def __init__(self, *script: str | dict[str, Any] | Exception) -> None:
        """Take the script."""
        self.script = list(script)
        self.messages: list[Any] = []

    def update_config(self, **model_config: Any) -> None:
        """Ignore it: there is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """Return nothing: there is nothing to configure."""
        return {}

    async def structured_output(
        self, output_model: Any, prompt: Any, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Refuse: no test here asks for it."""
        raise NotImplementedError
        yield {}  # makes this a generator, as the interface requires

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Stream the next answer, and remember the conversation it answers."""
        self.messages = list(messages)
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(answer, str):
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": answer}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}
        elif "redactContent" in answer:
            yield answer
            yield {"messageStop": {"stopReason": "guardrail_intervened"}}
        else:
            use = {"toolUseId": answer["name"], "name": answer["name"]}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps(answer["input"])}}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use"}}


# -- fixtures --


@pytest.fixture
def session_manager() -> Iterator[SQLiteSessionManager]:
    """Yield a session in a database of its own, which is gone after the test."""
    with SQLiteSessionManager("test", ":memory:") as session_manager:
        yield session_manager


def stored(session_manager: SQLiteSessionManager) -> list[tuple[str, dict[str, Any]]]:
    """Return every stored content block with its role, in order."""
    messages = [message.to_message() for message in session_manager.list_messages("test", "default")]
    return [(message["role"], dict(block)) for message in messages for block in message["content"]]


# -- tests --


def test_what_was_said_is_stored(session_manager: SQLiteSessionManager) -> None:
    """Assert on the stored messages, not on what is printed."""
    agent = build_agent(session_manager, ScriptedModel("Good morning!"))
    agent("Hello")
    assert stored(session_manager) == [("user", {"text": "Hello"}), ("assistant", {"text": "Good morning!"})]


def test_the_result_of_a_tool_is_stored(session_manager: SQLiteSessionManager) -> None:
    """A tool's result is a message, too."""
    model = ScriptedModel({"name": "order_status", "input": {"order_id": "4711"}}, "On its way.")
    build_agent(session_manager, model)("Where is order 4711?")
    (result,) = [block["toolResult"] for _, block in stored(session_manager) if "toolResult" in block]
    assert result["status"] == "success"
    assert result["content"] == [{"text": "It was shipped on Monday."}]


def test_a_tool_that_fails_is_stored_as_an_error(session_manager: SQLiteSessionManager) -> None:
    """An exception in a tool reaches both the model and the file as an error."""
    model = ScriptedModel({"name": "order_status", "input": {"order_id": "0000"}}, "I cannot find it.")
    build_agent(session_manager, model)("Where is order 0000?")
    (result,) = [block["toolResult"] for _, block in stored(session_manager) if "toolResult" in block]
    assert result["status"] == "error"


def test_the_state_a_tool_sets_is_stored(session_manager: SQLiteSessionManager) -> None:
    """The manager is a repository, too: read the stored agent from it."""
    model = ScriptedModel({"name": "open_ticket", "input": {"subject": "broken cup"}}, "Somebody will call you.")
    agent = build_agent(session_manager, model)
    agent("My cup arrived broken.")
    session_agent = session_manager.read_agent("test", agent.agent_id)
    assert session_agent is not None
    assert session_agent.state == {"ticket": "broken cup"}


def test_a_conversation_resumes(tmp_path: Path) -> None:
    """Two managers must share a file: use pytest's `tmp_path`."""
    db_path = tmp_path / "sessions.db"
    with SQLiteSessionManager("test", db_path) as session_manager:
        first = build_agent(session_manager, ScriptedModel("Good morning, Ada!"))
        first("Hello, I am Ada.")
    model = ScriptedModel("You are Ada.")
    with SQLiteSessionManager("test", db_path) as session_manager:
        second = build_agent(session_manager, model)
        assert second.messages == first.messages
        second("Who am I?")
    assert [message["role"] for message in model.messages] == ["user", "assistant", "user"]


def test_a_redacted_message_is_gone(tmp_path: Path) -> None:
    """Text that a guardrail redacted is not listed, not found by a search, and not in the file."""
    guardrail = {"redactContent": {"redactUserContentMessage": "[removed]"}}
    with SQLiteSessionManager("test", tmp_path / "sessions.db") as session_manager:
        build_agent(session_manager, ScriptedModel(guardrail))("My card is 4111-1111.")
        assert stored(session_manager)[0] == ("user", {"text": "[removed]"})
        assert session_manager.search_messages("4111") == []
        session_manager.vacuum()
    for path in tmp_path.iterdir():
        assert b"4111" not in path.read_bytes()


def test_a_question_survives_a_failing_model(session_manager: SQLiteSessionManager) -> None:
    """A message is stored before the agent continues: whatever fails later, the next agent knows the question."""
    agent = build_agent(session_manager, ScriptedModel(ConnectionError("the provider is down")))
    with pytest.raises(Exception, match="the provider is down"):
        agent("Where is order 4711?")
    assert stored(session_manager) == [("user", {"text": "Where is order 4711?"})]


def main() -> int:
    """Run this file with pytest, and leave nothing behind. Your project needs no such function."""
    with tempfile.TemporaryDirectory() as folder:
        return int(
            pytest.main([__file__, "--verbose", "--no-header", "-p", "no:cacheprovider", f"--basetemp={folder}/t"])
        )


if __name__ == "__main__":
    sys.exit(main())
