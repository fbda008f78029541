"""Histories of what agents do: turns, tools, redactions, interrupts, failures, and cancellations."""

import asyncio
import copy
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from strands import Agent
from strands.agent.state import AgentState
from strands.hooks import (
    BeforeInvocationEvent,
    BeforeModelCallEvent,
    BeforeToolCallEvent,
    HookProvider,
    HookRegistry,
    MessageAddedEvent,
)
from strands.models import Model
from strands.types.exceptions import EventLoopException, SessionException

from ..scripted_model import REDACT_INPUT, ScriptedModel
from .history import PICTURE, Histories, accepts, call, lookup, say, user

TURNS = Histories()


@TURNS.add()
def nothing_at_all(agent: Agent) -> None:
    pass


@TURNS.add()
def plain_turns(agent: Agent) -> None:
    for number in range(3):
        say(agent, f"question {number}")


@TURNS.add(lambda: {"messages": [user("before"), {"role": "assistant", "content": [{"text": "there was a session"}]}]})
def messages_from_the_start(agent: Agent) -> None:
    pass


@TURNS.add(lambda: {"messages": [user("before")], "state": {"mood": "good"}})
def messages_and_state_from_the_start_and_a_turn(agent: Agent) -> None:
    say(agent, [{"text": "question"}, {"text": "in two parts"}])


@TURNS.add()
def several_messages_in_one_prompt(agent: Agent) -> None:
    say(agent, [user("one"), {"role": "assistant", "content": [{"text": "two"}]}, user("three")])


@TURNS.add()
def an_empty_prompt(agent: Agent) -> None:
    say(agent, "question")
    say(agent, None)


@TURNS.add()
def tools(agent: Agent) -> None:
    say(agent, "look it up", [call("lookup", "t1", key="a")], [call("lookup", "t2", key="b")], "done")


@TURNS.add()
def parallel_tools(agent: Agent) -> None:
    say(agent, "both", [{"text": "yes"}, *(call("lookup", f"t{key}", key=str(key)) for key in range(5))])


@TURNS.add(
    lambda: {"background_tasks": {"always": ["lookup"]}},
    missing="" if accepts(Agent, "background_tasks") else "this Strands runs no tools in the background",
)
def tools_in_the_background(agent: Agent) -> None:
    say(agent, "both", [call("lookup", "t1", key="a"), call("lookup", "t2", key="b")], "wait", "done")
    assert "manage_background_task" in str(agent.messages)
    say(agent, "and on")


@TURNS.add()
def a_tool_called_directly(agent: Agent) -> None:
    agent.tool.lookup(key="a")


@TURNS.add()
def a_tool_that_does_not_exist(agent: Agent) -> None:
    say(agent, "try", [call("unheard_of", "t1")], "no luck")


@TURNS.add()
def bytes_in_a_prompt_and_in_a_tool_result(agent: Agent) -> None:
    picture = {"image": {"format": "png", "source": {"bytes": PICTURE}}}
    say(agent, [picture, {"text": "what is it?"}], [call("photograph", "t1")], "the same")


@TURNS.add()
def state_set_by_tools_and_between_turns(agent: Agent) -> None:
    say(agent, "remember", [call("remember", "t1", key="list", value=[1, {"deep": None}])])
    agent.state.set("between", "turns")
    say(agent, "again", [call("remember", "t2", key="list", value=[])])
    agent.state.delete("between")
    say(agent, "and again")


@TURNS.add(lambda: {"state": {"old": True}})
def another_state_object(agent: Agent) -> None:
    say(agent, "question")
    agent.state = AgentState({"new": True})
    say(agent, "another")


@TURNS.add(lambda: {"state": {"done": 1, "share": 1}})
def a_state_that_changes_its_type_alone(agent: Agent) -> None:
    agent.state.set("done", True)
    agent.state.set("share", 1.0)
    say(agent, "question")


@TURNS.add()
def guardrail_redaction(agent: Agent) -> None:
    say(agent, "a secret", REDACT_INPUT)
    say(agent, "question")


@TURNS.add()
def guardrail_redaction_of_a_tool_result(agent: Agent) -> None:
    say(agent, "look it up", [call("lookup", "t1", key="secret")], REDACT_INPUT)


