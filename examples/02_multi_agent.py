"""Several agents: in one session, as a Graph, and as a Swarm.

Run it with `python examples/02_multi_agent.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import asyncio
import tempfile
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

from offline_model import OfflineModel, example_model
from strands import Agent, tool
from strands.models import Model
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.graph import Graph

from strands_sqlite_session_manager import SQLiteSessionManager


@tool
def look_up(topic: str) -> str:
    """Look up a topic in the library.

    Args:
        topic: The name of a place.
    """
    print("   (the researcher calls look_up)")
    notes = {"Lisbon": "Lisbon stands on seven hills, where the Tagus meets the Atlantic."}
    return notes.get(topic, f"There is nothing about {topic}.")


@tool
def count_words(text: str) -> str:
    """Count the words of a text. At most 20 are allowed.

    Args:
        text: The text.
    """
    return f"{len(text.split())} of at most 20 words."


@tool
def refund(order: str) -> str:
    """Refund an order.

    Args:
        order: The order's number.
    """
    return f"The money for order {order} is on its way."


def agents_in_one_session(db_path: Path) -> None:
    """Several agents in one session: give each an agent_id, and it keeps its own conversation and state."""
    with SQLiteSessionManager("family", db_path) as session_manager:
        for agent_id, fact in (("cook", "I like mushrooms."), ("doctor", "My blood group is A positive.")):
            new_agent(session_manager, agent_id)(fact)

    with SQLiteSessionManager("family", db_path) as session_manager:
        for agent_id in ("cook", "doctor"):
            answer = new_agent(session_manager, agent_id)("What do you know about me?")
            print(f"   {agent_id}: {said(answer)}")


def graph_of_agents(db_path: Path) -> None:
    """A Graph: give the session manager to the graph, not to its nodes."""
    with SQLiteSessionManager("article", db_path) as session_manager:
        result = new_graph(session_manager)("Tell me about Lisbon.")
    for node_id, node_result in result.results.items():
        print(f"   {node_id}: {said(node_result.result)}")


def stopped_graph(db_path: Path) -> None:
    """A graph that was stopped halfway: a new graph on the same session runs only the nodes that are left."""

    async def stop_soon(graph: Graph) -> None:
        await asyncio.wait_for(graph.invoke_async("Tell me about Lisbon."), timeout=1)

    with SQLiteSessionManager("stopped", db_path) as session_manager:
        try:
            asyncio.run(stop_soon(new_graph(session_manager, writer_model=SilentModel())))
        except asyncio.TimeoutError:
            print("   stopped while the writer waits for its model")

    with SQLiteSessionManager("stopped", db_path) as session_manager:
        result = new_graph(session_manager)("Tell me about Lisbon.")
    assert result.status.value == "completed"
    print(f"   reviewer: {said(result.results['reviewer'].result)}")


def swarm_with_a_specialist(db_path: Path) -> None:
    """A Swarm: the front desk cannot help, and hands the customer over to billing."""
    front_desk = new_node("front desk", "Hand over to whoever can help, with what you know of the customer as context.")
    billing = new_node("billing", "You correct invoices and make refunds.", refund)
    for node in (front_desk, billing):
        node.description = node.system_prompt  # the other agents see it
    with SQLiteSessionManager("complaint", db_path) as session_manager:
        swarm = Swarm([front_desk, billing], id="help-desk", session_manager=session_manager)
        result = swarm("My name is Ada. My order is A-17, and I want a refund.")
    print(f"   {' -> '.join(node.node_id for node in result.node_history)}: {said(result.results['billing'].result)}")


class SilentModel(OfflineModel):
    """A model that never answers."""

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """Wait."""
        await asyncio.sleep(3600)
        yield {}


def new_agent(session_manager: SQLiteSessionManager, agent_id: str) -> Agent:
    """Build an agent. It resumes if the session has an agent with this id."""
    return Agent(model=example_model(), agent_id=agent_id, session_manager=session_manager, callback_handler=None)


def new_graph(session_manager: SQLiteSessionManager, writer_model: Model | None = None) -> Graph:
    """Build a graph of a researcher, a writer and a reviewer."""
    builder = GraphBuilder()
    builder.add_node(new_node("researcher", "Use look_up, and say what you found.", look_up), "researcher")
    builder.add_node(
        new_node("writer", 'Write one sentence from the notes. Begin with "Draft:".', model=writer_model), "writer"
    )
    builder.add_node(
        new_node("reviewer", 'Use count_words. Begin with "Accepted:" or "Rejected:".', count_words), "reviewer"
    )
    builder.add_edge("researcher", "writer")
    builder.add_edge("writer", "reviewer")
    builder.set_graph_id("team")
    builder.set_max_node_executions(10)
    builder.set_session_manager(session_manager)
    return builder.build()


def new_node(name: str, system_prompt: str, *tools: Any, model: Model | None = None) -> Agent:
    """Build an agent without a session manager: the graph or swarm stores what it did."""
    return Agent(
        name=name,
        model=model or example_model(),
        system_prompt=system_prompt,
        tools=[*tools],
        callback_handler=None,
    )


def said(answer: object) -> str:
    """Return an answer on one line."""
    return " ".join(str(answer).split())


def main() -> None:
    """Run the sections one after the other, on one file."""
    sections = (agents_in_one_session, graph_of_agents, stopped_graph, swarm_with_a_specialist)
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(sections, start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "sessions.db"))


if __name__ == "__main__":
    main()
