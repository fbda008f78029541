"""Several agents: in one session, in conversation with each other, as a Graph and as a Swarm.

Run it with `python examples/02_multi_agent.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from offline_model import example_model
from strands import Agent, tool
from strands.hooks import BeforeInvocationEvent, HookCallback
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.graph import Graph

from strands_sqlite_session_manager import SQLiteSessionManager

NOTES = {"Lisbon": "Lisbon stands on seven hills, where the Tagus meets the Atlantic."}
TASK = "Tell me about Lisbon."
INTERVIEW = """You are at an interview. Answer in one sentence, then ask the first of these that you have not asked yet.
What is your name?
What is your craft?
What do you know about me?"""
POWER_CUT = 42  # the exit code
COMPLAINT = "My name is Ada. My order is A-17, and I want a refund."


@tool
def look_up(topic: str) -> str:
    """Look up what the library has on a topic.

    Args:
        topic: The name of a place.
    """
    return NOTES.get(topic, f"There is nothing about {topic}.")


@tool
def count_words(text: str) -> str:
    """Count the words of a text, of which at most 20 are allowed.

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
    """Several agents in one session: each has an agent_id, and a conversation and a state of its own."""
    for agent_id, fact in (("cook", "I like mushrooms."), ("doctor", "My blood group is A positive.")):
        with SQLiteSessionManager("family", db_path) as session_manager:
            new_agent(session_manager, agent_id)(fact)
    with SQLiteSessionManager("family", db_path) as session_manager:
        for agent_id in ("cook", "doctor"):
            known = said(new_agent(session_manager, agent_id)("What do you know about me?"))
            print(f"   {agent_id + ':':<8}{known}")
            assert ("mushroom" in known, "blood" in known) == (agent_id == "cook", agent_id == "doctor")
        print(f"   in the session: {', '.join(agent.agent_id for agent in session_manager.list_agents('family'))}")


def interview(db_path: Path) -> None:
    """An interview: two agents ask each other; built anew in the middle of it, they go on where they were."""
    last = "Please begin."
    for turns in (4, 3):
        with SQLiteSessionManager("interview", db_path) as session_manager:
            ada = new_agent(session_manager, "Ada", f"Your name is Ada. Your craft is poetry. {INTERVIEW}")
            grace = new_agent(session_manager, "Grace", f"Your name is Grace. Your craft is sailing. {INTERVIEW}")
            print(f"   (they begin with {len(ada.messages)} and {len(grace.messages)} messages)")
            for turn in range(turns):
                agent = (ada, grace)[turn % 2]
                last = said(agent(last))
                print(f"   {agent.agent_id + ':':<7}{last}")
    assert len(ada.messages) == 8


def graph_of_agents(db_path: Path) -> None:
    """A Graph: researcher, writer and reviewer work one after the other; the graph gets the session."""
    with SQLiteSessionManager("article", db_path) as session_manager:
        result = new_graph(session_manager, began=[])(TASK)
        for node_id, node_result in result.results.items():
            print(f"   {node_id + ':':<12}{said(node_result.result)}")


def swarm_with_a_specialist(db_path: Path) -> None:
    """A Swarm: the front desk cannot help, and hands the customer over to a specialist."""
    print(f"   customer: {COMPLAINT}")
    with SQLiteSessionManager("complaint", db_path) as session_manager:
        result = new_swarm(session_manager, began=[])(COMPLAINT)
    print(f"   billing:  {said(result.results['billing'].result)}")
    assert [node.node_id for node in result.node_history] == ["front desk", "billing"]


def stopped_half_way(db_path: Path) -> None:
    """Stopped half-way: a process dies in the middle of a graph, and a new one does only what is left."""
    in_a_new_process("graph", db_path, power_cut="writer")
    in_a_new_process("graph", db_path)


def run_graph(db_path: Path, power_cut: str) -> None:
    """Do what `stopped_half_way` starts this program twice for; a power cut ends it in the middle."""
    began: list[str] = []
    with SQLiteSessionManager("stopped", db_path) as session_manager:
        result = new_graph(session_manager, began, power_cut)(TASK)  # if it resumes, with the task in the session
    print(f"   {' -> '.join(node.node_id for node in result.execution_order)}: {result.status.value}")
    print(f"   reviewer: {said(result.results['reviewer'].result)}")
    assert began == ["writer", "reviewer"]


