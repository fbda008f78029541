"""Concurrent threads: what one changes while another stores it is stored, or refused clearly."""

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.agent.state import AgentState
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, StaleSessionException

from ..support.child_process import in_a_child
from ..support.recording_manager import held
from ..support.records import Orchestrator
from ..support.scripted_model import ScriptedModel
from ..support.workers import in_threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def tiny_switch_interval() -> Iterator[None]:
    """Let threads take turns at almost every bytecode."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def open_session(path: Path, session_id: str = "session") -> SQLiteSessionManager:
    return SQLiteSessionManager(session_id, path, synchronous="NORMAL")


def build(manager: SQLiteSessionManager, **options: Any) -> Agent:
    return Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None, **options)


def said(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def assert_resumes_to(agent: Agent, path: Path) -> None:
    with open_session(path) as manager:
        assert held(build(manager)) == held(agent)


@contextmanager
def meanwhile(work: Callable[[int], object]) -> Iterator[list[int]]:
    """Call `work` with 0, 1, 2 and so on in another thread; the list gets the last number in the end."""
    stop, done, errors = threading.Event(), [-1], []

    def run() -> None:
        try:
            while not stop.is_set():
                work(done[-1] + 1)
                done[-1] += 1
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


# -- two with one id --


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("exists", [False, True], ids=["a new agent", "an agent that resumes"])
def test_of_two_threads_that_build_one_agent_on_one_manager_at_once_one_is_refused(
    exists: bool, rounds: int, path: Path, scaled: Callable[[int], int]
) -> None:
    for round_ in range(scaled(rounds)):
        session_id = f"session {round_}"
        if exists:
            with open_session(path, session_id) as first:
                build(first)
        manager = open_session(path, session_id)

        def build_one(index: int, manager: SQLiteSessionManager = manager) -> Any:
            try:
                return build(manager)
            except SessionException as error:
                return str(error)

        agents, refusals = [], []
        for ended in in_threads(2, build_one):
            (refusals if isinstance(ended, str) else agents).append(ended)
        assert (len(agents), len(refusals)) == (1, 1), f"round {round_}: {len(agents)} agents were built"
        assert "unique" in refusals[0]
        if round_ == 0:
            agents[0]("hello")
            with open_session(path, session_id) as another:
                assert held(build(another)) == held(agents[0])
        manager.close()


def test_a_second_orchestrator_with_an_id_that_is_in_use_is_refused(path: Path) -> None:
    manager = open_session(path)
    first = Orchestrator("team", {"node": "a"})
    manager.initialize_multi_agent(first)
    second = Orchestrator("team", {"node": "b"})
    with pytest.raises(SessionException, match="team"):
        manager.initialize_multi_agent(second)
    first.state = {"node": "c"}
    manager.sync_multi_agent(first)
    assert manager.read_multi_agent("session", "team") == {"node": "c"}


def test_an_orchestrator_that_is_gone_leaves_its_id_to_the_next(path: Path) -> None:
    manager = open_session(path)
    team = Orchestrator("team", {"node": "a"})
    manager.initialize_multi_agent(team)
    del team
    gc.collect()
    second = Orchestrator("team")
    manager.initialize_multi_agent(second)
    assert second.state == {"node": "a"}


class SlowOrchestrator(Orchestrator):
    """Lets other threads in while it is asked for its state."""

    def serialize_state(self) -> dict[str, Any]:
        state = dict(self.state)
        time.sleep(0.0001)
        return state


def test_an_orchestrator_can_be_synced_from_several_threads(path: Path) -> None:
    manager = open_session(path)
    team = SlowOrchestrator("team", {"step": -1})
    manager.initialize_multi_agent(team)

    def sync(index: int) -> None:
        for step in range(20):
            team.state = {"step": step}
            manager.sync_multi_agent(team)

    in_threads(4, sync)
    assert manager.read_multi_agent("session", "team") == {"step": 19}


# -- what changes while it is read --


class Meddled(AgentState):
    """Is changed by another thread, once, as soon as it has been copied."""

    deed: Callable[[], object] | None = None

    def get(self, key: str | None = None) -> Any:
        copy = super().get(key)
        deed, self.deed = self.deed, None
        if deed is not None:
            thread = threading.Thread(target=deed)
            thread.start()
            thread.join()
        return copy


@pytest.mark.parametrize("mood", ["calm", "wild"], ids=["changed back", "changed"])
def test_a_change_of_the_state_in_the_middle_of_a_sync_is_stored_by_the_next_one(mood: str, path: Path) -> None:
    manager = open_session(path)
    agent = build(manager)
    agent.state = state = Meddled({"mood": "calm"})
    manager.sync_agent(agent)
    state.set("mood", "tense")
    state.deed = lambda: state.set("mood", mood)
    manager.sync_agent(agent)
    manager.sync_agent(agent)
    stored = manager.read_agent("session", "default")
    assert stored is not None
    assert stored.state == {"mood": mood}


@pytest.mark.parametrize("rounds", [50, pytest.param(20_000, marks=pytest.mark.long)])
def test_no_change_of_the_state_is_lost_at_any_moment_of_a_sync(
    rounds: int, path: Path, scaled: Callable[[int], int]
) -> None:
    manager = open_session(path)
    agent = build(manager)
    for number in range(scaled(rounds)):
        agent.state.set("number", [number])
        other = threading.Thread(target=agent.state.set, args=("number", number))
        other.start()
        manager.sync_agent(agent)
        other.join()
        manager.sync_agent(agent)
        stored = manager.read_agent("session", "default")
        assert stored is not None
        assert stored.state == {"number": number}, f"round {number}"


def grow(agent: Agent) -> Callable[[int], object]:
    return lambda number: agent.messages.append(said(f"by another thread {number}")) if number < 40 else time.sleep(0)


def shrink(agent: Agent) -> Callable[[int], object]:
    def work(number: int) -> None:
        with suppress(IndexError):
            del agent.messages[number % 3]
        agent.messages.append(said(f"number {number}"))

    return work


def edit(agent: Agent) -> Callable[[int], object]:
    def work(number: int) -> None:
        block = agent.messages[number % 3]["content"][0]
        block["text"] = f"edited {number}"
        block.pop("more", None) if number % 2 else block.__setitem__("more", {"nested": [number]})  # type: ignore[typeddict-item]

    return work


def replace(agent: Agent) -> Callable[[int], object]:
    return lambda number: setattr(agent, "messages", [said(f"new {number}"), *agent.messages[1:]])


@pytest.mark.every_case
@pytest.mark.parametrize("change", [grow, shrink, edit, replace])
@pytest.mark.parametrize("rounds", [40, pytest.param(5_000, marks=pytest.mark.long)])
def test_messages_that_another_thread_changes_are_stored_or_refused_clearly(
    change: Callable[[Agent], Callable[[int], object]], rounds: int, path: Path, scaled: Callable[[int], int]
) -> None:
    manager = open_session(path)
    agent = build(manager, messages=[said(f"first {number}") for number in range(3)])
    with meanwhile(change(agent)):
        for number in range(scaled(rounds)):
            try:
                if number % 3:
                    manager.sync_agent(agent)
                elif number < 200:
                    message = said(f"number {number} of this thread")
                    agent.messages.append(message)
                    manager.append_message(message, agent)
            except SessionException as error:
                assert not isinstance(error, StaleSessionException), error  # noqa: PT017
    manager.sync_agent(agent)
    assert_resumes_to(agent, path)


def test_turns_and_syncs_of_other_threads_get_along(path: Path) -> None:
    manager = open_session(path)
    agent = build(manager)
    with meanwhile(lambda number: manager.sync_agent(agent)):
        for number in range(5):
            asyncio.run(agent.invoke_async(f"hello {number}"))
    assert_resumes_to(agent, path)


# -- forks --


class Slow(NullConversationManager):
    """Is slow in this process, in the middle of a sync."""

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()
        self.asked, self.answer = threading.Event(), threading.Event()
        self.answer.set()

    def get_state(self) -> dict[str, Any]:
        if os.getpid() == self.process:
            self.asked.set()
            self.answer.wait(30)
        return super().get_state()


@needs_fork
def test_a_child_can_use_an_agent_that_was_being_stored_when_it_was_forked(path: Path) -> None:
    def use_in_a_child() -> list[str]:
        manager, slow = open_session(path), Slow()
        agent = build(manager, conversation_manager=slow)
        slow.asked.clear()
        slow.answer.clear()
        agent.state.set("mood", "wild")
        storing = threading.Thread(target=manager.sync_agent, args=(agent,), daemon=True)
        storing.start()
        assert slow.asked.wait(10)

        def use() -> str:
            asyncio.run(agent.invoke_async("hello"))
            return held(agent)

        try:
            return [in_a_child(use, patience=5), held(build(open_session(path), conversation_manager=Slow()))]
        finally:
            slow.answer.set()

    in_the_child, resumed = in_a_child(use_in_a_child)
    assert resumed == in_the_child


@needs_fork
@pytest.mark.parametrize("rounds", [5, pytest.param(300, marks=pytest.mark.long)])
def test_a_fork_at_any_moment_of_a_sync_leaves_the_child_a_usable_agent(
    rounds: int, path: Path, scaled: Callable[[int], int]
) -> None:
    def fork_again_and_again() -> list[str]:
        manager = open_session(path)
        agent = build(manager)
        ended = []

        def store(number: int) -> None:
            agent.state.set("number", number)
            with suppress(StaleSessionException):  # a child has gone on
                manager.sync_agent(agent)

        def use() -> str:
            try:
                manager.sync_agent(agent)
            except StaleSessionException:  # its parent has gone on
                return "stale"
            return "stored"

        with meanwhile(store):
            for _ in range(scaled(rounds)):
                ended.append(in_a_child(use, patience=5))
        return ended

    assert set(in_a_child(fork_again_and_again, patience=600)) <= {"stale", "stored"}
