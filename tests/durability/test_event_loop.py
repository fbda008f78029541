"""The event loop of a server never waits for a lock, another process or the disk.

Eight conversations go on in one loop while another process holds the write lock. A heartbeat in the same loop shows
that the loop goes on; the turns end right after the lock is free, and everything is stored in order. What the same
turns do with no lock held is the measure: a busy machine is late by itself.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import Swarm

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.heartbeat import Heartbeat
from ..support.lock_holders import held_elsewhere
from ..support.orchestrators import build_chain
from ..support.scripted_model import ScriptedModel, tool_use

CONVERSATIONS = 8
STALL = 0.020  # seconds that the loop may stand still beyond the control
DELAY = 0.35  # seconds between the end of the lock and the end of the turns, beyond the control
ATTEMPTS = 4
ROLES = ["user", "assistant", "user", "assistant"]

Turn = Coroutine[Any, Any, Any]
Settings = dict[str, Any]


@tool(context=True)
async def remember(tool_context: ToolContext) -> str:
    """Remember something."""
    tool_context.agent.state.set("remembered", "tea")
    return "remembered"


class Conversations:
    """Conversations in one file that all take a turn at once."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self._live = [self.build(SQLiteSessionManager(f"session {n}", path, **settings)) for n in range(CONVERSATIONS)]

    def build(self, manager: SQLiteSessionManager) -> Any:
        """Build what has the conversation of a session."""
        raise NotImplementedError

    def turns(self) -> list[Turn]:
        """Return what is to be awaited all at once."""
        return [self.turn(live) for live in self._live]

    def turn(self, live: Any) -> Turn:
        """Take a turn."""
        return live.invoke_async("hello")  # type: ignore[no-any-return]

    def verify(self) -> None:
        """Expect the whole turn of every conversation in the file."""
        with SQLiteSessionRepository(self.path) as repository:
            for number, live in enumerate(self._live):
                self.verify_one(repository, f"session {number}", live)

    def verify_one(self, repository: SQLiteSessionRepository, session_id: str, live: Any) -> None:
        """Expect the whole turn of one conversation in the file."""
        raise NotImplementedError


class Agents(Conversations):
    def build(self, manager: SQLiteSessionManager) -> Agent:
        model = ScriptedModel([tool_use("remember", "t1")])
        return Agent(model=model, tools=[remember], session_manager=manager, callback_handler=None)

    def verify_one(self, repository: SQLiteSessionRepository, session_id: str, live: Agent) -> None:
        stored = repository.list_messages(session_id, "default")
        assert [message.message["role"] for message in stored] == ROLES
        assert [message.to_message() for message in stored] == live.messages
        agent = repository.read_agent(session_id, "default")
        assert agent is not None
        assert agent.state == {"remembered": "tea"}