def shared_context(db_path: Path) -> None:
    """Shared context: what the agents of a swarm have told each other outlives the process, too."""
    in_a_new_process("swarm", db_path, power_cut="billing")
    in_a_new_process("swarm", db_path)


def run_swarm(db_path: Path, power_cut: str) -> None:
    """Do what `shared_context` starts this program twice for; a power cut ends it in the middle."""
    began: list[str] = []
    with SQLiteSessionManager("stopped", db_path) as session_manager:
        swarm = new_swarm(session_manager, began, power_cut)
        print(f"   process {os.getpid()}: the swarm knows {swarm.shared_context.context or 'nothing'}")
        result = swarm(COMPLAINT)
    print(f"   {' -> '.join(node.node_id for node in result.node_history)}: {result.status.value}")
    assert "front desk" in swarm.shared_context.context
    if began != ["billing"]:
        print("   (this version of Strands goes back to the one that handed over; 1.53 and newer do not)")


def new_agent(session_manager: SQLiteSessionManager, agent_id: str, system_prompt: str | None = None) -> Agent:
    """Build an agent, which resumes if there was one with this id in the session."""
    return Agent(
        model=example_model(),
        agent_id=agent_id,
        system_prompt=system_prompt,
        session_manager=session_manager,
        callback_handler=None,
    )


def new_graph(session_manager: SQLiteSessionManager, began: list[str], power_cut: str = "") -> Graph:
    """Build a graph, which resumes if its session holds one that was stopped half-way."""
    researcher = new_node("researcher", "Use look_up, and say what you found.", look_up)
    writer = new_node("writer", 'Write one sentence from the notes. Begin with "Draft:".')
    reviewer = new_node("reviewer", 'Use count_words. Begin with "Accepted:" or "Rejected:".', count_words)
    builder = GraphBuilder()
    for node in (researcher, writer, reviewer):
        node.hooks.add_callback(BeforeInvocationEvent, who_begins(began, power_cut))
        builder.add_node(node, node.name)
    builder.add_edge("researcher", "writer")
    builder.add_edge("writer", "reviewer")
    builder.set_graph_id("team")
    builder.set_max_node_executions(10)
    builder.set_session_manager(session_manager)
    return builder.build()


def new_swarm(session_manager: SQLiteSessionManager, began: list[str], power_cut: str = "") -> Swarm:
    """Build a swarm, which resumes if its session holds one that was stopped half-way."""
    front_desk = new_node("front desk", "Hand over to whoever can help, with what you know of the customer as context.")
    delivery = new_node("delivery", "You find lost parcels.")
    billing = new_node("billing", "You correct invoices and make refunds.", refund)
    for node in (front_desk, delivery, billing):
        node.description = node.system_prompt  # which the others see
        node.hooks.add_callback(BeforeInvocationEvent, who_begins(began, power_cut))
    return Swarm([front_desk, delivery, billing], id="help-desk", session_manager=session_manager)


def new_node(name: str, system_prompt: str, *tools: Any) -> Agent:
    """Build an agent without a session: that of the graph or swarm keeps what it has done."""
    return Agent(name=name, model=example_model(), system_prompt=system_prompt, tools=[*tools], callback_handler=None)


def who_begins(began: list[str], power_cut: str) -> HookCallback[BeforeInvocationEvent]:
    """Return a hook that shows and notes who begins to work, and cuts the power off at a certain one."""

    def begins(event: BeforeInvocationEvent) -> None:
        print(f"   process {os.getpid()}: {event.agent.name} begins", flush=True)
        began.append(event.agent.name)
        if event.agent.name == power_cut:
            os._exit(POWER_CUT)  # at once, with no chance to tidy up

    return begins


def said(answer: object) -> str:
    """What an agent said, on one line."""
    return " ".join(str(answer).split())


def in_a_new_process(work: str, db_path: Path, power_cut: str = "") -> None:
    """Run another function of this program in a process of its own, which dies if there is a power cut."""
    sys.stdout.flush()
    process = subprocess.run([sys.executable, __file__, work, str(db_path), power_cut], check=False)
    assert process.returncode == (POWER_CUT if power_cut else 0)


def main() -> None:
    """Run the sections one after the other, on one file."""
    sections = (
        agents_in_one_session,
        interview,
        graph_of_agents,
        swarm_with_a_specialist,
        stopped_half_way,
        shared_context,
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(sections, start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "sessions.db"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"graph": run_graph, "swarm": run_swarm}[sys.argv[1]](Path(sys.argv[2]), power_cut=sys.argv[3])
    else:
        main()
