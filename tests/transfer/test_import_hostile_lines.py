"""Lines that no export wrote are refused with their number, or stored so that they can be used."""

import copy
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import run
from ..support.conversations import build

TIMES = {"created_at": "2024-05-06T07:08:09+00:00", "updated_at": "2024-05-06T07:08:09+00:00"}
SESSION = {
    "kind": "session",
    "session_id": "s",
    "format": 1,
    "agents": 1,
    "messages": 2,
    "multi_agents": 1,
    "agent_versions": 1,
    "message_versions": 1,
    "session_type": "AGENT",
    "metadata": {"user": "1"},
    **TIMES,
    "active_at": TIMES["updated_at"],
    "forked_from": None,
    "forked_through": None,
}
MANAGER = {"__name__": "SlidingWindowConversationManager", "removed_message_count": 0}
AGENT = {
    "kind": "agent",
    "session_id": "s",
    "agent_id": "default",
    **TIMES,
    "state": {},
    "internal_state": {},
    "conversation_manager_state": MANAGER,
    "context": [[0, None]],
}


def message(number: int, **fields: Any) -> dict[str, Any]:
    said = {"role": "user" if number % 2 == 0 else "assistant", "content": [{"text": f"text {number}"}]}
    stored = {"message": said, "redact_message": None, "edited_message": None}
    return {
        "kind": "message",
        "session_id": "s",
        "agent_id": "default",
        "message_id": number,
        **TIMES,
        **stored,
        **fields,
    }


ORCHESTRATOR = {"kind": "multi_agent", "session_id": "s", "multi_agent_id": "graph", **TIMES, "state": {}}
AGENT_VERSION = {
    **{name: AGENT[name] for name in ("session_id", "agent_id", "state", "internal_state", "context")},
    "kind": "agent_version",
    "before_message_id": 1,
    "conversation_manager_state": None,
}
MESSAGE_VERSION = {
    "kind": "message_version",
    "session_id": "s",
    "agent_id": "default",
    "message_id": 0,
    "before_message_id": 1,
    "edited_message": None,
}
LINES: list[dict[str, Any]] = [
    *(SESSION, AGENT, message(0), message(1), ORCHESTRATOR, AGENT_VERSION, MESSAGE_VERSION),
]
NAMES = ("session", "agent", "message", "second message", "orchestrator", "version of an agent", "version of a message")
WRONG: list[Any] = [
    *(
        None,
        True,
        -1,
        7,
        1.5,
        float("nan"),
        2**70,
        "",
        "x",
        "a/b",
        "\x00",
        "\ud800",
        "é~",
        [],
        {},
        {"\ud800": "\ud800"},
    ),
]


