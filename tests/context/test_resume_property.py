"""After any random history, a new agent holds what the live one held, and so does a fork through any message.

A copy in memory is the reference.
"""

import copy
import json
import logging
import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from strands import Agent
from strands.hooks import (
    AfterInvocationEvent,
    AfterToolCallEvent,
    BeforeModelCallEvent,
    HookProvider,
    HookRegistry,
    MessageAddedEvent,
)
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException

import strands_sqlite_session_manager
from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.histories import HISTORIES, SESSION
from ..support.histories.broken_tool_use import without_new_tracking_ids
from ..support.histories.edits import EDITS, Edit
from ..support.histories.history import build, call, say, user
from ..support.histories.turns import answers
from ..support.recording_manager import Log, Recorder, held, written
from ..support.scripted_model import REDACT_INPUT

CONFIGURED_AS = [
    name
    for name in (
        "plain turns",
        "a sliding window",
        "a sliding window with pins",
        "a sliding window before every model call",
        "a summary",
        "a summary with pins",
        "a summary by the agent's own model",
        "an automatic context",
        "a manager that rewrites",
        "a manager that inserts",
        "a continuation merged into the last prompt",
    )
    if not HISTORIES[name].missing
]
EVENTS = [MessageAddedEvent, BeforeModelCallEvent, AfterToolCallEvent, AfterInvocationEvent]
PACKAGE = str(Path(strands_sqlite_session_manager.__file__).parent)

