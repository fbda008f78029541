"""Histories of agents whose context is managed, by Strands' own managers and by ones that users might write."""

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from strands import Agent
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.hooks import AfterInvocationEvent, BeforeModelCallEvent, HookProvider, HookRegistry
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException

from ..scripted_model import OVERFLOW, ScriptedModel
from .history import History, accepts, call, say, user

try:
    from strands.agent import _continuation
except ImportError:
    _continuation = None  # type: ignore[assignment,unused-ignore]

CONTEXT: dict[str, History] = {}
Arguments = Callable[[], dict[str, Any]]

NO_PINS = "" if accepts(SlidingWindowConversationManager, "pin_first") else "this Strands pins no messages"
NO_PER_TURN = "" if accepts(SlidingWindowConversationManager, "per_turn") else "this Strands manages after turns only"
NO_COMPRESSION = (
    "" if accepts(SlidingWindowConversationManager, "proactive_compression") else "this Strands waits for overflows"
)
NO_CONTEXT_MANAGER = "" if accepts(Agent, "context_manager") else "this Strands has no context managers"
NO_CONTINUATION = "" if _continuation else "this Strands has no continuations"


def window(size: int, **options: Any) -> Arguments:
    """Configure a sliding window."""
    return lambda: {"conversation_manager": SlidingWindowConversationManager(size, **options)}


def summaries(**options: Any) -> Arguments:
    """Configure summaries of the older half, by an agent of their own."""

    def arguments() -> dict[str, Any]:
        summarizer = Agent(model=ScriptedModel(), callback_handler=None)
        return {
            "conversation_manager": SummarizingConversationManager(
                summary_ratio=0.5, preserve_recent_messages=2, summarization_agent=summarizer, **options
            )
        }

    return arguments


def talk(agent: Agent) -> None:
    """Take some turns, with and without tools."""
    for number in range(4):
        say(agent, f"question {number}")
        say(agent, f"look up {number}", [call("lookup", f"t{number}", key=str(number))], "done")


def chat(agent: Agent) -> None:
    """Take some turns without tools, and overflow in one."""
    for number in range(3):
        say(agent, f"question {number}")
    say(agent, "too much", OVERFLOW, "now it fits")
    say(agent, "and on")


def overflow(agent: Agent) -> None:
    """Talk, overflow, and talk on."""
    talk(agent)
    say(agent, "too much", OVERFLOW, "now it fits")
    say(agent, "and on")


def overflow_twice(agent: Agent) -> None:
    """Overflow, talk on, and overflow again."""
    overflow(agent)
    say(agent, "too much again", OVERFLOW, "now it fits again")


class SmallModel(ScriptedModel):
    """A model with a small context."""

    def get_config(self) -> dict[str, Any]:
        return {"context_window_limit": 40}


def with_small_model(arguments: Arguments) -> Arguments:
    """Give the agent a model with a small context."""
    return lambda: {**arguments(), "model": SmallModel()}


def overflow_that_the_model_sums_up(agent: Agent) -> None:
    """Overflow, have the agent's own model write the summary, and talk on."""
    talk(agent)
    say(agent, "too much", OVERFLOW, "a summary", "now it fits")
    say(agent, "and on")


def long_results(agent: Agent) -> None:
    """Have long texts and a picture as tool results, and overflow over them."""
    say(agent, "recite", [call("recite", "t1", lines=100), call("photograph", "t2")], OVERFLOW, "much")
    say(agent, "and on")


def truncated_results(agent: Agent) -> None:
    """Have tool results truncated."""
    long_results(agent)
    assert any(notice in str(agent.messages) for notice in ("[truncated:", "too large"))


def truncated_and_trimmed_results(agent: Agent) -> None:
    """Have tool results truncated first, and trimmed later."""
    truncated_results(agent)
    overflow_twice(agent)


def talk_and_long_results(agent: Agent) -> None:
    """Have something to drop before the long results."""
    talk(agent)
    long_results(agent)


def very_long_results(agent: Agent) -> None:
    """Have tool results that are offloaded."""
    say(agent, "recite", [call("recite", "t1", lines=2000)], "much")
    say(agent, "again", [call("recite", "t2", lines=3000)], "more")
    assert str(agent.messages).count("Stashed") == 2


def very_long_results_and_overflow(agent: Agent) -> None:
    """Have tool results that are offloaded first, and summarized later."""
    very_long_results(agent)
    overflow_twice(agent)


def tidy_up(agent: Agent) -> None:
    """Have the model pin and summarize its own conversation."""
    talk(agent)
    say(agent, "pin", [call("pin_context", "c1", select=[2, 3])])
    say(agent, "sum up", [call("summarize_context", "c2", keep_recent=4, summary_ratio=0.5)], "a summary")
    assert "pinned" in str(agent.messages)
    assert "a summary" in str(agent.messages)


def tidy_up_and_cut(agent: Agent) -> None:
    """Have the model truncate the conversation that it has summarized."""
    tidy_up(agent)
    say(agent, "cut", [call("truncate_context", "c3", keep_recent=4)])
    say(agent, "and on")


def talk_too_much(agent: Agent) -> None:
    """Take turns that barely fit the model's context."""
    before = len(agent.messages)
    talk(agent)
    assert len(agent.messages) < before + 24


def overflow_without_a_way_out(agent: Agent) -> None:
    """Overflow when nothing can be dropped."""
    with suppress(ContextWindowOverflowException):
        say(agent, "too much", OVERFLOW, OVERFLOW)


