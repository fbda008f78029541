"""A BidiAgent with a scripted model, in the events of the installed Strands.

Importing this fails where Strands has no BidiAgent, or lacks what it needs.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from strands import hooks

try:
    from strands.bidi import BidiAgent
    from strands.bidi.models import BidiModel
    from strands.bidi.types import events

    STORED_EVENTS = (hooks.MessageAddedEvent, hooks.MessageUpdatedEvent)
    EARLY = False
except ModuleNotFoundError:
    from strands.experimental import hooks as early_hooks
    from strands.experimental.bidi import BidiAgent, BidiModel
    from strands.experimental.bidi.types import events
    from strands.types._events import ToolUseStreamEvent

    STORED_EVENTS = (getattr(early_hooks, "BidiMessageAddedEvent", hooks.MessageAddedEvent),)
    EARLY = True

from strands.session.repository_session_manager import RepositorySessionManager

from .conversations import TOOLS
from .fresh_processes import held_by, open_session

WAIT = object()
"""In a script: wait until something was sent to the model, such as a prompt or the result of a tool."""

if EARLY:
    HANG_UP = events.BidiConnectionCloseEvent("connection", "user_request")
else:
    HANG_UP = events.BidiConnectionStopEvent("connection", "user_request")


def said(role: str, *parts: str) -> list[Any]:
    """A person speaks; where Strands announces it, there is a placeholder until the person stops."""
    if EARLY:
        text = "".join(parts)
        return [events.BidiTranscriptStreamEvent({"text": text}, text, role, is_final=True)]
    content_id = f"{role} {parts}"
    deltas = [events.BidiTranscriptDeltaEvent(part, role, content_id) for part in parts]
    return [
        events.BidiTranscriptStartEvent(role, content_id),
        *deltas,
        events.BidiTranscriptStopEvent(role, content_id),
    ]


def called(name: str, tool_use_id: str, **arguments: Any) -> list[Any]:
    """The model calls a tool and waits for its result."""
    use = {"toolUseId": tool_use_id, "name": name, "input": arguments}
    if EARLY:
        return [ToolUseStreamEvent({"toolUse": {"input": ""}}, use), WAIT]
    return [events.BidiToolUseBlocksEvent([use]), WAIT]


class ScriptedSpeech(BidiModel):
    """Plays a script of events to the connected agent."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.config: dict[str, Any] = {"model_id": "scripted"}
        self.told: list[Any] = []

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """Return the model's id."""
        return self.config

    async def start(self, system_prompt: Any = None, tools: Any = None, messages: Any = None, **kwargs: Any) -> None:
        """Connect, and remember which history came with it."""
        self.told = list(messages)
        self._sent: asyncio.Queue[Any] = asyncio.Queue()

    async def stop(self) -> None:
        """There is nothing to disconnect."""

    async def send(self, content: Any) -> None:
        """Take what is sent."""
        await self._sent.put(content)

    async def receive(self) -> AsyncGenerator[Any, None]:
        """Play the script."""
        for event in self.script:
            if event is WAIT:
                await self._sent.get()
            else:
                yield event


def build(session_manager: RepositorySessionManager, *script: Any, **options: Any) -> BidiAgent:
    """Build an agent that has every tool and a scripted model."""
    return BidiAgent(model=ScriptedSpeech(*script), tools=TOOLS, session_manager=session_manager, **options)


async def talk(agent: BidiAgent, *prompts: str, on_event: Any = None) -> None:
    """Run the conversation of the agent's script, until it hangs up."""
    await agent.start()
    try:
        for prompt in prompts:
            await agent.send(prompt)
        async for event in agent.receive():
            if on_event:
                on_event(event)
    finally:
        await agent.stop()


# What other processes do.


def resume(folder: Path) -> dict[str, Any]:
    """What a new agent finds in the session."""
    return held_by(build(open_session("sqlite", "session", folder)))


def go_on(folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """Resume and talk; return the history that the model received, and what the agent holds then."""
    agent = build(open_session("sqlite", "session", folder), WAIT, *said("assistant", "welcome back"), HANG_UP)
    asyncio.run(talk(agent, "me again"))
    return agent.model.told, held_by(agent)
