"""What the stored state of a Graph or Swarm says: its task, and the nodes in the order in which they ran."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..database.values import decode_state


@dataclass(frozen=True)
class Node:
    """A node of an orchestrator.

    Attributes:
        node_id: Its id.
        status: A status such as `completed`, `failed` or `interrupted`; `pending` if the node comes next.
        runs: How often it ran.
        milliseconds: How long its last run took, or None if that is not known.
        total_tokens: The tokens of its last run, or None.
        message: Its last answer, as a message; None if it said nothing.
        error: The error that it failed with, if it failed.
        nodes: Its own nodes, if it is an orchestrator.
    """

    node_id: str
    status: str
    runs: int
    milliseconds: int | None
    total_tokens: int | None
    message: dict[str, Any] | None
    error: str | None
    nodes: tuple["Node", ...]


@dataclass(frozen=True)
class Orchestrator:
    """The last run of an orchestrator.

    Attributes:
        multi_agent_id: Its id.
        kind: `graph`, `swarm`, or what another kind calls itself.
        status: Its status, as for a node.
        task: What it was asked to do, as a message of the user.
        nodes: Its nodes, in the order in which they first ran, then those that come next.
        updated_at: When it was last stored, ISO 8601.
    """

    multi_agent_id: str
    kind: str
    status: str
    task: dict[str, Any]
    nodes: tuple[Node, ...]
    updated_at: str


def orchestrators_of(connection: sqlite3.Connection, session_id: str) -> list[Orchestrator]:
    """Return the orchestrators of a session, in order of creation.

    Raises:
        UnreadableError: If a state cannot be read.
    """
    rows = connection.execute(
        "SELECT multi_agent_id, state, updated_at FROM multi_agents WHERE session_id = ?"
        " ORDER BY created_at, multi_agent_id",
        (session_id,),
    ).fetchall()
    return [orchestrator(session_id, *row) for row in rows]


def kind_of(connection: sqlite3.Connection, session_id: str) -> str:
    """Return the kinds of a session's orchestrators, such as `graph`; empty if it has none."""
    return ", ".join(dict.fromkeys(found.kind for found in orchestrators_of(connection, session_id)))


def orchestrator(session_id: str, multi_agent_id: str, text: str, updated_at: str) -> Orchestrator:
    """Return an orchestrator from the JSON of its state.

    Raises:
        UnreadableError: If it cannot be read.
    """
    state = decode_state(text, "the state of", multi_agent_id, "in session", session_id)
    if not isinstance(state, dict):
        state = {}
    results = _dict(state.get("node_results"))
    order = [node_id for name in ("execution_order", "node_history") for node_id in _list(state.get(name))]
    coming = [node_id for node_id in _list(state.get("next_nodes_to_execute")) if node_id not in results]
    runs = Counter(order)
    ran = dict.fromkeys([*(node_id for node_id in order if node_id in results), *results])
    task = state.get("current_task")
    return Orchestrator(
        multi_agent_id,
        str(state.get("type") or "orchestrator"),
        str(state.get("status") or "unknown"),
        {"role": "user", "content": [{"text": task}] if isinstance(task, str) else task},
        (
            *(_node(str(node_id), _dict(results[node_id]), max(runs[node_id], 1)) for node_id in ran),
            *(Node(str(node_id), "pending", 0, None, None, None, None, ()) for node_id in dict.fromkeys(coming)),
        ),
        updated_at,
    )


def flat(nodes: tuple[Node, ...]) -> Iterator[Node]:
    """Return nodes, each followed by its own nodes."""
    for node in nodes:
        yield node
        yield from flat(node.nodes)


def _node(node_id: str, result: dict[str, Any], runs: int) -> Node:
    said = _dict(result.get("result"))
    message, error = said.get("message"), None
    if said.get("type") == "exception":
        message, error = None, str(message)
    return Node(
        node_id,
        str(result.get("status") or "unknown"),
        runs,
        _number(result.get("execution_time")),
        _number(_dict(result.get("accumulated_usage")).get("totalTokens")),
        message if isinstance(message, dict) else None,
        error,
        tuple(_node(str(inner), _dict(found), 1) for inner, found in _dict(said.get("results")).items()),
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
