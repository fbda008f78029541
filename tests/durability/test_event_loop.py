"""The event loop of a server never waits for a lock, another process or the disk.

Eight conversations run in one loop while another process holds the write lock, and only the loop can have it released:
a loop that waits for the lock never gets it. No statement is executed in the thread of the loop. `python -m
tests.benchmarks server` measures how long the loop is blocked.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, ToolContext, tool
from strands.multiagent import Swarm

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.lock_holders import Holder, held_elsewhere
from ..support.orchestrators import build_chain
from ..support.scripted_model import ScriptedModel, tool_use

CONVERSATIONS = 8
BEATS = 60  # iterations of the loop, 5 ms each, until it has the lock released
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
        self.settings = settings
        self._live = [self.build(SQLiteSessionManager(f"session {n}", path, **settings)) for n in range(CONVERSATIONS)]

    def build(self, manager: SQLiteSessionManager) -> Any:
        """Build the agent or orchestrator that has the conversation of a session."""
        raise NotImplementedError

    def turns(self) -> list[Turn]:
        """Return the awaitables to run all at once."""
        return [self.turn(live) for live in self._live]

    def turn(self, live: Any) -> Turn:
        """Take a turn."""
        return live.invoke_async("hello")  # type: ignore[no-any-return]

    def verify(self) -> None:
        """Expect the whole turn of every conversation in the file."""
        with SQLiteSessionRepository(self.path, **self.settings) as repository:
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
    """Their managers and agents are built outside the loop, while the lock is held or not."""

    def __init__(self, path: Path, **settings: Any) -> None:
        super().__init__(path, **settings)  # no writing is needed to build what exists
        self._live = []

    def turns(self) -> list[Turn]:
        return [self._build_and_turn(f"session {number}") for number in range(CONVERSATIONS)]

    async def _build_and_turn(self, session_id: str) -> None:
        def build() -> Agent:
            return self.build(SQLiteSessionManager(session_id, self.path, **self.settings))

        agent = await asyncio.to_thread(build)
        await agent.invoke_async("hello")
        self._live.append(agent)

    def verify(self) -> None:
        assert len(self._live) == CONVERSATIONS
        with SQLiteSessionRepository(self.path, **self.settings) as repository:
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


def take_turns(conversations: Conversations, holder: Holder | None = None) -> None:
    """Let all conversations take a turn at once, and have a lock released from within the loop."""

    async def gather() -> None:
        turns = asyncio.gather(*conversations.turns())
        if holder is not None:
            for _ in range(BEATS):
                await asyncio.sleep(0.005)
            assert not turns.done(), "the turns ended before the lock was free"
            holder.release()
        await turns

    asyncio.run(gather())


KINDS = [Agents, AgentsBuiltInThreads, Graphs, Swarms, SpokenConversations]


@pytest.mark.parametrize("settings", [{"synchronous": "FULL"}, {"synchronous": "NORMAL"}], ids=str)
@pytest.mark.parametrize("queued", [False, True], ids=["another program", "another process of this package"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_keeps_running_while_another_process_holds_the_lock(
    kind: Callable[..., Conversations], queued: bool, settings: Settings, path: Path
) -> None:
    conversations = kind(path, **settings)
    with held_elsewhere(path, queued=queued) as holder:
        take_turns(conversations, holder)
    conversations.verify()


@pytest.mark.parametrize("kind", KINDS)
def test_no_statement_is_executed_in_the_thread_of_the_loop(kind: Callable[..., Conversations], path: Path) -> None:
    threads: set[int] = set()

    def connect(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, check_same_thread=False)
        connection.set_trace_callback(lambda _: threads.add(threading.get_ident()))
        return connection

    conversations = kind(path, connect=connect)
    threads.clear()
    take_turns(conversations)
    assert threads
    assert threading.get_ident() not in threads
    conversations.verify()