edits = st.sampled_from(list(EDITS.values()))
texts = st.text(max_size=5)
keys = st.sampled_from(["a", "b", "ключ"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def too_much(messages: Any) -> Exception:
    """Reply with an exception that nobody has raised before."""
    return ContextWindowOverflowException("too long")


class EditsOnce(HookProvider):
    """Does an edit at the next event of a type."""

    def __init__(self) -> None:
        self.planned: dict[type[Any], Edit] = {}

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        for event_type in EVENTS:
            registry.add_callback(event_type, self._edit)

    def _edit(self, event: Any) -> None:
        self.planned.pop(type(event), lambda agent: None)(event.agent)


class RandomLife(RuleBasedStateMachine):
    """One agent after the other on one session; each must begin as the one before it was at its last event."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = Log()
        self.calls = 0

    @initialize(name=st.sampled_from(CONFIGURED_AS), messages=st.lists(texts.map(user), max_size=3))
    def begin(self, name: str, messages: list[Message]) -> None:
        self.name = name
        self.manager = Recorder(SESSION, self.folder / "sessions.db", self.log)
        self.agent = self._build(messages=messages)
        self.held = held(self.agent)

    def _build(self, **arguments: Any) -> Agent:
        self.hook = EditsOnce()
        configured = HISTORIES[self.name].arguments()
        hooks = [*configured.get("hooks", ()), self.hook]
        return build(self.manager, {**configured, **arguments, "hooks": hooks})

    def _say(self, prompt: Any, *replies: Any) -> Any:
        """Run one turn. Strands cannot cope with every list of messages, but our code must not be what fails."""
        try:
            return say(self.agent, prompt, *replies)
        except Exception as error:
            cause: BaseException | None = error
            while cause:
                assert not any(
                    frame.filename.startswith(PACKAGE) for frame in traceback.extract_tb(cause.__traceback__)
                )
                cause = cause.__cause__ or cause.__context__
            return None

    def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.calls += 1
        return call(name, f"t{self.calls}", **arguments)

    @rule(text=texts)
    def turn(self, text: str) -> None:
        self._say(text, text)

    @rule(text=texts)
    def the_same_message_again(self, text: str) -> None:
        prompt = [user(text)]
        self._say(prompt, RuntimeError("no model"))
        self._say(prompt)

    @rule(lines=st.lists(st.integers(0, 60), min_size=1, max_size=3))
    def tools(self, lines: list[int]) -> None:
        self._say("recite", [self._call("recite", lines=count) for count in lines], "done")

    @rule(lines=st.integers(0, 60))
    def tool_whose_result_is_too_much(self, lines: int) -> None:
        self._say("recite", [self._call("recite", lines=lines)], too_much, "it fits", "now it fits")

    @rule(text=texts)
    def overflow(self, text: str) -> None:
        self._say(text, too_much, "it fits", "now it fits")

    @rule(text=texts)
    def redaction(self, text: str) -> None:
        self._say(text, REDACT_INPUT)

    @rule()
    def redaction_of_a_result(self) -> None:
        self._say("look it up", [self._call("lookup", key="a")], REDACT_INPUT)

    @rule(text=texts)
    def redaction_of_a_message_that_was_said_before(self, text: str) -> None:
        prompt = [user(text)]
        self._say(prompt, RuntimeError("no model"))
        self._say(prompt, REDACT_INPUT)

    @rule(key=keys, value=values)
    def tool_that_remembers(self, key: str, value: Any) -> None:
        self._say("remember", [self._call("remember", key=key, value=value)], "done")

    @rule(key=keys, value=values)
    def change_of_the_state(self, key: str, value: Any) -> None:
        self.agent.state.set(key, value)

    @rule(answer=texts)
    def interrupt(self, answer: str) -> None:
        result = self._say("ask", [self._call("ask", question="why?"), self._call("lookup", key="a")])
        if result and result.stop_reason == "interrupt":
            self._restart()
            self._say(answers(result, answer or "none"))

    @precondition(lambda self: not self.agent._interrupt_state.activated)  # Strands refuses it then
    @rule()
    def tool_called_directly(self) -> None:
        self.agent.tool.lookup(key="a")

    @rule(edit=edits)
    def edit_between_turns(self, edit: Edit) -> None:
        edit(self.agent)

    @rule(event_type=st.sampled_from(EVENTS), edit=edits)
    def edit_at_an_event(self, event_type: type[Any], edit: Edit) -> None:
        self.hook.planned[event_type] = edit

    @rule(first=st.integers(0, 9), count=st.integers(0, 3), to=st.integers(0, 9), copied=st.booleans())
    def messages_moved_or_copied(self, first: int, count: int, to: int, copied: bool) -> None:
        moved = self.agent.messages[first : first + count]
        if copied:
            moved = copy.deepcopy(moved)
        else:
            del self.agent.messages[first : first + count]
        self.agent.messages[to:to] = moved

    @precondition(lambda self: self.agent.messages)
    @rule(position=st.integers(0, 9), source=st.integers(0, 9))
    def tracking_id_taken_from_another(self, position: int, source: int) -> None:
        messages = self.agent.messages
        tracking_id = messages[source % len(messages)].get("tracking_id")
        if tracking_id:
            messages[position % len(messages)]["tracking_id"] = tracking_id

    @precondition(lambda self: self.log.moments["default"])
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.log.moments["default"])))
        self.manager.rewind_session(SESSION, through_message=number)
        self.log.rewind(number)
        self.manager.held.clear()
        self.held = self.log.moments["default"][number]
        self._restart()

    @rule()
    def restart(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.held = self.manager.held.get("default", self.held)
        assert written(self.manager.listed()) == written(self.log.messages())
        self.manager.close()
        self.manager = Recorder(SESSION, self.folder / "sessions.db", self.log)
        self.agent = self._build()
        self._assert_holds(self.agent, self.held)
        assert written(self.manager.listed()) == written(self.log.messages())

    def _assert_holds(self, agent: Agent, expected: str) -> None:
        """Assert that a new agent holds what a live one held, except for Strands' repairs."""
        before, after = json.loads(expected), json.loads(held(agent))
        said = before.pop("messages")
        repaired = RepositorySessionManager._fix_broken_tool_use(self.manager, copy.deepcopy(said))
        assert without_new_tracking_ids(after.pop("messages"), said) == without_new_tracking_ids(repaired, said)
        assert written(after) == written(before)

    def _assert_returns_to_every_moment(self) -> None:
        moments = dict(self.log.moments["default"])
        arguments = HISTORIES[self.name].arguments
        parent = SESSION
        for number in sorted(moments, reverse=True):  # each the fork of the one before
            session_id = f"through {number}"
            self.manager.fork_session(parent, session_id, through_message=number)
            parent = session_id
            with SQLiteSessionManager(session_id, self.folder / "sessions.db") as manager:
                self._assert_holds(build(manager, arguments()), moments[number])
            self.manager.fork_session(SESSION, f"directly {number}", through_message=number)
            with SQLiteSessionManager(f"directly {number}", self.folder / "sessions.db") as manager:
                self._assert_holds(build(manager, arguments()), moments[number])

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self._restart()
            self._assert_returns_to_every_moment()
            self.manager.close()
        shutil.rmtree(self.folder)


@pytest.mark.long
@pytest.mark.timeout(900)  # what fails is made smaller first, which takes its time
def test_any_history_resumes_with_what_the_agent_held(caplog: pytest.LogCaptureFixture) -> None:
    live_at_random(5, caplog)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hundreds_of_random_histories_resume_with_what_the_agent_held(
    caplog: pytest.LogCaptureFixture, scaled: Callable[[int], int]
) -> None:
    live_at_random(scaled(2000), caplog)


def live_at_random(examples: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "strands")  # it warns of what it repairs, at length
    run_state_machine_as_test(
        RandomLife,
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
        ),
    )
