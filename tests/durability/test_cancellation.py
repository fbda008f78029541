"""Cancellation is safe, at any await: a message is stored or it is not, and the agent can continue.

After each cancellation, the agent takes another turn, a new agent finds what it holds, no message is stored twice, and
nothing holds the database's lock.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.hooks import AfterInvocationEvent, AfterToolCallEvent, BeforeModelCallEvent, MessageAddedEvent
from strands.multiagent import Swarm

from strands_sqlite_session_manager import DatabaseLockedException, SQLiteSessionManager, SQLiteSessionRepository

from ..support.cancellation import cancel_at
from ..support.lock_holders import held_here, seconds_to_lock
from ..support.orchestrators import build_chain
from ..support.scripted_model import ScriptedModel, tool_use

EVENTS = (MessageAddedEvent, BeforeModelCallEvent, AfterToolCallEvent, AfterInvocationEvent)

# Older versions of Strands leave tasks and generators of their own behind when a turn is canceled.
LEFT_BEHIND = ("was destroyed", "generator already executing")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <generator object use_span:pytest.PytestUnraisableExceptionWarning"
)


@tool(context=True)
async def count(tool_context: ToolContext) -> str:
    """Count the calls."""
    counted = (tool_context.agent.state.get("counted") or 0) + 1
    tool_context.agent.state.set("counted", counted)
    await asyncio.sleep(0)
    return f"{counted} calls"


class PausingModel(ScriptedModel):
    """Yields to the event loop between any two events, as a network would."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for event in super().stream(messages, *args, **kwargs):
            await asyncio.sleep(0)
            yield event


class Talk:
    """A conversation of one agent, whose messages all differ, with a sliding window so short that it trims."""

    def __init__(self, path: Path, session_id: str = "session", **settings: Any) -> None:
        self.path = path
        self.session_id = session_id
        self._turns = 0
        self._model = PausingModel()
        self._settings = settings
        self.agent = self._build(self._model)

    def _build(self, model: ScriptedModel) -> Agent:
        return Agent(
            model=model,
            tools=[count],
            session_manager=SQLiteSessionManager(self.session_id, self.path, **self._settings),
            conversation_manager=SlidingWindowConversationManager(6),
            callback_handler=None,
        )

    async def turn(self) -> None:
        """Take a turn of four messages."""
        await self.agent.invoke_async(self._prepare())

    def stream(self) -> AsyncIterator[Any]:
        """Take a turn of four messages, event by event."""
        return self.agent.stream_async(self._prepare())

    def _prepare(self) -> str:
        self._turns += 1
        self._model.replies = [[tool_use("count", f"call {self._turns}")], f"answer {self._turns}"]
        return f"prompt {self._turns}"

    async def verify(self, *, by_a_new_agent: bool = False) -> None:
        """Assert that the agent continues and that the right things are stored; see the module.

        Args:
            by_a_new_agent: Whether a new agent continues instead, as in a server that builds one for each request.
        """
        assert seconds_to_lock(self.path) < 1
        self._verify_history()
        if by_a_new_agent:
            self.agent = self._build(self._model)
        await self.turn()
        self._verify_history()
        assert seconds_to_lock(self.path) < 1
        resumed, live = self._build(ScriptedModel()), self.agent
        assert resumed.messages == live.messages
        assert resumed.state.get() == live.state.get()
        assert resumed.conversation_manager.get_state() == live.conversation_manager.get_state()
        assert resumed._interrupt_state.to_dict() == live._interrupt_state.to_dict()

    def _verify_history(self) -> None:
        with SQLiteSessionRepository(self.path) as repository:
            stored = repository.list_messages(self.session_id, "default")
        assert [message.message_id for message in stored] == list(range(len(stored)))
        told = [str(message.message["content"]) for message in stored]
        assert len(told) == len(set(told)), f"stored twice: {told}"


