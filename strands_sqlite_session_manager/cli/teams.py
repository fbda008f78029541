"""Prints Graphs and Swarms: the task, and the last answer of each node."""

from collections.abc import Callable, Iterator
from typing import Any

from ..sessions.orchestrators import Node, Orchestrator
from ..sessions.text import parts
from .conversation import text_lines
from .output import local_time, print_json, safe, safe_block, safe_lines, style

_STYLES = {"completed": "green", "failed": "red", "interrupted": "yellow"}


def print_text(session_id: str, orchestrator: Orchestrator) -> None:
    """Print an orchestrator for people."""
    name = style(safe(f"{orchestrator.kind} {orchestrator.multi_agent_id}"), "bold")
    print(f"{name}  {_status(orchestrator.status)}  {style(local_time(orchestrator.updated_at), 'dim')}")
    for line in text_lines(orchestrator.task):
        print(f"  {line}")
    print()
    for depth, node in _nested(orchestrator.nodes):
        indent = "  " * depth
        print(indent + f"{style(safe(node.node_id), 'green')}  {_status(node.status)}  {_facts(node)}".rstrip())
        for line in _said(node):
            print(f"{indent}  {line}")
        print()


def print_markdown(session_id: str, orchestrator: Orchestrator) -> None:
    """Print an orchestrator as Markdown."""
    print(f"### {safe(orchestrator.kind)} {safe(orchestrator.multi_agent_id)}\n")
    print(f"*{local_time(orchestrator.updated_at)}, {safe(orchestrator.status)}*\n")
    for part in parts(orchestrator.task):
        print(safe_block(part.text) + "\n")
    for depth, node in _nested(orchestrator.nodes):
        facts = ", ".join(filter(None, (safe(node.status), *_numbers(node))))
        print(f"{'#' * min(3 + depth, 6)} {safe(node.node_id)}\n\n*{facts}*\n")
        if node.error is not None:
            print(safe_block(node.error) + "\n")
        for part in parts(node.message):
            print(safe_block(part.text) + "\n")


def print_line(session_id: str, orchestrator: Orchestrator) -> None:
    """Print an orchestrator as a line of JSON."""
    print_json(
        {
            "session_id": session_id,
            "multi_agent_id": orchestrator.multi_agent_id,
            "kind": orchestrator.kind,
            "status": orchestrator.status,
            "updated_at": orchestrator.updated_at,
            "task": orchestrator.task["content"],
            "nodes": [_object(node) for node in orchestrator.nodes],
        }
    )


FORMATS: dict[str, Callable[[str, Orchestrator], None]] = {
    "text": print_text,
    "markdown": print_markdown,
    "json": print_line,
}


def _nested(nodes: tuple[Node, ...], depth: int = 1) -> Iterator[tuple[int, Node]]:
    for node in nodes:
        yield depth, node
        yield from _nested(node.nodes, depth + 1)


def _object(node: Node) -> dict[str, Any]:
    return {**vars(node), "nodes": [_object(inner) for inner in node.nodes]}


def _said(node: Node) -> list[str]:
    failed = [] if node.error is None else [style(line, "red") for line in safe_lines(node.error)]
    return [*failed, *text_lines(node.message)]


def _status(status: str) -> str:
    return style(safe(status), _STYLES.get(status, "dim"))


def _facts(node: Node) -> str:
    return style("  ".join(_numbers(node)), "dim") if _numbers(node) else ""


def _numbers(node: Node) -> list[str]:
    numbers = []
    if node.runs > 1:
        numbers.append(f"ran {node.runs} times")
    if node.milliseconds is not None:
        numbers.append(
            f"{node.milliseconds:,} ms" if node.milliseconds < 10_000 else f"{node.milliseconds / 1000:,.0f} s"
        )
    if node.total_tokens is not None:
        numbers.append(f"{node.total_tokens:,} tokens")
    return numbers