@TURNS.add()
def a_prompt_that_is_tried_again_and_then_redacted(agent: Agent) -> None:
    prompt = [user("a secret")]
    with suppress(RuntimeError):
        say(agent, prompt, RuntimeError("no model"))
    say(agent, prompt, REDACT_INPUT)


@TURNS.add()
def a_prompt_that_is_tried_again_behind_a_note_and_then_redacted(agent: Agent) -> None:
    prompt = [user("a secret")]
    with suppress(RuntimeError):
        say(agent, prompt, RuntimeError("no model"))
    agent.messages.insert(0, user("a note"))
    say(agent, prompt, REDACT_INPUT)


class Person(BaseModel):
    """A person."""

    name: str


@TURNS.add()
def structured_output(agent: Agent) -> None:
    say(agent, "who?", [call("Person", "t1", name="Ada")], structured_output_model=Person)


@TURNS.add()
def structured_output_that_must_be_demanded(agent: Agent) -> None:
    say(agent, "who?", "somebody", [call("Person", "t1", name="Ada")], structured_output_model=Person)


@TURNS.add()
def structured_output_that_is_wrong_at_first(agent: Agent) -> None:
    wrong, right = [call("Person", "t1", age=3)], [call("Person", "t2", name="Ada")]
    say(agent, "who?", wrong, right, structured_output_model=Person)


@TURNS.add()
def a_tool_that_fails(agent: Agent) -> None:
    say(agent, "try", [call("stumble", "t1"), call("lookup", "t2", key="a")], "one failed")


@TURNS.add()
def a_turn_in_which_the_model_fails(agent: Agent) -> None:
    with suppress(EventLoopException):
        say(agent, "question", [call("lookup", "t1", key="a")], RuntimeError("no model"))


@TURNS.add()
def a_turn_in_which_the_model_fails_and_another(agent: Agent) -> None:
    with suppress(RuntimeError):
        say(agent, "question", RuntimeError("no model"))
    say(agent, "once more")


@TURNS.add()
def a_message_that_cannot_be_stored_and_another(agent: Agent) -> None:
    say(agent, "question")
    agent.state.set("before", "the failure")
    with suppress(SessionException):
        say(agent, [user(("a", "tuple"))])  # type: ignore[arg-type]
    del agent.messages[-1]
    say(agent, "never mind")


class FailsOnce(HookProvider):
    """Raises at the first event of a type."""

    def __init__(self, event_type: type[Any]) -> None:
        self._event_type = event_type
        self._failed = False

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(self._event_type, self._fail)

    def _fail(self, event: Any) -> None:
        if not self._failed:
            self._failed = True
            raise ZeroDivisionError


@TURNS.add(lambda: {"hooks": [FailsOnce(BeforeModelCallEvent)]})
def a_hook_that_fails_before_a_model_call_and_another_turn(agent: Agent) -> None:
    with suppress(ZeroDivisionError):
        say(agent, "question")
    say(agent, "never mind")


@TURNS.add(lambda: {"hooks": [FailsOnce(MessageAddedEvent)]})
def a_hook_that_fails_when_a_message_is_added_and_another_turn(agent: Agent) -> None:
    with suppress(ZeroDivisionError):
        say(agent, "question")
    say(agent, "never mind")