def talking(test: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """Run a test in an event loop in which no failure goes unnoticed."""

    async def run() -> None:
        unseen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        await test(*arguments)
        await asyncio.sleep(0)
        said = [f"{context['message']} {context.get('exception')}" for context in unseen]
        assert [text for text in said if not any(words in text for words in LEFT_BEHIND)] == []

    asyncio.run(run())


async def cancel_everywhere(path: Path, step: int, **settings: Any) -> None:
    point, canceled = 1, True
    while canceled:
        talk = Talk(path, f"session {point}", **settings)
        if point % 4 < 2:
            await talk.turn()
        canceled = await cancel_at(talk.turn, point)
        await talk.verify(by_a_new_agent=point % 8 < 4)
        point += step
    assert point > 20  # a turn has at least this many await points


def test_a_turn_is_canceled_at_every_other_await(path: Path) -> None:
    talking(lambda: cancel_everywhere(path, 2, synchronous="NORMAL"))


@pytest.mark.long
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_turn_is_canceled_at_every_await(synchronous: str, path: Path) -> None:
    talking(lambda: cancel_everywhere(path, 1, synchronous=synchronous))


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it ends: after a canceled turn, Strands awaits one more event, at its end."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.02)
    with suppress(asyncio.CancelledError):
        task.result()


@pytest.mark.parametrize("number", range(1, 7))
def test_a_turn_is_canceled_while_an_event_waits_for_the_lock(number: int, path: Path) -> None:
    """The lock is taken before one of the turn's events, and free only after the turn was canceled."""

    async def cancel_while_locked() -> None:
        talk = Talk(path)
        await talk.turn()
        events = 0
        locked = asyncio.Event()
        with held_here(path) as lock:
            lock.execute("ROLLBACK")

            def take_the_lock(event: Any) -> None:
                nonlocal events
                events += 1
                if events == number:
                    lock.execute("BEGIN IMMEDIATE")
                    locked.set()

            for event_type in EVENTS:
                talk.agent.hooks.add_callback(event_type, take_the_lock)
            task = asyncio.ensure_future(talk.turn())
            await asyncio.wait_for(locked.wait(), 10)
            await asyncio.sleep(0.02)
            await cancel(task)
            lock.execute("ROLLBACK")
        await talk.verify()

    talking(cancel_while_locked)


def test_a_next_turn_begins_while_the_canceled_one_still_waits_for_the_lock(path: Path) -> None:
    async def go_on_while_locked() -> None:
        talk = Talk(path)
        await talk.turn()
        with held_here(path) as lock:
            for _ in range(3):
                task = asyncio.ensure_future(talk.turn())
                await asyncio.sleep(0.02)
                await cancel(task)
            task = asyncio.ensure_future(talk.turn())
            await asyncio.sleep(0.02)
            assert not task.done()
            lock.execute("ROLLBACK")
            await asyncio.wait_for(task, 10)
        await talk.verify()

    talking(go_on_while_locked)


def test_a_next_turn_is_told_in_time_while_the_canceled_one_still_waits_for_the_lock(path: Path) -> None:
    async def wait_in_vain() -> None:
        talk = Talk(path, timeout=0.2)
        await talk.turn()
        with held_here(path):
            task = asyncio.ensure_future(talk.turn())
            await asyncio.sleep(0.05)
            await cancel(task)
            task = asyncio.ensure_future(talk.turn())
            await asyncio.wait([task], timeout=3)
            is_told = task.done()
        await asyncio.wait([task])
        assert is_told, "it waited until the lock was free"
        assert isinstance(task.exception(), DatabaseLockedException)
        await talk.verify()

    talking(wait_in_vain)


def test_a_canceled_turn_ends_in_time_while_the_lock_is_held(path: Path) -> None:
    async def wait_in_vain() -> None:
        talk = Talk(path, timeout=0.2)
        await talk.turn()
        with held_here(path):
            task = asyncio.ensure_future(talk.turn())
            await asyncio.sleep(0.05)
            task.cancel()  # only once: Strands waits for the event at the end of the turn
            await asyncio.wait([task], timeout=3)
            is_over = task.done()
        await asyncio.gather(task, return_exceptions=True)
        assert is_over, "it waited until the lock was free"
        await talk.verify()

    talking(wait_in_vain)


def test_what_was_canceled_while_the_lock_is_held_is_not_stored_later(path: Path) -> None:
    """A server builds another agent for the next request, which must not be refused for it."""

    async def withdraw() -> None:
        talk = Talk(path)
        await talk.turn()
        with held_here(path):
            task = asyncio.ensure_future(talk.turn())
            await asyncio.sleep(0.05)
            await cancel(task)
            with SQLiteSessionRepository(path) as repository:
                before = len(repository.list_messages("session", "default"))
            successor = Talk(path)
        await asyncio.sleep(0.15)  # longer than a committer waits before it checks which writers still wait
        with SQLiteSessionRepository(path) as repository:
            assert len(repository.list_messages("session", "default")) == before
        await successor.turn()

    talking(withdraw)


async def cancel_at_random(path: Path, rounds: int, seed: int, **settings: Any) -> None:
    """Cancel the turns of three agents at random moments, while other threads write as well."""
    chance = random.Random(seed)
    talks = [Talk(path, f"session {number}", **settings) for number in range(3)]
    ended = threading.Event()

    def write_beside() -> None:
        manager = SQLiteSessionManager("beside", path, **settings)
        agent = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
        while not ended.wait(0.002):
            agent.state.set("beat", chance.random())
            manager.sync_agent(agent)

    async def go_on(talk: Talk) -> None:
        for _ in range(rounds):
            task = asyncio.ensure_future(talk.turn())
            await asyncio.sleep(chance.uniform(0, 0.03))
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    beside = asyncio.ensure_future(asyncio.to_thread(write_beside))
    try:
        await asyncio.gather(*map(go_on, talks))
    finally:
        ended.set()
        await beside
    for talk in talks:
        await talk.verify()


def test_turns_are_canceled_at_random_moments(path: Path) -> None:
    talking(lambda: cancel_at_random(path, 10, seed=1, synchronous="NORMAL"))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_turns_are_canceled_hundreds_of_times(seed: int, path: Path, scaled: Callable[[int], int]) -> None:
    talking(lambda: cancel_at_random(path, scaled(200), seed))


async def ask_to_cancel(path: Path, step: int) -> None:
    """Call `agent.cancel()` at one event of the stream after the other."""
    point, asked = 0, True
    while asked:
        asked = False
        talk = Talk(path, f"session {point}", synchronous="NORMAL")
        async with aclosing(talk.stream()) as stream:  # type: ignore[type-var]
            number = 0
            async for _ in stream:
                if number == point:
                    talk.agent.cancel()
                    asked = True
                number += 1
        await talk.verify()
        point += step


@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="an older Strands")
def test_an_agent_is_asked_to_cancel(path: Path) -> None:
    talking(lambda: ask_to_cancel(path, 4))


