"""Testing your agent: sessions in memory for pytest, and what to assert on what was stored.

Run it with `pytest examples/07_testing_your_agent.py`. `python examples/07_testing_your_agent.py` does the same. It
needs neither a network nor a real model.
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
    sys.exit("This example needs pytest: pip install -e '.[test]' in the folder of the repository")

# -- what is tested: in your project, a module of its own --


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
    """Build the agent of a help desk."""
    return Agent(
        model=model,
        tools=[order_status, open_ticket],
        system_prompt="You are the help desk of a shop.",
        session_manager=session_manager,
        callback_handler=None,
    )


# -- a model that says what a test tells it to --


class ScriptedModel(Model):
    """Plays its script, an answer each time: a text, a call of a tool, a guardrail's event, or an exception."""

    def __init__(self, *script: str | dict[str, Any] | Exception) -> None:
        """Take the script."""
        self.script = list(script)
        self.was_told: list[Any] = []

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """There is nothing to configure."""
        return {}

    async def structured_output(
        self, output_model: Any, prompt: Any, system_prompt: Any = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Refuse: no test here asks for it."""
        raise NotImplementedError
        yield {}  # makes this a generator, as the interface wants it

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Play the next answer, and remember the conversation that it was asked to continue."""
        self.was_told = list(messages)
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
    """A session in a database of its own, which is gone after the test."""
    with SQLiteSessionManager("test", ":memory:") as session_manager:
        yield session_manager


def stored(session_manager: SQLiteSessionManager) -> list[tuple[str, dict[str, Any]]]:
    """What was stored, in the order in which it was said: each block of content, with its role."""
    messages = [message.to_message() for message in session_manager.list_messages("test", "default")]
    return [(message["role"], dict(block)) for message in messages for block in message["content"]]


# -- tests --


def test_what_was_said_is_stored(session_manager: SQLiteSessionManager) -> None:
    """Assert on the messages, not on what an answer looks like on the screen."""
    agent = build_agent(session_manager, ScriptedModel("Good morning!"))
    agent("Hello")
    assert stored(session_manager) == [("user", {"text": "Hello"}), ("assistant", {"text": "Good morning!"})]


def test_the_result_of_a_tool_is_stored(session_manager: SQLiteSessionManager) -> None:
    """What a tool gave back is a message as well."""
    model = ScriptedModel({"name": "order_status", "input": {"order_id": "4711"}}, "On its way.")
    build_agent(session_manager, model)("Where is order 4711?")
    (result,) = [block["toolResult"] for _, block in stored(session_manager) if "toolResult" in block]
    assert result["status"] == "success"
    assert result["content"] == [{"text": "It was shipped on Monday."}]


def test_a_tool_that_fails_is_stored_as_an_error(session_manager: SQLiteSessionManager) -> None:
    """An exception of a tool reaches the model as an error, and the file, too."""
    model = ScriptedModel({"name": "order_status", "input": {"order_id": "0000"}}, "I cannot find it.")
    build_agent(session_manager, model)("Where is order 0000?")
    (result,) = [block["toolResult"] for _, block in stored(session_manager) if "toolResult" in block]
    assert result["status"] == "error"


def test_what_a_tool_puts_into_the_state_is_stored(session_manager: SQLiteSessionManager) -> None:
    """The manager is also the repository: ask it for the agent as it is stored."""
    model = ScriptedModel({"name": "open_ticket", "input": {"subject": "broken cup"}}, "Somebody will call you.")
    agent = build_agent(session_manager, model)
    agent("My cup arrived broken.")
    session_agent = session_manager.read_agent("test", agent.agent_id)
    assert session_agent is not None
    assert session_agent.state == {"ticket": "broken cup"}


def test_a_conversation_resumes(tmp_path: Path) -> None:
    """A resume takes two managers, and they need a file to share: pytest's `tmp_path` has a place for it."""
    db_path = tmp_path / "sessions.db"
    with SQLiteSessionManager("test", db_path) as session_manager:
        first = build_agent(session_manager, ScriptedModel("Good morning, Ada!"))
        first("Hello, I am Ada.")
    model = ScriptedModel("You are Ada.")
    with SQLiteSessionManager("test", db_path) as session_manager:
        second = build_agent(session_manager, model)
        assert second.messages == first.messages
        second("Who am I?")
    assert [message["role"] for message in model.was_told] == ["user", "assistant", "user"]


def test_a_redaction_leaves_no_trace(tmp_path: Path) -> None:
    """What a guardrail removed is neither shown, nor found, nor anywhere in the file."""
    guardrail = {"redactContent": {"redactUserContentMessage": "[removed]"}}
    with SQLiteSessionManager("test", tmp_path / "sessions.db") as session_manager:
        build_agent(session_manager, ScriptedModel(guardrail))("My card is 4111-1111.")
        assert stored(session_manager)[0] == ("user", {"text": "[removed]"})
        assert session_manager.search_messages("4111") == []
    for path in tmp_path.iterdir():
        assert b"4111" not in path.read_bytes()


def test_a_question_outlives_a_model_that_fails(session_manager: SQLiteSessionManager) -> None:
    """A message is stored before the agent goes on: whatever breaks then, the next agent knows the question."""
    agent = build_agent(session_manager, ScriptedModel(ConnectionError("the provider is down")))
    with pytest.raises(Exception, match="the provider is down"):
        agent("Where is order 4711?")
    assert stored(session_manager) == [("user", {"text": "Where is order 4711?"})]


def main() -> int:
    """Have pytest run this file, and leave nothing behind; your project needs no such function."""
    with tempfile.TemporaryDirectory() as folder:
        return int(
            pytest.main([__file__, "--verbose", "--no-header", "-p", "no:cacheprovider", f"--basetemp={folder}/t"])
        )


if __name__ == "__main__":
    sys.exit(main())
