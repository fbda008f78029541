"""Histories in which a program, a tool, or a hook edits the agent's list of messages."""

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from strands import Agent
from strands.hooks import AfterInvocationEvent, BeforeModelCallEvent, HookProvider, HookRegistry, MessageAddedEvent

from ..scripted_model import REDACT_INPUT
from .history import Histories, History, accepts, call, say, user

Edit = Callable[[Agent], None]


def _edit_in_place(agent: Agent) -> None:
    for message in agent.messages[:1]:
        message["content"].append({"text": "more"})


def _replace(agent: Agent) -> None:
    for message in agent.messages[-1:]:
        agent.messages[-1] = {**message, "content": [{"text": "another"}]}


def _replace_by_stranger(agent: Agent) -> None:
    agent.messages[:1] = [user("a stranger")]


def _repeat_object(agent: Agent) -> None:
    agent.messages[:0] = agent.messages[-1:]


def _repeat_copy(agent: Agent) -> None:
    agent.messages[:0] = copy.deepcopy(agent.messages[-1:])


def _repeat_edited(agent: Agent) -> None:
    for message in agent.messages[:1]:
        agent.messages.insert(1, {**message, "content": [{"text": "the same, otherwise"}]})


def _remove_first(agent: Agent) -> None:
    del agent.messages[:1]


def _remove_last(agent: Agent) -> None:
    del agent.messages[-1:]


def _pin(agent: Agent) -> None:
    for message in agent.messages[:1]:
        message["metadata"] = {"custom": {"pinned": True}}  # type: ignore[typeddict-unknown-key,unused-ignore]


def _strip(agent: Agent) -> None:
    for message in agent.messages:
        message.pop("tracking_id", None)  # type: ignore[typeddict-item,unused-ignore]


def _assign(agent: Agent) -> None:
    agent.messages = [*copy.deepcopy(agent.messages[-2:]), user("assigned")]


EDITS: dict[str, Edit] = {
    "edits one in place": _edit_in_place,
    "replaces one": _replace,
    "replaces one by a stranger": _replace_by_stranger,
    "repeats one": _repeat_object,
    "repeats a copy of one": _repeat_copy,
    "repeats one otherwise": _repeat_edited,
    "removes the first": _remove_first,
    "removes the last": _remove_last,
    "removes all": lambda agent: agent.messages.clear(),
    "reorders them": lambda agent: agent.messages.reverse(),
    "inserts one": lambda agent: agent.messages.insert(0, user("inserted")),
    "appends one": lambda agent: agent.messages.append(user("appended")),
    "pins one": _pin,
    "strips their tracking ids": _strip,
    "assigns a list of equal copies": lambda agent: setattr(agent, "messages", copy.deepcopy(agent.messages)),
    "assigns another list": _assign,
}
"""Everything that a program can do to `agent.messages`, each on a list of any length."""

EDITED = Histories()


def edited_between_turns(edit: Edit) -> Callable[[Agent], None]:
    """Return a history in which a program edits the messages between turns."""

    def drive(agent: Agent) -> None:
        for number in range(4):
            say(agent, f"question {number}")
        edit(agent)
        say(agent, "after the edit")
        edit(agent)
        say(agent, "after another edit")

    return drive


class EditsAt(HookProvider):
    """Edits the messages at every event of a type."""

    def __init__(self, event_type: type[Any], edit: Edit, **order: float) -> None:
        self._event_type = event_type
        self._edit = edit
        self._order = order

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        registry.add_callback(self._event_type, lambda event: self._edit(event.agent), **self._order)


def turns(agent: Agent) -> None:
    """Have some turns."""
    for number in range(3):
        say(agent, f"question {number}")


NO_ORDER = "" if accepts(HookRegistry.add_callback, "order") else "this Strands runs hooks in the order they come in"
MOMENTS: dict[str, tuple[type[Any], dict[str, float], str]] = {
    "when a message is added": (MessageAddedEvent, {}, ""),
    "before others when a message is added": (MessageAddedEvent, {"order": -1000}, NO_ORDER),
    "before a model call": (BeforeModelCallEvent, {}, ""),
    "after an invocation": (AfterInvocationEvent, {}, ""),
    "after an invocation and all others": (AfterInvocationEvent, {"order": 1000}, NO_ORDER),
    "at the very end of an invocation": (AfterInvocationEvent, {"order": float("inf")}, NO_ORDER),
}


def hooked(event_type: type[Any], edit: Edit, order: dict[str, float]) -> Callable[[], dict[str, Any]]:
    """Configure a hook that edits the messages."""
    return lambda: {"hooks": [EditsAt(event_type, edit, **order)]}


EDITED.update({f"a program that {name}": History(dict, edited_between_turns(edit)) for name, edit in EDITS.items()})
EDITED.update(
    {
        f"a hook that {name} {moment}": History(hooked(event_type, edit, order), turns, missing)
        for moment, (event_type, order, missing) in MOMENTS.items()
        for name, edit in EDITS.items()
    }
)


