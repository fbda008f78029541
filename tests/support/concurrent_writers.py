"""What processes do that write to one file at the same time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from strands.hooks import MessageAddedEvent

from strands_sqlite_session_manager import StaleSessionException

from .conversations import build
from .fresh_processes import open_session, wait_for_the_others

THREADS = 4


def say(folder: Path, text: str) -> None:
    """Resume the session and take a turn."""
    build(open_session("sqlite", "session", folder), "hear, hear")(text)


def race(folder: Path, text: str) -> bool:
    """Resume the session, take a turn as soon as all others have resumed, and return whether it was stored."""
    agent = build(open_session("sqlite", "session", folder))
    wait_for_the_others()
    try:
        agent(text)
    except StaleSessionException:
        return False
    return True


def start_agents(folder: Path, session_ids: list[str]) -> None:
    """Start an agent in each of several sessions."""
    for session_id in session_ids:
        build(open_session("sqlite", session_id, folder), messages=[{"role": "user", "content": [{"text": "first"}]}])


def names(process: int, thread: int) -> tuple[str, str]:
    """The session and the agent of a thread: some have a session of their own, others share one."""
    return (f"session {process}.{thread}", "default") if thread % 2 else ("shared", f"agent {process}.{thread}")


def write_many(folder: Path, process: int, messages: int) -> None:
    """Add messages from several threads at once, each to an agent of its own."""

    def write(thread: int) -> None:
        asyncio.run(_write(folder, *names(process, thread), messages))

    with ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(write, range(THREADS)))


async def _write(folder: Path, session_id: str, agent_id: str, messages: int) -> None:
    agent = build(open_session("sqlite", session_id, folder), agent_id=agent_id)
    for number in range(messages):
        message = {"role": "user", "content": [{"text": f"{session_id}, {agent_id}: {number}"}]}
        if number % 50 == 0:
            agent.state.set("written", number)
        agent.messages.append(message)
        await agent.hooks.invoke_callbacks_async(MessageAddedEvent(agent=agent, message=message))