class Dawdler(ScriptedModel):
    """A model that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        yield {"messageStart": {"role": "assistant"}}
        self.asked.set()
        await asyncio.Event().wait()


@TURNS.add(lambda: {"model": Dawdler()})
def a_turn_whose_task_is_cancelled(agent: Agent) -> None:
    async def lose_patience() -> None:
        task = asyncio.ensure_future(agent.invoke_async("question"))
        await agent.model.asked.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(lose_patience())


@TURNS.add(missing="" if hasattr(Agent, "cancel") else "this Strands cannot cancel a turn")
def a_turn_cancelled_in_the_model(agent: Agent) -> None:
    def reply(messages: Any) -> str:
        agent.cancel()
        return "never said"

    say(agent, "question", reply)


@TURNS.add(missing="" if hasattr(Agent, "cancel") else "this Strands cannot cancel a turn")
def a_turn_cancelled_before_its_tools(agent: Agent) -> None:
    def cancel(event: BeforeToolCallEvent) -> None:
        event.agent.cancel()

    agent.hooks.add_callback(BeforeToolCallEvent, cancel)
    say(agent, "look it up", [call("lookup", "t1", key="a"), call("lookup", "t2", key="b")])


class Denies(HookProvider):
    """Cancels every event that it receives, as far as the installed Strands lets it."""

    def __init__(self, event_type: type[Any], attribute: str) -> None:
        self._event_type = event_type
        self._attribute = attribute

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(self._event_type, lambda event: setattr(event, self._attribute, "not today"))


@TURNS.add(lambda: {"hooks": [Denies(BeforeToolCallEvent, "cancel_tool")]})
def a_tool_that_a_hook_denies(agent: Agent) -> None:
    say(agent, "look it up", [call("lookup", "t1", key="a")])


@TURNS.add(
    lambda: {"hooks": [Denies(BeforeModelCallEvent, "cancel")]},
    missing="" if hasattr(BeforeModelCallEvent, "cancel") else "this Strands cannot deny a model call",
)
def a_model_call_that_a_hook_denies(agent: Agent) -> None:
    say(agent, "question")


@TURNS.add(
    lambda: {"hooks": [Denies(BeforeInvocationEvent, "cancel")]},
    missing="" if hasattr(BeforeInvocationEvent, "cancel") else "this Strands cannot deny an invocation",
)
def an_invocation_that_a_hook_denies(agent: Agent) -> None:
    say(agent, "question")


class Approval(HookProvider):
    """Asks a person before it lets the tool `lookup` run."""

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(BeforeToolCallEvent, self._approve)

    def _approve(self, event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == lookup.tool_name:
            answer = event.interrupt("approval", reason={"key": event.tool_use["input"]["key"], "picture": PICTURE})
            event.cancel_tool = False if answer == "yes" else f"denied: {answer}"


def answers(result: Any, *responses: Any) -> list[Any]:
    """Build the prompt that answers interrupts."""
    return [
        {"interruptResponse": {"interruptId": interrupt.id, "response": response}}
        for interrupt, response in zip(result.interrupts, responses, strict=True)
    ]


@TURNS.add(lambda: {"hooks": [Approval()]})
def an_interrupt_without_an_answer(agent: Agent) -> None:
    say(agent, "look it up", [call("remember", "t1", key="b", value=2), call("lookup", "t2", key="a")])


@TURNS.add(lambda: {"hooks": [Approval()]})
def an_interrupt_and_its_answer(agent: Agent) -> None:
    result = say(agent, "look it up", [call("lookup", "t1", key="a"), call("recite", "t2", lines=2)])
    say(agent, answers(result, "yes"), "done")


@TURNS.add(lambda: {"hooks": [Approval()]})
def two_interrupts_at_once_and_again(agent: Agent) -> None:
    result = say(agent, "both", [call("lookup", "t1", key="a"), call("lookup", "t2", key="b")])
    say(agent, answers(result, "no", "yes"), [call("lookup", "t3", key="c")])


@TURNS.add()
def an_interrupt_from_a_tool(agent: Agent) -> None:
    say(agent, "ask", [call("ask", "t1", question="why?"), call("lookup", "t2", key="a")])


@TURNS.add()
def an_interrupt_from_a_tool_and_its_answer(agent: Agent) -> None:
    result = say(agent, "ask", [call("ask", "t1", question="why?")])
    say(agent, answers(result, {"because": ["of", 2, "things"]}), "I see")


class ServerSide(ScriptedModel):
    """A model whose provider keeps the conversation."""

    stateful = True

    async def stream(self, messages: Any, *args: Any, model_state: Any = None, **kwargs: Any) -> AsyncIterable[Any]:
        async for event in super().stream(messages, *args, **kwargs):
            yield event
        model_state["response_id"] = f"response {self.calls}"


@TURNS.add(
    lambda: {"model": ServerSide()},
    missing="" if hasattr(Model, "stateful") else "this Strands has no models that keep the conversation",
)
def a_conversation_that_the_model_keeps(agent: Agent) -> None:
    say(agent, "question")
    say(agent, "another", [call("lookup", "t1", key="a")])


@TURNS.add(missing="" if hasattr(Agent, "take_snapshot") else "this Strands takes no snapshots")
def a_snapshot_that_is_loaded(agent: Agent) -> None:
    say(agent, "question")
    snapshot = copy.deepcopy(agent.take_snapshot(preset="session"))
    agent.state.set("after", "the snapshot")
    say(agent, "to be undone")
    agent.load_snapshot(snapshot)
    say(agent, "another way")
