"""An agent that records what it holds, in a process that is killed at a chosen or random moment."""

import json
import os
import signal
import time
from collections.abc import AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from strands import Agent, tool
from strands.hooks import (
    AfterInvocationEvent,
    AfterModelCallEvent,
    AfterToolCallEvent,
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    HookProvider,
    HookRegistry,
    MessageAddedEvent,
)
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException

from .histories import HISTORIES, SESSION
from .histories.history import TOOLS, build, call, say
from .histories.turns import answers
from .recording_manager import Recorder, held, written
from .scripted_model import OVERFLOW, REDACT_INPUT, ScriptedModel

DATABASE = "sessions.db"
DIARY = "diary"


class Clock:
    """Counts the moments of a life, and ends it at the last one."""

    def __init__(self, last: int | None = None) -> None:
        self.moments = 0
        self._last = last

    def tick(self, *_: Any) -> None:
        """Count one; die if it is the last."""
        self.moments += 1
        if self.moments == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Recorder):
    """Writes into a diary what a resume must find after each event, and after the event what the agent holds."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(SESSION, folder / DATABASE)
        self._diary = os.open(folder / DIARY, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._tick = clock.tick

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        self._expect(agent)
        super().initialize(agent, **kwargs)

    def append_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        self._expect(agent)
        super().append_message(message, agent, **kwargs)

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        self._expect(agent)
        super().sync_agent(agent, **kwargs)

    def redact_latest_message(self, redact_message: Message, agent: Any, **kwargs: Any) -> None:
        self._expect(agent)
        super().redact_latest_message(redact_message, agent, **kwargs)

    def _expect(self, agent: Any) -> None:
        self._tick()
        self._enter("expected", held(agent))

    def _note(self, agent: Any) -> None:
        super()._note(agent)
        self._enter("held", self.held[agent.agent_id], written(self.log.messages()))
        self._tick()

    def _enter(self, *entry: str) -> None:
        os.write(self._diary, json.dumps(entry).encode() + b"\n")


def read_diary(folder: Path) -> tuple[list[str], list[str]]:
    """Return the last entry of what was held, with the history, and whatever was expected after it."""
    lines = (folder / DIARY).read_bytes().split(b"\n")[:-1]  # an entry without an end was never written
    entries = [json.loads(line) for line in lines]
    last = max((index for index, entry in enumerate(entries) if entry[0] == "held"), default=-1)
    return entries[last][1:] if last >= 0 else [], [entry[1] for entry in entries[last + 1 :]]


class MortalModel(ScriptedModel):
    """A scripted model, in whose every word a life can end."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._tick = clock.tick

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        async for event in super().stream(messages, *args, **kwargs):
            self._tick()
            yield event


class MortalHooks(HookProvider):
    """Hooks on everything that happens, in which a life can end."""

    def __init__(self, clock: Clock) -> None:
        self._tick = clock.tick

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        for event_type in (
            BeforeInvocationEvent,
            MessageAddedEvent,
            BeforeModelCallEvent,
            AfterModelCallEvent,
            BeforeToolCallEvent,
            AfterToolCallEvent,
            AfterInvocationEvent,
        ):
            registry.add_callback(event_type, self._tick)


def mortal_agent(name: str, folder: Path, clock: Clock) -> Agent:
    """Build an agent that is configured for a history and can be killed anywhere."""

    @tool
    def toil() -> str:
        """Work."""
        clock.tick()
        return "sweat"

    arguments = HISTORIES[name].arguments()
    arguments["hooks"] = [*arguments.get("hooks", ()), MortalHooks(clock)]
    return build(Mortal(folder, clock), {**arguments, "model": MortalModel(clock), "tools": [*TOOLS, toil]})


def lead_a_life(agent: Agent) -> None:
    """Do a bit of everything."""
    say(agent, "toil", [call("toil", "t1"), call("toil", "t2"), call("recite", "t3", lines=40)], "done")
    agent.state.set("between", ["turns"])
    say(agent, "remember", [call("remember", "t4", key="mood", value={"good": True})], "done")
    say(agent, "a secret", REDACT_INPUT)
    with suppress(ContextWindowOverflowException):
        say(agent, "too much", OVERFLOW, "it fits", "now it fits")
    result = say(agent, "ask", [call("ask", "t5", question="why?")])
    say(agent, answers(result, "because"))


def live(name: str, folder: Path, last: int | None = None) -> int:
    """Live until the last moment; return how many there were."""
    clock = Clock(last)
    lead_a_life(mortal_agent(name, folder, clock))
    return clock.moments


def live_on_borrowed_time(name: str, folder: Path, seconds: float | None = None) -> float:
    """Live until some CPU time is used; return how much was."""
    agent = mortal_agent(name, folder, Clock())
    start = time.process_time()
    if seconds is not None:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal kills, unless it is handled
    lead_a_life(agent)
    return time.process_time() - start
