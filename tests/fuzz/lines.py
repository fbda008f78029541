"""JSON Lines: an import refuses a line, or stores it so that all of it can be used."""

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import fill, run
from ..support.conversations import CONVERSATIONS, build
from ..support.records import Orchestrator
from .target import Target

_WRONG = (
    *(None, True, False, 0, -1, 1.5, float("nan"), 2**63, 2**70, -(2**63), "", " ", "x", "a/b", "\0", "\ud800", "é~"),
    *([], {}, [[0, None]], [[5, 2]], {"role": "user"}, {"text": "x"}, {"__bytes_encoded__": True, "data": "!"}, [1]),
    {"__bytes_encoded__": "raw", "data": "AA=="},
)
wrong = st.sampled_from(_WRONG) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_at = st.integers(0, 30)
edits = st.one_of(
    st.tuples(st.sampled_from(["drop", "repeat", "first", "last", "cut", "break"]), _at, _at, st.none()),
    st.tuples(st.sampled_from(["set", "add", "remove", "wrap"]), _at, st.lists(_at, min_size=1, max_size=5), wrong),
    st.tuples(st.just("bytes"), _at, _at, st.binary(min_size=1, max_size=6)),
)
inputs = (
    st.tuples(st.just("edits"), st.lists(edits, min_size=1, max_size=5))
    | st.tuples(st.just("bytes"), st.binary(max_size=300))
    | st.tuples(st.just("lines"), st.lists(wrong, max_size=4))
)


@functools.cache
def export() -> tuple[bytes, ...]:
    """Return the lines of a real export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        fill(path)
        with SQLiteSessionManager("team", path) as manager:
            CONVERSATIONS["summarizing twice"].play(manager)
            manager.create_multi_agent("team", Orchestrator("graph", {"bytes": b"\xff", "x": [1, {"y": None}]}))
        run("export", "--all", "-o", path.with_suffix(".jsonl"), db=path)
        return tuple(path.with_suffix(".jsonl").read_bytes().splitlines())


def check(drawn: tuple[str, Any]) -> None:
    """Import something."""
    kind, given = drawn
    if kind == "edits":
        content = b"\n".join(functools.reduce(_edit, given, list(export())))
    elif kind == "lines":
        content = b"\n".join(json.dumps(line).encode() for line in given)
    else:
        content = given
    with tempfile.TemporaryDirectory() as folder:
        _import(Path(folder) / "x.db", content)


def _import(path: Path, content: bytes) -> None:
    path.with_suffix(".jsonl").write_bytes(content)
    ended = run("import", "--create", path.with_suffix(".jsonl"), db=path)
    if ended.code:
        assert ended.code == 1
        assert re.fullmatch(r"strands-sqlite: line \d+ \| .+\n", ended.err), ended.err
        assert not re.search("unhashable|object has no|argument|Traceback", ended.err), ended.err
    if not path.exists():
        return
    session_ids = []
    for line in run("list", "--json", db=path).out.splitlines():
        session_ids.append(json.loads(line)["session_id"])
    for arguments in (
        *(("list",), ("stats",), ("search", "x"), ("export", "--all")),
        *(("show", session_id, *form) for session_id in session_ids for form in ((), ("--json",))),
    ):
        done = run("--db", path, *arguments[:1], *_options(arguments[1:]))
        assert (done.code, done.err) == (0, ""), (arguments, done.err)
    assert run("check", db=path).code in (0, 1)
    with SQLiteSessionRepository(path) as repository:
        for session_id in session_ids:
            _use(repository, path, session_id)
    _moves_on_unchanged(path)


def _options(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Mark an id as an argument, even if it begins with a dash."""
    options = tuple(argument for argument in arguments if argument in ("--json", "--all"))
    return (*options, "--", *arguments[: len(arguments) - len(options)]) if arguments else ()


def _use(repository: SQLiteSessionRepository, path: Path, session_id: str) -> None:
    repository.read_session(session_id)
    for agent in repository.list_agents(session_id):
        repository.list_messages(session_id, agent.agent_id)
    for name in repository.list_multi_agents(session_id):
        repository.read_multi_agent(session_id, name)
    repository.search_messages("x", session_id=session_id)
    with SQLiteSessionManager(session_id, path, synchronous="NORMAL") as manager:
        build(manager, agent_id="somebody new")("hello")
        manager.fork_session(session_id, "a fork of it")
        manager.delete_session("a fork of it")


def _moves_on_unchanged(path: Path) -> None:
    """Export what was stored, import it again, and assert that it is the same."""
    out = run("export", "--all", db=path).out
    again = path.with_name("again.db")
    path.with_suffix(".jsonl").write_bytes(out.encode())
    ended = run("import", "--create", path.with_suffix(".jsonl"), db=again)
    assert (ended.code, ended.err) == (0, "")
    assert not out or run("export", "--all", db=again).out == out


def _edit(lines: list[bytes], edit: tuple[str, int, Any, Any]) -> list[bytes]:
    name, at, where, value = edit
    if not lines:
        return lines
    at %= len(lines)
    line = lines[at]
    if name == "drop":
        return lines[:at] + lines[at + 1 :]
    if name == "repeat":
        return [*lines[: where % len(lines)], line, *lines[where % len(lines) :]]
    if name in ("first", "last"):
        others = lines[:at] + lines[at + 1 :]
        return [line, *others] if name == "first" else [*others, line]
    if name == "cut":
        return [*lines[:at], line[: where * 10], *lines[at + 1 :]]
    if name == "break":
        return [*lines[:at], line[: where * 10], line[where * 10 :], *lines[at + 1 :]]
    if name == "bytes":
        start = where * 10 % (len(line) or 1)
        return [*lines[:at], line[:start] + value + line[start + len(value) :], *lines[at + 1 :]]
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return lines
    return [*lines[:at], json.dumps(_change(parsed, name, where, value)).encode(), *lines[at + 1 :]]


def _change(value: Any, name: str, where: list[int], new: Any) -> Any:
    """Change what a path of numbers leads to, as far as it goes."""
    if not where or not isinstance(value, (dict, list)) or not value:
        return [value] if name == "wrap" else new
    names = list(value) if isinstance(value, dict) else list(range(len(value)))
    chosen = names[where[0] % len(names)]
    if len(where) == 1 and name == "remove":
        return {k: v for k, v in value.items() if k != chosen} if isinstance(value, dict) else value[:chosen]
    if len(where) == 1 and name == "add":
        return {**value, str(new): new} if isinstance(value, dict) else [*value, new]
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[chosen] = _change(value[chosen], name, where[1:], new)
    return changed


TARGET = Target(inputs, check, examples=10)
