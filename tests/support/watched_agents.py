"""A live agent that is watched: after every event, a new agent on its session must hold exactly what it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager

from .recording_manager import held

SESSION = "the session"
Build = Callable[[SQLiteSessionManager], Agent]
"""Builds the agent of a test; it is called again for every restart."""


class Watched(SQLiteSessionManager):
    """Builds another agent on the session after every event, and records what both hold if that differs.

    Whatever happens to an agent, the last call that a session manager gets about it is a sync.
    """

    def __init__(self, path: Path, build: Build) -> None:
        super().__init__(SESSION, path, synchronous="NORMAL")
        self.events = 0
        self.differences: list[tuple[str, str]] = []
        self._path = path
        self._build = build

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        super().sync_agent(agent, **kwargs)
        self.events += 1
        live = held(agent)
        with SQLiteSessionManager(SESSION, self._path, synchronous="NORMAL") as manager:
            resumed = held(self._build(manager))
        if resumed != live:
            self.differences.append((resumed, live))


def watch(path: Path, build: Build, drive: Callable[[Agent], Any]) -> tuple[Agent, Any]:
    """Drive an agent, check the session after every event, and return the resumed agent and the result of `drive`."""
    with Watched(path, build) as manager:
        agent = build(manager)
        result = drive(agent)
        assert manager.events
        for resumed, live in manager.differences:
            assert resumed == live
    again = resume(path, build)
    assert held(again) == held(agent)
    return again, result


def resume(path: Path, build: Build) -> Agent:
    """Build the agent as a new process would."""
    return build(SQLiteSessionManager(SESSION, path, synchronous="NORMAL"))