class AgentsBuiltInThreads(Agents):
    """Their managers and agents are built beside the loop, while the lock is held or not."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        for number in range(CONVERSATIONS):  # no writing is needed to build what exists
            with SQLiteSessionManager(f"session {number}", path) as manager:
                self.build(manager)
        self._settings = settings
        self._live = []

    def turns(self) -> list[Turn]:
        return [self._build_and_turn(f"session {number}") for number in range(CONVERSATIONS)]

    async def _build_and_turn(self, session_id: str) -> None:
        def build() -> Agent:
            return self.build(SQLiteSessionManager(session_id, self.path, **self._settings))

        agent = await asyncio.to_thread(build)
        await agent.invoke_async("hello")
        self._live.append(agent)

    def verify(self) -> None:
        assert len(self._live) == CONVERSATIONS
        with SQLiteSessionRepository(self.path) as repository:
            for agent in self._live:
                self.verify_one(repository, agent._session_manager.session_id, agent)


class Graphs(Conversations):
    def build(self, manager: SQLiteSessionManager) -> Any:
        return build_chain(manager, ScriptedModel)

    def verify_one(self, repository: SQLiteSessionRepository, session_id: str, live: Any) -> None:
        state = repository.read_multi_agent(session_id, "team")
        assert state is not None
        assert state["status"] == "completed"
        assert sorted(state["completed_nodes"]) == ["a", "b", "c"]


class Swarms(Conversations):
    def build(self, manager: SQLiteSessionManager) -> Any:
        handoffs = [tool_use("handoff_to_agent", "t1", agent_name=name, message="your turn") for name in "bc"]
        models = [*(ScriptedModel([handoff]) for handoff in handoffs), ScriptedModel()]
        nodes = [
            Agent(name=name, model=model, callback_handler=None) for name, model in zip("abc", models, strict=True)
        ]
        return Swarm(nodes, session_manager=manager, id="team")

    def verify_one(self, repository: SQLiteSessionRepository, session_id: str, live: Any) -> None:
        state = repository.read_multi_agent(session_id, "team")
        assert state is not None
        assert state["status"] == "completed"
        assert state["node_history"] == ["a", "b", "c"]


class SpokenConversations(Conversations):
    def build(self, manager: SQLiteSessionManager) -> Any:
        spoken = pytest.importorskip("tests.support.bidi_agents", exc_type=ImportError)
        script = [*spoken.said("user", "hel", "lo"), *spoken.said("assistant", "hello, ", "you"), spoken.HANG_UP]
        self._talk = spoken.talk
        return spoken.build(manager, *script)

    def turn(self, live: Any) -> Turn:
        return self._talk(live)  # type: ignore[no-any-return]

    def verify_one(self, repository: SQLiteSessionRepository, session_id: str, live: Any) -> None:
        stored = [message.to_message() for message in repository.list_messages(session_id, "default")]
        assert [message["content"] for message in stored] == [[{"text": "hello"}], [{"text": "hello, you"}]]
        assert stored == live.messages


@dataclass
class Measured:
    """What happened while conversations took a turn.

    Attributes:
        gap: Seconds that the event loop stood still at most.
        rest: Seconds that the turns went on after the lock was free, or in all where there was none.
    """

    gap: float
    rest: float


def measure(conversations: Conversations, seconds: float | None, queued: bool) -> Measured:
    """Let conversations take their turns, while another process holds the lock for so many seconds, if any."""

    async def take_turns() -> tuple[float, float]:
        async with Heartbeat() as heartbeat:
            await asyncio.gather(*conversations.turns())
            ended = time.monotonic()
        return heartbeat.longest, ended

    holding = nullcontext() if seconds is None else held_elsewhere(conversations.path, seconds, queued=queued)
    with holding as holder:
        begun = time.monotonic()
        gap, ended = asyncio.run(take_turns())
        if holder is not None:
            begun = holder.release()
            assert begun < ended, "the turns ended before the lock was free"
    conversations.verify()
    return Measured(gap, ended - begun)


def assert_loop_goes_on(
    folder: Path, kind: Callable[..., Conversations], seconds: float, queued: bool = False, **settings: Any
) -> None:
    """Expect a few attempts at most until one is as good as promised; everything must be stored in all of them."""
    attempts: list[Sequence[Measured]] = []
    while len(attempts) < ATTEMPTS:
        number = len(attempts)
        control = measure(kind(folder / f"{number}-control.db", **settings), None, queued)
        locked = measure(kind(folder / f"{number}.db", **settings), seconds, queued)
        if locked.gap < control.gap + STALL and locked.rest < control.rest + DELAY:
            return
        attempts.append((control, locked))
    pytest.fail(f"the control and what is measured, {ATTEMPTS} times: {attempts}")


def test_eight_agents_go_on_while_another_program_holds_the_lock(tmp_path: Path) -> None:
    assert_loop_goes_on(tmp_path, Agents, 0.6)


def test_eight_agents_go_on_while_another_process_of_this_package_has_its_turn(tmp_path: Path) -> None:
    assert_loop_goes_on(tmp_path, Agents, 0.3, queued=True, synchronous="NORMAL")


def test_agents_can_be_built_in_threads(tmp_path: Path) -> None:
    assert_loop_goes_on(tmp_path, AgentsBuiltInThreads, 0.3)


@pytest.mark.parametrize("kind", [Graphs, Swarms, SpokenConversations])
def test_orchestrators_and_spoken_conversations_go_on(kind: Callable[..., Conversations], tmp_path: Path) -> None:
    assert_loop_goes_on(tmp_path, kind, 0.25)


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"synchronous": "FULL"}, {"synchronous": "NORMAL"}], ids=str)
@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("kind", [Agents, AgentsBuiltInThreads, Graphs, Swarms, SpokenConversations])
def test_the_loop_goes_on_for_three_seconds(
    kind: Callable[..., Conversations], queued: bool, settings: Settings, tmp_path: Path
) -> None:
    assert_loop_goes_on(tmp_path, kind, 3.0, queued, **settings)