@pytest.mark.long
@pytest.mark.skipif(not hasattr(Agent, "cancel"), reason="an older Strands")
def test_an_agent_is_asked_to_cancel_at_every_event(path: Path) -> None:
    talking(lambda: ask_to_cancel(path, 1))


async def leave(path: Path, step: int, close: bool) -> None:
    """Stop reading a stream, as for a client that is gone, at one event after the other."""
    point, left = 1, True
    while left:
        left = False
        talk = Talk(path, f"session {point}", synchronous="NORMAL")
        stream = talk.stream()
        number = 0
        async for _ in stream:
            number += 1
            if number == point:
                left = True
                break
        if close:
            await stream.aclose()  # type: ignore[attr-defined]
        del stream
        await asyncio.sleep(0)  # the loop closes what is still open
        await asyncio.sleep(0.01)
        await talk.verify()
        point += step


@pytest.mark.parametrize("close", [True, False], ids=["closed", "forgotten"])
def test_a_client_stops_reading(close: bool, path: Path) -> None:
    talking(lambda: leave(path, 6, close))


@pytest.mark.long
@pytest.mark.parametrize("close", [True, False], ids=["closed", "forgotten"])
def test_a_client_stops_reading_at_every_event(close: bool, path: Path) -> None:
    talking(lambda: leave(path, 1, close))


def build_graph(manager: SQLiteSessionManager) -> Any:
    return build_chain(manager, PausingModel)


def build_swarm(manager: SQLiteSessionManager) -> Any:
    handoff = tool_use("handoff_to_agent", "t1", agent_name="b", message="your turn")
    models = {"a": PausingModel([handoff]), "b": PausingModel()}
    nodes = [Agent(name=name, model=model, callback_handler=None) for name, model in models.items()]
    return Swarm(nodes, session_manager=manager, id="team")


async def cancel_orchestrator(path: Path, build: Callable[[SQLiteSessionManager], Any], step: int) -> None:
    """Cancel a Graph or Swarm at one await after the other; then it continues, and after it a new one."""
    point, canceled = 1, True
    while canceled:
        managers = [SQLiteSessionManager(f"session {point}", path, synchronous="NORMAL") for _ in range(2)]
        live = build(managers[0])
        canceled = await cancel_at(lambda: live.invoke_async("hello"), point)  # noqa: B023
        assert seconds_to_lock(path) < 1
        await live.invoke_async("hello")
        assert managers[0].read_multi_agent(f"session {point}", "team") == live.serialize_state()
        await build(managers[1]).invoke_async("hello")
        point += step
    assert point > 10  # at least this many await points


@pytest.mark.parametrize("build", [build_graph, build_swarm])
def test_an_orchestrator_is_canceled(build: Callable[[SQLiteSessionManager], Any], path: Path) -> None:
    talking(lambda: cancel_orchestrator(path, build, 9))


@pytest.mark.long
@pytest.mark.parametrize("build", [build_graph, build_swarm])
def test_an_orchestrator_is_canceled_at_every_await(build: Callable[[SQLiteSessionManager], Any], path: Path) -> None:
    talking(lambda: cancel_orchestrator(path, build, 1))