@EDITED.add()
def the_first_two_deleted_and_another_turn(agent: Agent) -> None:
    turns(agent)
    del agent.messages[0:2]
    say(agent, "where were we?")


@EDITED.add()
def a_shortened_list_and_a_list_of_others(agent: Agent) -> None:
    turns(agent)
    agent.messages = agent.messages[-2:]
    say(agent, "shorter")
    agent.messages = [user("not said"), {"role": "assistant", "content": [{"text": "nor heard"}]}]
    say(agent, "elsewhere")


@EDITED.add()
def what_was_removed_comes_back(agent: Agent) -> None:
    turns(agent)
    removed = agent.messages[1:3]
    del agent.messages[1:3]
    say(agent, "something is missing")
    agent.messages[1:1] = removed
    say(agent, "it is back")


@EDITED.add()
def what_was_removed_comes_back_as_a_copy(agent: Agent) -> None:
    turns(agent)
    removed = copy.deepcopy(agent.messages[1:3])
    del agent.messages[1:3]
    say(agent, "something is missing")
    agent.messages[:0] = removed
    say(agent, "it is back")


@EDITED.add()
def an_edit_that_is_undone(agent: Agent) -> None:
    turns(agent)
    agent.messages[0]["content"].append({"text": "more"})
    say(agent, "there was more")
    agent.messages[0]["content"].pop()
    say(agent, "no more")


@EDITED.add()
def two_messages_that_trade_their_contents(agent: Agent) -> None:
    turns(agent)
    first, third = agent.messages[0], agent.messages[2]
    first["content"], third["content"] = third["content"], first["content"]
    say(agent, "now?")


@EDITED.add()
def two_messages_that_trade_their_tracking_ids(agent: Agent) -> None:
    turns(agent)
    for message, name in zip(agent.messages, ("a", "b", "a"), strict=False):
        message["tracking_id"] = name  # type: ignore[typeddict-unknown-key,unused-ignore]
    say(agent, "now?")
    agent.messages[0]["tracking_id"], agent.messages[1]["tracking_id"] = "b", "a"  # type: ignore
    say(agent, "and now?")


@EDITED.add()
def equal_messages_of_which_one_is_edited(agent: Agent) -> None:
    agent.messages.extend(user("the same") for _ in range(3))
    say(agent, "the same")
    agent.messages[1]["content"][0]["text"] = "not the same"
    say(agent, "the same")


@EDITED.add()
def the_same_object_many_times_edited(agent: Agent) -> None:
    turns(agent)
    agent.messages.extend([agent.messages[0]] * 3)
    say(agent, "again and again")
    agent.messages[0]["content"].append({"text": "everywhere"})
    say(agent, "everywhere?")
    agent.messages[0] = copy.deepcopy(agent.messages[0])
    agent.messages[0]["content"].append({"text": "only here"})
    say(agent, "only there?")


@EDITED.add()
def messages_without_text(agent: Agent) -> None:
    agent.messages.extend([{"role": "user", "content": []}, {"role": "assistant", "content": [{}]}])
    say(agent, "question")


@EDITED.add()
def a_tool_that_drops_the_first_message(agent: Agent) -> None:
    turns(agent)
    say(agent, "forget", [call("forget", "t1")])


@EDITED.add()
def a_model_call_in_which_messages_are_edited(agent: Agent) -> None:
    def reply(messages: Any) -> str:
        agent.messages.insert(0, user("inserted"))
        return "said"

    turns(agent)
    say(agent, "question", reply)


@EDITED.add()
def a_redaction_of_an_edited_message(agent: Agent) -> None:
    agent.hooks.add_callback(MessageAddedEvent, lambda event: event.message["content"].append({"text": "a secret"}))
    say(agent, "a secret", REDACT_INPUT)
    say(agent, "question")


@EDITED.add()
def a_redaction_after_the_list_was_replaced(agent: Agent) -> None:
    def replace(event: MessageAddedEvent) -> None:
        event.agent.messages = copy.deepcopy(event.agent.messages)

    agent.hooks.add_callback(MessageAddedEvent, replace)
    say(agent, "a secret", REDACT_INPUT)


@EDITED.add()
def a_redaction_of_a_message_that_is_there_twice(agent: Agent) -> None:
    agent.hooks.add_callback(MessageAddedEvent, lambda event: event.agent.messages.append(event.message))
    say(agent, "a secret", REDACT_INPUT)
    say(agent, "question")


@EDITED.add()
def a_redaction_of_a_message_that_was_not_said(agent: Agent) -> None:
    agent.hooks.add_callback(MessageAddedEvent, lambda event: event.agent.messages.append(user("a secret")))
    say(agent, "question", REDACT_INPUT)
    say(agent, "question")


@EDITED.add()
def a_redaction_of_one_of_two_equal_messages(agent: Agent) -> None:
    prompt = [user("a secret")]
    for attempt in (prompt, "something else"):
        with suppress(RuntimeError):
            say(agent, attempt, RuntimeError("no model"))
        agent.messages.insert(0, copy.deepcopy(prompt[0]))
    say(agent, prompt, REDACT_INPUT)
