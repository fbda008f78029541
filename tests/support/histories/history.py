"""A history: a way to build an agent, and a way to drive it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strands import Agent, ToolContext, tool
from strands.session.session_manager import SessionManager
from strands.types.content import Message

from ..scripted_model import ScriptedModel

PICTURE = bytes(range(256))


@tool
def lookup(key: str) -> str:
    """Look something up."""
    return f"the value of {key}"


@tool
def recite(lines: int) -> str:
    """Recite a long text."""
    return "\n".join(f"line {number} of {lines}" for number in range(lines))


@tool
def photograph() -> dict[str, Any]:
    """Take a picture."""
    picture = {"image": {"format": "png", "source": {"bytes": PICTURE}}}
    return {"status": "success", "content": [{"text": "a picture"}, picture]}


@tool
def stumble() -> str:
    """Fail."""
    raise RuntimeError("stumbled")


@tool(context=True)
def remember(key: str, value: Any, tool_context: ToolContext) -> str:
    """Keep something in the agent's state."""
    tool_context.agent.state.set(key, value)
    return f"remembered {key}"


@tool(context=True)
def forget(tool_context: ToolContext) -> str:
    """Drop the first message of the conversation."""
    del tool_context.agent.messages[0]
    return "forgotten"


@tool(context=True)
def ask(question: str, tool_context: ToolContext) -> str:
    """Ask a person."""
    return f"the answer is {tool_context.interrupt('question', reason={'text': question})}"


TOOLS = [lookup, recite, photograph, stumble, remember, forget, ask]


def build(session_manager: SessionManager, arguments: dict[str, Any], agent_id: str = "default") -> Agent:
    """Build an agent with the arguments of a history, and a scripted model and some tools if it has none."""
    return Agent(
        **{
            "model": ScriptedModel(),
            "tools": TOOLS,
            "callback_handler": None,
            "agent_id": agent_id,
            "session_manager": session_manager,
            **arguments,
        }
    )


def say(agent: Agent, prompt: Any, *replies: Any, **options: Any) -> Any:
    """Run one turn, in which the model gives these replies."""
    agent.model.replies = list(replies)
    return agent(prompt, **options)


def call(name: str, tool_use_id: str, /, **arguments: Any) -> dict[str, Any]:
    """Build a content block that calls a tool."""
    return {"toolUse": {"toolUseId": tool_use_id, "name": name, "input": arguments}}


def user(text: str) -> Message:
    """Build a message as a program adds one: without a tracking id."""
    return {"role": "user", "content": [{"text": text}]}


def accepts(function: Callable[..., Any], parameter: str) -> bool:
    """Return whether a function of the installed Strands has a parameter."""
    return parameter in inspect.signature(function).parameters


@dataclass(frozen=True)
class History:
    """A way to build an agent and a way to drive it.

    Attributes:
        arguments: Returns the arguments of an agent that is configured for this history.
        drive: Puts an agent through it; it ends with an event that reaches the session manager.
        missing: What the history needs and the installed Strands lacks, if anything.
    """

    arguments: Callable[[], dict[str, Any]]
    drive: Callable[[Agent], None]
    missing: str = ""

    def build(self, session_manager: SessionManager, agent_id: str = "default") -> Agent:
        """Build an agent for it."""
        return build(session_manager, self.arguments(), agent_id)


class Histories(dict[str, History]):
    """A table of histories, by name."""

    def add(
        self, arguments: Callable[[], dict[str, Any]] = dict, *, missing: str | bool = ""
    ) -> Callable[[Callable[[Agent], None]], Callable[[Agent], None]]:
        """Decorate the function that drives an agent; its name is the history's."""

        def register(drive: Callable[[Agent], None]) -> Callable[[Agent], None]:
            name = drive.__name__.replace("_", " ")
            assert name not in self, name
            self[name] = History(arguments, drive, missing or "")
            return drive

        return register
