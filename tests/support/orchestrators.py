"""Graphs and swarms that record which of their nodes ran, and fail where a test wants them to."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from strands import Agent
from strands.multiagent import GraphBuilder, Swarm
from strands.session.repository_session_manager import RepositorySessionManager

from .conversations import ask
from .fresh_processes import open_session
from .scripted_model import ScriptedModel, tool_use

KINDS = ("graph", "swarm")


def raises() -> None:
    """Fail as a model or a tool may."""
    raise RuntimeError("an accident")


def killed() -> None:
    """Kill this process, without a chance to clean up."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


ACCIDENTS = {"raises": raises, "killed": killed}


def ran(folder: Path) -> list[str]:
    """The nodes that ran so far, in any process."""
    notes = folder / "ran"
    return notes.read_text().split() if notes.exists() else []


def build_chain(manager: Any, new_model: Callable[[], Any]) -> Any:
    """Build the Graph `team` of three agents, a, b and c, one after the other."""
    builder = GraphBuilder()
    for name in "abc":
        builder.add_node(Agent(name=name, model=new_model(), callback_handler=None), name)
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    builder.set_max_node_executions(9)
    builder.set_graph_id("team")
    builder.set_session_manager(manager)
    return builder.build()


def build_team(
    kind: str,
    session_manager: RepositorySessionManager,
    folder: Path,
    accident: str | None = None,
    team_id: str = "team",
    **scripts: list[Any],
) -> Any:
    """Build the nodes a, b and c, of which each passes the work on to the next.

    Args:
        kind: One of the `KINDS`.
        session_manager: The session.
        folder: Where the notes are.
        accident: The name of what happens to b, if anything does.
        team_id: The orchestrator's id.
        **scripts: What nodes say instead of the default.
    """

    def node(name: str, following: str | None) -> Agent:
        handoff = tool_use("handoff_to_agent", f"from-{name}", agent_name=following, message="your turn")
        script = scripts.get(name, [[handoff]] if kind == "swarm" and following else [])

        def work(messages: list[dict[str, Any]]) -> Any:
            if model.calls == 1:
                with (folder / "ran").open("a") as notes:
                    notes.write(f"{name}\n")
                if accident and name == "b":
                    ACCIDENTS[accident]()
            reply = script.pop(0) if script else f"{name} is done"
            return reply(messages) if callable(reply) else reply

        model = ScriptedModel(*[work] * 9)
        return Agent(name=name, model=model, tools=[ask], callback_handler=None)

    nodes = [node("a", "b"), node("b", "c"), node("c", None)]
    if kind == "swarm":
        return Swarm(nodes, session_manager=session_manager, id=team_id)
    builder = GraphBuilder()
    for agent in nodes:
        builder.add_node(agent, agent.name)
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    builder.set_max_node_executions(9)
    builder.set_graph_id(team_id)
    builder.set_session_manager(session_manager)
    return builder.build()


# What other processes do.


def run_into_an_accident(kind: str, store: str, folder: Path, accident: str, task: Any = "the task") -> None:
    """Give a team a task that it cannot finish."""
    with suppress(RuntimeError):
        build_team(kind, open_session(store, "session", folder), folder, accident)(task)


def finish(kind: str, store: str, folder: Path) -> tuple[str, dict[str, str]]:
    """Resume a team and return how it ended and what each node said."""
    result = build_team(kind, open_session(store, "session", folder), folder)("the task")
    return result.status.value, {name: str(node.result).strip() for name, node in result.results.items()}


def start_sessions(kind: str, folder: Path, session_ids: list[str]) -> None:
    """Start a team in each of several sessions."""
    for session_id in session_ids:
        build_team(kind, open_session("sqlite", session_id, folder), folder)


def task_of_graph(folder: Path) -> Any:
    """The task with which a resumed graph should continue."""
    return build_team("graph", open_session("sqlite", "session", folder), folder).state.task


def answer_team(kind: str, store: str, folder: Path, responses: list[dict[str, Any]]) -> tuple[str, str]:
    """Resume an interrupted team with what the human says; return how it ended and what its node a received."""
    script = [lambda messages: str(messages[-1]["content"])]
    result = build_team(kind, open_session(store, "session", folder), folder, a=script)(responses)
    return result.status.value, str(result.results["a"].result)