class Reorders(ConversationManager):
    """Reverses the messages after every turn."""

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        agent.messages.reverse()

    def reduce_context(self, agent: Agent, e: Exception | None = None, **kwargs: Any) -> None:
        del agent.messages[1:3]


class Rewrites(Reorders):
    """Rewrites every message after every turn."""

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        agent.messages[:] = [
            {"role": message["role"], "content": [{"text": f"rewritten: {len(message['content'])}"}]}
            for message in agent.messages
        ]


class Assigns(Reorders):
    """Gives the agent a new list with copies of the last messages after every turn."""

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        agent.messages = copy.deepcopy(agent.messages[-5:])


class Inserts(Reorders):
    """Keeps a note in front of the conversation that says how often it was written."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Message] = []

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        self.removed_message_count += 1
        self.notes = [user(f"note {self.removed_message_count}")]
        agent.messages[:1] = self.notes

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "notes": self.notes}

    def restore_from_session(self, state: dict[str, Any]) -> list[Message]:
        super().restore_from_session(state)
        self.notes = state["notes"]
        return self.notes


def managed_by(manager: type[ConversationManager]) -> Arguments:
    """Configure a conversation manager that takes no arguments."""
    return lambda: {"conversation_manager": manager()}


CONTEXT.update(
    {
        "no management": History(managed_by(NullConversationManager), talk),
        "no management and an overflow": History(managed_by(NullConversationManager), overflow_without_a_way_out),
        "a sliding window": History(window(4), talk),
        "a sliding window that overflows": History(window(12), overflow_twice),
        "a sliding window that cannot slide": History(window(4), overflow_without_a_way_out),
        "a sliding window of nothing": History(window(0), talk, NO_PINS),
        "a sliding window with pins": History(window(4, pin_first=2), overflow_twice, NO_PINS),
        "a sliding window before every model call": History(window(4, per_turn=True), talk, NO_PER_TURN),
        "a sliding window before every other model call": History(window(4, per_turn=2), overflow_twice, NO_PER_TURN),
        "a sliding window that slides early": History(
            with_small_model(window(40, proactive_compression=True)), talk_too_much, NO_COMPRESSION
        ),
        "a truncated tool result": History(window(20), truncated_results),
        "a truncated tool result that is trimmed later": History(window(20), truncated_and_trimmed_results),
        "a tool result that is not truncated": History(
            window(20, should_truncate_results=False), talk_and_long_results
        ),
        "a summary": History(summaries(), overflow),
        "a summary of a summary": History(summaries(), overflow_twice),
        "a summary with pins": History(summaries(pin_first=2), overflow, NO_PINS),
        "a summary of a summary with pins": History(summaries(pin_first=2), overflow_twice, NO_PINS),
        "a summary made early": History(
            with_small_model(summaries(proactive_compression=True)), talk_too_much, NO_COMPRESSION
        ),
        "a summary by the agent's own model": History(
            lambda: {"conversation_manager": SummarizingConversationManager(0.5, 2)}, overflow_that_the_model_sums_up
        ),
        "nothing to sum up": History(summaries(), overflow_without_a_way_out),
        "an automatic context": History(lambda: {"context_manager": "auto"}, very_long_results, NO_CONTEXT_MANAGER),
        "an automatic context that overflows": History(
            lambda: {"context_manager": "auto"}, very_long_results_and_overflow, NO_CONTEXT_MANAGER
        ),
        "an automatic context in a small model": History(
            with_small_model(lambda: {"context_manager": "auto"}), talk_too_much, NO_CONTEXT_MANAGER
        ),
        "a context that the model manages": History(
            lambda: {"context_manager": "agentic"}, tidy_up, NO_CONTEXT_MANAGER
        ),
        "a context that the model manages and cuts": History(
            lambda: {"context_manager": "agentic"}, tidy_up_and_cut, NO_CONTEXT_MANAGER
        ),
        "a manager that reorders": History(managed_by(Reorders), chat),
        "a manager that rewrites": History(managed_by(Rewrites), chat),
        "a manager that assigns": History(managed_by(Assigns), chat),
        "a manager that inserts": History(managed_by(Inserts), chat),
    }
)


class Continues(HookProvider):
    """Adds to the conversation at the first three events of a type."""

    def __init__(self, event_type: type[Any]) -> None:
        self._event_type = event_type
        self._times = 3

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(self._event_type, self._continue)

    def _continue(self, event: Any) -> None:
        if self._times:
            self._times -= 1
            _continuation.add_input(event, _continuation._ContinuationInput(f"{self._times} to go"))


class Resumes(Continues):
    """Has the agent start over after its first invocations, as a program may."""

    def _continue(self, event: Any) -> None:
        if self._times:
            self._times -= 1
            event.resume = f"{self._times} to go"


NO_RESUME = "" if hasattr(AfterInvocationEvent, "resume") else "this Strands has no resumption by hooks"
CONTEXT.update(
    {
        "a continuation after an invocation": History(
            lambda: {"hooks": [Continues(AfterInvocationEvent)]}, talk, NO_CONTINUATION
        ),
        "a continuation merged into the last prompt": History(
            lambda: {"hooks": [Continues(BeforeModelCallEvent)]}, talk, NO_CONTINUATION
        ),
        "a continuation merged under a sliding window": History(
            lambda: {"hooks": [Continues(BeforeModelCallEvent)], **window(4)()}, overflow, NO_CONTINUATION
        ),
        "an invocation that a hook resumes": History(
            lambda: {"hooks": [Resumes(AfterInvocationEvent)]}, talk, NO_RESUME
        ),
    }
)
