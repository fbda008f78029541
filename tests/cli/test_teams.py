"""Sessions of Graphs and Swarms are not empty: the task, and what each node said, are listed, shown and found."""

import json
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import run
from ..support.conversations import build
from ..support.dated_records import add_message, add_session
from ..support.orchestrators import KINDS, build_team
from ..support.records import Orchestrator, query


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the sessions `graph` and `swarm`, named like what they hold."""
    path = tmp_path_factory.mktemp("teams") / "sessions.db"
    for kind in KINDS:
        with SQLiteSessionManager(kind, path) as manager:
            build_team(kind, manager, path.parent)(f"a task for a {kind}")
    return path


def result(text: str, **facts: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"text": text}]}
    return {"result": {"type": "agent_result", "message": message}, "status": "completed", **facts}


STATE = {
    "type": "graph",
    "status": "failed",
    "current_task": [{"text": "write a book"}, {"text": "soon"}],
    "execution_order": ["plan", "write", "plan", "team"],
    "next_nodes_to_execute": ["print"],
    "node_results": {
        "write": {
            "result": {"type": "exception", "message": "out of ink\n\tand paper"},
            "status": "failed",
            "execution_time": 12_345,
        },
        "plan": result("three chapters", execution_time=5, accumulated_usage={"totalTokens": 1200}),
        "team": {
            "result": {"type": "multiagent_result", "results": {"inner": result("from within")}},
            "status": "completed",
        },
    },
}


@pytest.fixture
def db(path: Path) -> Path:
    """A file with a graph that failed halfway."""
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "book", agent_ids=())
        repository.create_multi_agent("book", Orchestrator("authors", STATE))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_shows_the_kind_and_the_task(kind: str, teams: Path) -> None:
    assert f"{kind}: a task for a {kind}" in run("list", db=teams).out
    with SQLiteSessionRepository(teams) as repository:
        summary = repository.read_session_summary(kind)
    assert summary is not None
    assert (summary.preview, summary.message_count) == (f"a task for a {kind}", 0)


def test_what_a_user_said_comes_before_the_task_of_an_orchestrator(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        manager.create_multi_agent("session", Orchestrator("authors", STATE))
        build(manager)("hello")
        (summary,) = manager.list_sessions()
    assert summary.preview == "hello"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_session_of_a_team_is_shown_with_its_nodes_in_order(form: str, kind: str, teams: Path) -> None:
    out = run("show", kind, "--format", form, db=teams).out
    places = [out.index(words) for words in (f"a task for a {kind}", "a is done", "b is done", "c is done")]
    assert places == sorted(places)
    assert out.count("completed") == 4


def test_nodes_have_a_status_a_time_and_tokens(db: Path) -> None:
    out = run("show", "book", db=db).out
    assert out.startswith("graph authors  failed  20")
    assert [line for line in out.splitlines()[1:] if line] == [
        "  write a book",
        "  soon",
        "  plan  completed  ran 2 times  5 ms  1,200 tokens",
        "    three chapters",
        "  write  failed  12 s",
        "    out of ink",
        "        and paper",
        "  team  completed",
        "    inner  completed",
        "      from within",
        "  print  pending",
    ]


def test_a_team_as_json_is_a_line(db: Path) -> None:
    (shown,) = map(json.loads, run("show", "book", "--json", db=db).out.splitlines())
    assert [(node["node_id"], node["status"], node["runs"]) for node in shown["nodes"]] == [
        ("plan", "completed", 2),
        ("write", "failed", 1),
        ("team", "completed", 1),
        ("print", "pending", 0),
    ]
    assert shown["task"] == STATE["current_task"]
    assert shown["nodes"][2]["nodes"][0]["message"]["content"] == [{"text": "from within"}]


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("THREE CHAP", ("plan", "assistant", "three chapters")),
        ("of ink", ("write", "assistant", "out of ink and paper")),
        ("within", ("inner", "assistant", "from within")),
        ("a book", ("authors", "user", "write a book")),
        ("node_results", None),
    ],
)
def test_a_search_finds_what_nodes_were_asked_and_said(text: str, found: tuple[str, ...] | None, db: Path) -> None:
    with SQLiteSessionRepository(db) as repository:
        matches = repository.search_messages(text)
        assert [(match.agent_id, match.role, match.snippet) for match in matches] == ([found] if found else [])
        assert {match.message_id for match in matches} <= {None}
        assert repository.search_messages(text, session_id="book", agent_id=found[0] if found else None) == matches
        assert repository.search_messages(text, agent_id="somebody") == []
        assert repository.search_messages(text, metadata={"user_id": "42"}) == []
        assert repository.search_messages(text, limit=0) == []
    assert found is None or found[2] in run("search", text, db=db).out


def test_a_search_puts_what_nodes_said_between_messages_by_its_time(db: Path) -> None:
    with SQLiteSessionRepository(db) as repository:
        add_session(repository, "chat")
        for number, minute in enumerate((0, 20)):
            add_message(repository, "chat", minute, f"a book {number}", message_id=number)
        query(db, "UPDATE multi_agents SET updated_at = (SELECT max(created_at) FROM messages WHERE message_id = 0)")
        query(db, "UPDATE multi_agents SET updated_at = replace(updated_at, ':00:', ':10:')")
        found = [match.snippet for match in repository.search_messages("a book")]
        assert found == ["a book 1", "write a book", "a book 0"]
        assert [match.snippet for match in repository.search_messages("a book", limit=2)] == found[:2]


@pytest.mark.every_case
@pytest.mark.parametrize(
    "state",
    [
        {},
        {"type": 5, "status": [], "node_results": [], "execution_order": 7, "current_task": {"a": 1}},
        {"node_results": {"a": None, "b": {"result": 5}, "c": {"result": {"type": "x", "results": [], "message": 5}}}},
        {"execution_order": [None, "gone"], "next_nodes_to_execute": [5], "node_results": {"a": {}}},
        {"current_task": [5, None, {"text": 5}], "value": float("nan")},
    ],
    ids=str,
)
def test_a_state_of_another_shape_is_shown_all_the_same(state: dict[str, Any], path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "odd", agent_ids=())
        repository.create_multi_agent("odd", Orchestrator("other", state))
    for arguments in (("list",), ("show", "odd"), ("show", "odd", "--json"), ("search", "x"), ("usage",)):
        ended = run(*arguments, db=path)
        assert (ended.code, ended.err) == (0, ""), arguments
    assert "other" in run("show", "odd", db=path).out