def put(path: Path, lines: list[Any]) -> tuple[int, str]:
    """Import lines, given as text or as what is to be text; return the exit code and the error."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    path.with_suffix(".jsonl").write_text(text)
    ended = run("import", "--create", path.with_suffix(".jsonl"), db=path)
    return ended.code, ended.err


def sessions(path: Path) -> int:
    """Return how many sessions are stored in a file that may not be there."""
    return len(run("list", "--json", db=path).out.splitlines())


def assert_refused(path: Path, lines: list[Any], number: int | None = None) -> None:
    code, error = put(path, lines)
    assert code == 1
    assert re.fullmatch(r"strands-sqlite: line \d+ \| .+\n", error)
    assert number is None or f"line {number} | " in error
    assert "unhashable" not in error
    assert not sessions(path)


def assert_readable(path: Path) -> None:
    for arguments in (("list",), ("show", "s"), ("show", "s", "--json"), ("search", "x"), ("export", "--all")):
        ended = run(*arguments, db=path)
        assert (ended.code, ended.err) == (0, ""), arguments
    assert run("check", db=path).code in (0, 1)
    assert sessions(path) == 1


def assert_resumes(path: Path) -> None:
    with SQLiteSessionManager("s", path) as manager:
        for agent_id in manager.list_sessions()[0].agent_ids:
            manager.list_messages("s", agent_id)
        for orchestrator_id in manager.list_multi_agents("s"):
            manager.read_multi_agent("s", orchestrator_id)
        build(manager)("go on")


def refused_or_readable(path: Path, lines: list[Any]) -> bool:
    """Import lines, which are refused in one line, or readable; return whether they were stored."""
    code, error = put(path, lines)
    assert code == 0 or re.fullmatch(r"strands-sqlite: line \d+ \| .+\n", error), error
    if code and not sessions(path):
        return False
    assert_readable(path)
    return True


def test_the_lines_that_the_other_tests_change_are_valid(tmp_path: Path) -> None:
    assert put(tmp_path / "x.db", LINES) == (0, "")
    assert_readable(tmp_path / "x.db")
    assert_resumes(tmp_path / "x.db")


@pytest.mark.parametrize(
    "line",
    ["null", "5", "true", '"session"', "[]", "[1]", "{}", "NaN", "{]", '{"kind": ', "\x00", "[" * 100_000, "\ufeff{}"],
    ids=lambda line: ascii(line[:9]),
)
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_line_that_no_export_writes_is_refused(at: int, line: str, tmp_path: Path) -> None:
    assert_refused(tmp_path / "x.db", [*LINES[:at], line, *LINES[at + 1 :]], at + 1)


@pytest.mark.long
@pytest.mark.parametrize("at", range(len(LINES)), ids=NAMES)
def test_keys_that_are_missing_or_too_many_are_refused(at: int, tmp_path: Path) -> None:
    for key in LINES[at]:
        lines = copy.deepcopy(LINES)
        del lines[at][key]
        assert_refused(tmp_path / "x.db", lines, at + 1)
    for extra in ("extra", "revision", "rowid", "", "\ud800", "created_at; DROP TABLE sessions"):
        assert_refused(tmp_path / "x.db", [*LINES[:at], {**LINES[at], extra: 1}, *LINES[at + 1 :]], at + 1)


@pytest.mark.parametrize(("at", "key"), [(at, key) for at, line in enumerate(LINES) if at != 3 for key in line])
def test_a_value_of_any_kind_is_refused_or_readable(at: int, key: str, tmp_path: Path) -> None:
    for number, wrong in enumerate(WRONG):
        path = tmp_path / f"{number}.db"
        if refused_or_readable(path, [*LINES[:at], {**LINES[at], key: wrong}, *LINES[at + 1 :]]):
            with SQLiteSessionRepository(path) as repository:
                (summary,) = repository.list_sessions()
                with suppress(SessionException):
                    repository.read_session(summary.session_id)


@pytest.mark.parametrize(
    ("at", "change"),
    [
        (0, {"agents": -1}),
        (0, {"messages": 1.0}),
        (0, {"messages": 10**30}),
        (0, {"multi_agents": True}),
        (0, {"messages": 1}),
        (0, {"messages": 3}),
        (0, {"format": 2}),
        (0, {"kind": "agent"}),
        (0, {"kind": ["session"]}),
        (0, {"kind": {}}),
        (0, {"session_id": []}),
        (0, {"session_id": {}}),
        (0, {"session_id": "other"}),
        (0, {"metadata": {"a": 1}}),
        (0, {"metadata": ["a"]}),
        (1, {"session_id": "other"}),
        (1, {"agent_id": "other"}),
        (1, {"agent_id": ["default"]}),
        (1, {"state": []}),
        (1, {"state": None}),
        (1, {"context": {}}),
        (1, {"context": [5]}),
        (1, {"context": [[0]]}),
        (1, {"context": [[0, 1, 2]]}),
        (1, {"context": [["0", None]]}),
        (1, {"context": [[0, 1.5]]}),
        (2, {"session_id": "other"}),
        (2, {"agent_id": "other"}),
        (2, {"message_id": "0"}),
        (2, {"message_id": 2**63}),
        (2, {"message_id": None}),
        (2, {"message": None}),
        (2, {"message": "text"}),
        (2, {"redact_message": "text"}),
        (3, {"message_id": 0}),
        (4, {"session_id": "other"}),
        (4, {"multi_agent_id": ""}),
        (4, {"state": "text"}),
    ],
    ids=str,
)
def test_an_impossible_value_is_refused(at: int, change: dict[str, Any], tmp_path: Path) -> None:
    assert_refused(tmp_path / "x.db", [*LINES[:at], {**LINES[at], **change}, *LINES[at + 1 :]])


@pytest.mark.parametrize(
    "lines",
    [
        [*LINES, *LINES],
        [SESSION, AGENT, *LINES[1:]],
        [SESSION, *LINES],
        [SESSION, *reversed(LINES[1:])],
        [*LINES[1:]],
        [*LINES, AGENT],
        [{**SESSION, "agents": 2}, AGENT, *LINES[1:]],
        [{**SESSION, "multi_agents": 2}, *LINES[1:5], *LINES[4:]],
        [{**SESSION, "messages": 3}, *LINES[1:4], *LINES[3:]],
    ],
    ids=[
        *("a session twice", "an agent twice", "a session line twice", "disorder", "no session", "an agent too many"),
        *("two agents of one id", "two orchestrators of one id", "two messages of one id"),
    ],
)
def test_lines_that_do_not_fit_together_are_refused(lines: list[Any], tmp_path: Path) -> None:
    code, error = put(tmp_path / "x.db", lines)
    assert code == 1
    assert re.fullmatch(r"strands-sqlite: line \d+ \| .+\n", error)
    assert sessions(tmp_path / "x.db") == (lines[: len(LINES)] == LINES)  # the first session is whole


@pytest.mark.parametrize("depth", [200, 400, 990, 20_000])
@pytest.mark.parametrize("place", ["state", "text", "toolUse", "toolResult", "metadata", "redact_message", "context"])
def test_deep_nesting_is_refused_or_resumed(place: str, depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "0" + "]" * depth
    contents = {
        "text": '{"text": "x", "more": DEEP}',
        "toolUse": '{"toolUse": {"toolUseId": "1", "name": "n", "input": {"x": DEEP}}}',
        "toolResult": '{"toolResult": {"toolUseId": "1", "status": "success", "content": [{"json": DEEP}]}}',
    }
    said = '{"role": "user", "content": [%s]}' % contents.get(place, contents["toolUse"])  # noqa: UP031 - braces
    lines = [json.dumps(line) for line in LINES]
    if place in ("text", "toolUse", "toolResult"):
        lines[2] = json.dumps({**LINES[2], "message": 0}).replace('"message": 0', f'"message": {said}')
    elif place == "redact_message":
        lines[2] = lines[2].replace(f'"{place}": null', f'"{place}": {said}')
    elif place == "context":
        lines[1] = lines[1].replace("[[0, null]]", f"[{said}, [0, null]]")
    elif place == "metadata":
        lines[0] = lines[0].replace('{"user": "1"}', '{"user": DEEP}')
    else:
        lines[4] = lines[4].replace('"state": {}', '"state": {"x": DEEP}')
    lines = [line.replace("DEEP", nested) for line in lines]
    assert any(nested in line for line in lines)
    if refused_or_readable(tmp_path / "x.db", lines):
        assert_resumes(tmp_path / "x.db")


@pytest.mark.long
@pytest.mark.parametrize(
    "marker", [{"data": "no base64!"}, {"data": 5}, {"data": None}, {"data": "é"}, {"data": []}, {}], ids=str
)
@pytest.mark.parametrize("place", ["message", "orchestrator"])
def test_malformed_encoded_bytes_are_refused_or_resumed(place: str, marker: dict[str, Any], tmp_path: Path) -> None:
    value = {"x": {"__bytes_encoded__": True, **marker}}
    at, key = {"message": (2, "message"), "orchestrator": (4, "state")}[place]
    whole = {"role": "user", "content": [{"toolUse": {"toolUseId": "1", "name": "n", "input": value}}]}
    changed = {**LINES[at], key: whole if place == "message" else value}
    if refused_or_readable(tmp_path / "x.db", [*LINES[:at], changed, *LINES[at + 1 :]]):
        assert_resumes(tmp_path / "x.db")


@pytest.mark.parametrize(
    "window",
    [
        *([[5, None]], [[0, 0]], [[1, 0]], [[-5, -1], [0, None]], [[0, 2**62]], [[0, 2**63]], [[-(2**70), None]]),
        *([[2**70, None]], [[0, None], [0, None]], [[True, None]], []),
    ],
    ids=str,
)
def test_a_context_of_any_kind_is_refused_or_an_agent_resumes_with_it(window: list[Any], tmp_path: Path) -> None:
    if refused_or_readable(tmp_path / "x.db", [SESSION, {**AGENT, "context": window}, *LINES[2:]]):
        assert_resumes(tmp_path / "x.db")


@pytest.mark.parametrize(
    "said",
    [
        *({}, {"role": "user"}, {"content": []}, {"role": 5, "content": []}, {"role": "user", "content": "text"}),
        *({"role": "user", "content": [5, None, "x", []]}, {"role": "user", "content": [{"text": {}}]}),
        {"role": "user", "content": [{"toolUse": []}, {"toolUse": {}}, {"toolResult": {"content": "x"}}, {"image": 5}]},
        {"role": [], "content": [{"toolUse": {"name": [], "input": 5}}, {"image": {"format": 5, "source": 5}}]},
        {"role": "user", "content": [{"reasoningContent": {"reasoningText": []}}, {"guardContent": {"text": 5}}]},
    ],
    ids=str,
)
def test_a_message_of_any_shape_is_refused_or_readable(said: dict[str, Any], tmp_path: Path) -> None:
    refused_or_readable(tmp_path / "x.db", [*LINES[:2], message(0, message=said), *LINES[3:]])
