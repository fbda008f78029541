"""Strands' A2A server, every context of which is a session."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.histories.history import TOOLS, accepts, call
from ..support.scripted_model import ScriptedModel

pytest.importorskip("a2a")
httpx = pytest.importorskip("httpx")
A2AServer: Any = pytest.importorskip("strands.multiagent.a2a").A2AServer
if not accepts(A2AServer, "agent_factory"):
    pytest.skip("the A2A server of this Strands has one agent for everybody", allow_module_level=True)

AGENT_CARD = "__agent_card__"
"""The context for which the server builds an agent to describe it by, and asks it nothing."""


class Counts(ScriptedModel):
    """Says how many messages it is told; asked to wait, it waits first."""

    waiting: asyncio.Event
    go_on: asyncio.Event

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if "wait" in str(messages[-1]):
            self.waiting.set()
            await self.go_on.wait()
        if not self.replies:
            self.replies = [f"{len(messages)} messages"]
        async for event in super().stream(messages, *args, **kwargs):
            yield event


class Server:
    """A server in this process, and a client of it."""

    def __init__(self, path: Path, *script: Any, **options: Any) -> None:
        def build(context_id: str) -> Agent:
            manager = None if context_id == AGENT_CARD else SQLiteSessionManager(context_id, path)
            model = Counts(*script)
            model.waiting, model.go_on = self.waiting, self.go_on
            agent = Agent(
                name="server",
                description="answers",
                model=model,
                tools=TOOLS,
                callback_handler=None,
                session_manager=manager,
            )
            self.agents.setdefault(context_id, []).append(agent)
            return agent

        self.agents: dict[str, list[Agent]] = {}
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()
        app = A2AServer(agent_factory=build, enable_a2a_compliant_streaming=True, **options).to_starlette_app()
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server", timeout=60)

    async def send(self, context_id: str, *parts: Any, method: str = "message/send") -> dict[str, Any]:
        """Send a message, and return what became of the task, or the error."""
        message = {
            "role": "user",
            "messageId": str(uuid.uuid4()),
            "contextId": context_id,
            "parts": [{"kind": "text", "text": part} if isinstance(part, str) else part for part in parts],
        }
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}
        response: dict[str, Any] = (await self._client.post("/", json=request)).json()
        return response.get("result", response)

    async def ask(self, context_id: str, text: str) -> str:
        """Send a message, and return the answer, or how the task ended without one."""
        task = await self.send(context_id, text)
        if task["status"]["state"] != "completed":
            return str(task["status"]["state"])
        return "".join(part["text"] for artifact in task["artifacts"] for part in artifact["parts"])


def serving(test: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Run a test of a server in an event loop."""

    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path / "sessions.db"))

    return run


def roles(path: Path, context_id: str) -> str:
    """Return who said what is stored, as `uaua`."""
    with SQLiteSessionRepository(path) as repository:
        return "".join(message.message["role"][0] for message in repository.list_messages(context_id, "default"))


@serving
async def test_every_context_is_a_session_that_outlives_the_server(path: Path) -> None:
    server = Server(path)
    assert [await server.ask("A", "hello"), await server.ask("B", "hello")] == ["1 messages"] * 2
    assert await server.ask("A", "again") == "3 messages"
    assert await Server(path).ask("A", "still there?") == "5 messages"
    with SQLiteSessionRepository(path) as repository:
        assert sorted(summary.session_id for summary in repository.list_sessions()) == ["A", "B"]


@serving
async def test_requests_at_once_lose_no_message(path: Path) -> None:
    server = Server(path)
    answers = await asyncio.gather(*(server.ask(context_id, "hello") for context_id in "AAABCDEF"))
    assert answers == ["1 messages", "3 messages", "5 messages", *["1 messages"] * 5]
    assert roles(path, "A") == "uauaua"


@serving
async def test_a_context_that_the_server_has_given_up_resumes(path: Path) -> None:
    server = Server(path, max_contexts=1)
    assert [await server.ask(context_id, "hello") for context_id in "ABAB"] == ["1 messages"] * 2 + ["3 messages"] * 2


@serving
async def test_a_question_is_answered_after_a_restart(path: Path) -> None:
    task = await Server(path, [call("ask", "t1", question="why?")]).send("A", "ask me")
    assert task["status"]["state"] == "input-required"
    questions = [part["data"] for part in task["status"]["message"]["parts"] if part["kind"] == "data"]
    if not questions:
        pytest.skip("the A2A server of this Strands does not name the interrupt to answer")
    server = Server(path)
    assert "error" in await server.send("A", "something else")
    # The server keeps its tasks in memory: after a restart, the answer names the context and no task.
    response = {"interruptId": questions[0]["interrupts"][0]["interruptId"], "response": "because"}
    task = await server.send("A", {"kind": "data", "data": {"interruptResponse": response}})
    assert task["status"]["state"] == "completed"
    assert "the answer is because" in str(server.agents["A"][0].messages)
    assert roles(path, "A") == "uaua"


@serving
async def test_a_request_that_is_broken_off_completes_its_turn(path: Path) -> None:
    server = Server(path)
    await server.ask("A", "hello")
    request = asyncio.ensure_future(server.send("A", "wait", method="message/stream"))
    await server.waiting.wait()
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request
    server.go_on.set()
    assert await server.ask("A", "again") == "5 messages"
    assert roles(path, "A") == "uauaua"


@serving
async def test_of_two_servers_the_one_that_has_missed_something_answers_nothing(path: Path) -> None:
    first, second = Server(path), Server(path)
    assert await first.ask("A", "hello") == "1 messages"
    assert await second.ask("A", "again") == "3 messages"
    assert await first.ask("A", "and again") == "failed"
    assert await second.ask("A", "and on") == "5 messages"
    assert roles(path, "A") == "uauaua"


@serving
async def test_an_agent_that_is_given_up_in_the_middle_of_a_turn_overwrites_nothing(path: Path) -> None:
    server = Server(path, max_contexts=1)
    slow = asyncio.ensure_future(server.ask("A", "wait"))
    await server.waiting.wait()
    await server.ask("B", "hello")
    answer = await server.ask("A", "are you there?")  # by another agent, while the first one still waits
    server.go_on.set()
    assert [answer, await slow] == ["2 messages", "failed"]
    assert await server.ask("A", "and on") == "4 messages"
    assert len(roles(path, "A")) == 5


@serving
async def test_a_context_that_cannot_be_a_session_fails_its_task_alone(path: Path) -> None:
    server = Server(path)
    assert await server.ask("../A", "hello") == "failed"
    assert await server.ask("A", "hello") == "1 messages"
