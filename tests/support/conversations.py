"""Short conversations of every kind, and `build` for a real agent with tools."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import BeforeToolCallEvent, HookProvider, HookRegistry
from strands.session.repository_session_manager import RepositorySessionManager

from .fresh_processes import held_by, open_session
from .scripted_model import OVERFLOW, REDACT_INPUT, ScriptedModel, tool_use

SECRET = "4111-1111"
CONFESSION = f"my card is {SECRET}, " * 100  # long enough to leave a trace if it is only replaced


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@tool
def look_up() -> str:
    """Find out a secret."""
    return CONFESSION


@tool
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@tool(context=True)
def remember(key: str, value: Any, tool_context: ToolContext) -> str:
    """Put something into the agent's state."""
    tool_context.agent.state.set(key, value)
    return f"I remember {key}"


@tool(context=True)
def ask(question: str, tool_context: ToolContext) -> str:
    """Ask the human, who may answer tomorrow."""
    return f"the answer is {tool_context.interrupt('question', reason={'question': question})}"


TOOLS = [shout, look_up, fail, remember, ask]


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Approval(HookProvider):
    """Asks the human before anything is shouted."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Listen for tool calls."""
        registry.add_callback(BeforeToolCallEvent, self.approve)

    def approve(self, event: BeforeToolCallEvent) -> None:
        """Let the call through when the human said yes."""
        if event.tool_use["name"] == "shout" and event.interrupt("approval", reason="loud") != "yes":
            event.cancel_tool = "not approved"


IMAGE = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}


def build(session_manager: RepositorySessionManager | None, *script: Any, **options: Any) -> Agent:
    """Build an agent that has every tool and a scripted model."""
    return Agent(
        model=ScriptedModel(*script), tools=TOOLS, session_manager=session_manager, callback_handler=None, **options
    )


@dataclass(frozen=True)
class Conversation:
    """A conversation.

    Attributes:
        prompts: What the user says.
        script: What the model says; `reply N` when that is over.
        options: Returns more arguments for the agent, new for each one.
    """

    prompts: tuple[Any, ...]
    script: tuple[Any, ...] = ()
    options: Callable[[], dict[str, Any]] = dict

    def agent(self, session_manager: RepositorySessionManager) -> Agent:
        """Build the agent; where the session has been played before, it resumes."""
        return build(session_manager, *self.script, **self.options())

    def play(self, session_manager: RepositorySessionManager) -> Agent:
        """Have the conversation."""
        agent = self.agent(session_manager)
        for prompt in self.prompts:
            agent(prompt)
        return agent


def _many(count: int) -> tuple[str, ...]:
    return tuple(f"prompt {number}" for number in range(count))


def _summarizing() -> dict[str, Any]:
    summarizer = Agent(model=ScriptedModel("first summary", "second summary"), callback_handler=None)
    return {"conversation_manager": SummarizingConversationManager(0.5, 2, summarizer)}


CONVERSATIONS = {
    "no turn yet": Conversation(prompts=()),
    "plain turns": Conversation(prompts=("hello", "wie heißt du? 🦜", "zero \0 and\nnew line")),
    "a tool": Conversation(("shout hi",), ([tool_use("shout", "t1", text="hi")], "it says HI")),
    "two tools in a row": Conversation(
        ("shout", "and again"), ([tool_use("shout", "t1", text="a")], [tool_use("shout", "t2", text="b")], "done")
    ),
    "parallel tools": Conversation(
        ("shout twice",), ([{"text": "yes"}, tool_use("shout", "t1", text="a"), tool_use("shout", "t2", text="b")],)
    ),
    "a tool that fails": Conversation(("fail",), ([tool_use("fail", "t1", reason="no luck")], "sorry")),
    "a tool that is not there": Conversation(("try",), ([tool_use("unheard_of", "t1")], "sorry")),
    "state set in a tool": Conversation(
        ("remember",), ([tool_use("remember", "t1", key="city", value={"name": "Köln", "zip": [50667]})],)
    ),
    "state from the start": Conversation(("hello",), options=lambda: {"state": {"count": 1}}),
    "redacted user content": Conversation((CONFESSION, "hello"), (REDACT_INPUT,)),
    "a redacted tool result": Conversation(("look it up", "hello"), ([tool_use("look_up", "t1")], REDACT_INPUT)),
    "an image": Conversation(([{"text": "look"}, IMAGE], "nice?")),
    "messages from the start": Conversation(
        ("hello",), options=lambda: {"messages": [{"role": "user", "content": [{"text": f"{n}"}]} for n in range(10)]}
    ),
    "null conversation manager": Conversation(
        _many(5), options=lambda: {"conversation_manager": NullConversationManager()}
    ),
    "sliding window": Conversation(
        _many(7), options=lambda: {"conversation_manager": SlidingWindowConversationManager(window_size=4)}
    ),
    "sliding window and overflow": Conversation(
        _many(3),
        ("one", "two", OVERFLOW, "three"),
        lambda: {"conversation_manager": SlidingWindowConversationManager()},
    ),
    "summarizing twice": Conversation(_many(6), ("1", "2", "3", OVERFLOW, "4", "5", OVERFLOW, "6"), _summarizing),
    "summarizing by itself": Conversation(
        _many(3),
        ("one", "two", OVERFLOW, "a summary", "three"),
        lambda: {"conversation_manager": SummarizingConversationManager(0.5, 2)},
    ),
    "interrupted in a tool": Conversation(
        ("ask",), ([tool_use("shout", "t1", text="a"), tool_use("ask", "t2", question="why?")],)
    ),
    "interrupted in a hook": Conversation(
        ("shout",), ([tool_use("shout", "t1", text="a")],), lambda: {"hooks": [Approval()]}
    ),
}


# What other processes do.


def resume(folder: Path, agent_id: str = "default") -> dict[str, Any]:
    """What an agent without options finds in the session."""
    return held_by(build(open_session("sqlite", "session", folder), agent_id=agent_id))


def resume_conversation(name: str, folder: Path) -> dict[str, Any]:
    """What the agent of a history finds in the session."""
    return held_by(CONVERSATIONS[name].agent(open_session("sqlite", "session", folder)))


def answer(name: str, folder: Path, responses: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Resume an interrupted agent and pass on what the human says."""
    agent = CONVERSATIONS[name].agent(open_session("sqlite", "session", folder))
    agent.model = ScriptedModel("thanks")
    return agent(responses).stop_reason, held_by(agent)
