"""The progress of a Graph or Swarm survives a restart, and no process undoes the progress of another.

Where Strands decides what runs again, `FileSessionManager` on the same version says what is right.
"""

import sqlite3
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from strands import hooks
from strands.multiagent import GraphBuilder, Swarm
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, StaleSessionException

from ..support.conversations import IMAGE, build
from ..support.fresh_processes import STORES, at_once, in_a_new_process, open_session
from ..support.orchestrators import (
    KINDS,
    answer_team,
    build_team,
    finish,
    ran,
    run_into_an_accident,
    start_sessions,
    task_of_graph,
)
from ..support.scripted_model import tool_use

TASK = [{"text": "the task"}, IMAGE]
DONE = {"a": "a is done", "b": "b is done", "c": "c is done"}


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """What is stored of orchestrators."""
    with sqlite3.connect(folder / "sessions.db") as connection:
        stored = connection.execute("SELECT * FROM multi_agents ORDER BY session_id, multi_agent_id").fetchall()
    connection.close()
    return stored


@pytest.mark.parametrize("kind", KINDS)
def test_the_progress_of_a_run_is_stored(kind: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    team = build_team(kind, manager, tmp_path)
    assert team("the task").status.value == "completed"
    stored = manager.read_multi_agent("session", "team")
    assert stored == team.serialize_state()
    assert stored["status"] == "completed"
    assert set(stored["node_results"]) == set(DONE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_state_is_that_of_the_file_session_manager(kind: str, tmp_path: Path) -> None:
    stored = {}
    for store in STORES:
        manager = open_session(store, "session", tmp_path)
        build_team(kind, manager, tmp_path)("the task")
        stored[store] = manager.read_multi_agent("session", "team")
    assert without_times(stored["sqlite"]) == without_times(stored["files"])


def without_times(value: Any) -> Any:
    """The value without measured times and what Strands draws at random."""
    if isinstance(value, dict):
        measured = {"execution_time", "accumulated_metrics", "metrics", "tracking_id"}
        return {key: without_times(item) for key, item in value.items() if key not in measured}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def stop_half_way(kind: str, store: str, folder: Path, accident: str) -> None:
    """Run a team in another process until its node b has an accident."""
    with nullcontext() if accident == "raises" else pytest.raises(BrokenProcessPool):
        in_a_new_process(run_into_an_accident, kind, store, folder, accident)


@cache
def files_resume(kind: str) -> bool:
    """Whether the installed Strands can resume a team at all; some versions cannot resume a Swarm."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        stop_half_way(kind, "files", folder, "killed")
        try:
            for _ in range(2):
                in_a_new_process(finish, kind, "files", folder)
        except AttributeError:
            return False
        return ran(folder) == ["a", "b", "b", "c", "a", "b", "c"]


@pytest.fixture(params=KINDS)
def resumable(request: pytest.FixtureRequest) -> str:
    """A kind of team that can be resumed."""
    if not files_resume(request.param):
        pytest.skip(f"this version of Strands cannot resume a {request.param} from FileSessionManager either")
    kind: str = request.param
    return kind


@pytest.mark.parametrize("accident", ["raises", "killed"])
def test_a_team_that_was_stopped_half_way_continues_as_it_does_with_files(
    resumable: str, accident: str, tmp_path: Path
) -> None:
    again = {}
    for store in STORES:
        folder = tmp_path / store
        folder.mkdir()
        stop_half_way(resumable, store, folder, accident)
        assert ran(folder) == ["a", "b"]
        end = in_a_new_process(finish, resumable, store, folder)
        again[store] = (end, ran(folder)[2:])
    assert again["sqlite"] == again["files"]
    (_, said), _ = again["sqlite"]
    assert said == DONE


def test_a_killed_process_leaves_the_rest_to_the_next_one(resumable: str, tmp_path: Path) -> None:
    stop_half_way(resumable, "sqlite", tmp_path, "killed")
    assert in_a_new_process(finish, resumable, "sqlite", tmp_path) == ("completed", DONE)
    assert ran(tmp_path) == ["a", "b", "b", "c"]


def test_a_graph_continues_with_the_node_that_failed(tmp_path: Path) -> None:
    stop_half_way("graph", "sqlite", tmp_path, "raises")
    _, said = in_a_new_process(finish, "graph", "sqlite", tmp_path)
    assert said == DONE
    assert ran(tmp_path) == ["a", "b", "b", "c"]


def test_a_team_that_was_done_starts_over(resumable: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert in_a_new_process(finish, resumable, "sqlite", tmp_path) == ("completed", DONE)
    assert ran(tmp_path) == ["a", "b", "c"] * 2


def test_a_task_with_an_image_is_resumed(tmp_path: Path) -> None:
    run_into_an_accident("graph", "sqlite", tmp_path, "raises", TASK)
    assert in_a_new_process(task_of_graph, tmp_path) == TASK


@pytest.mark.skipif(
    not hasattr(getattr(hooks, "BeforeNodeCallEvent", None), "interrupt"),
    reason="orchestrators of this version of Strands cannot be interrupted",
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_in_a_node_is_answered_after_the_restart(kind: str, tmp_path: Path) -> None:
    end = {}
    for store in STORES:
        folder = tmp_path / store
        folder.mkdir()
        team = build_team(
            kind, open_session(store, "session", folder), folder, a=[[tool_use("ask", "t1", question="why?")]]
        )
        result = team("the task")
        assert result.status.value == "interrupted"
        (interrupt,) = result.interrupts
        responses = [{"interruptResponse": {"interruptId": interrupt.id, "response": "42"}}]
        end[store] = in_a_new_process(answer_team, kind, store, folder, responses)
    assert end["sqlite"] == end["files"]
    assert "the answer is 42" in end["sqlite"][1]


# -- several at once --


def test_nodes_that_run_side_by_side_are_all_stored(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    builder = GraphBuilder()
    for number in range(8):
        builder.add_node(build(None, f"done {number}"), f"node {number}")
    builder.set_max_node_executions(9)
    builder.set_graph_id("wide")
    builder.set_session_manager(manager)
    graph = builder.build()
    graph("the task")
    stored = manager.read_multi_agent("session", "wide")
    assert stored == graph.serialize_state()
    assert len(stored["node_results"]) == 8


def test_a_session_holds_several_orchestrators_beside_its_agents(tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    agent = build(manager, agent_id="team")
    agent("hello")
    for team_id in ("team", "other", "quiet"):
        team = build_team("swarm" if team_id == "other" else "graph", manager, tmp_path, team_id=team_id)
        if team_id != "quiet":
            team(f"the task of {team_id}")
    assert manager.list_multi_agents("session") == ["other", "quiet", "team"]
    assert manager.list_multi_agents("another session") == []
    tasks = [manager.read_multi_agent("session", team_id)["current_task"] for team_id in ("team", "other")]
    assert tasks == ["the task of team", "the task of other"]
    assert len(manager.list_messages("session", "team")) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_processes_that_start_the_same_new_orchestrator_all_succeed(kind: str, tmp_path: Path) -> None:
    session_ids = [f"session {number}" for number in range(4)]
    at_once(start_sessions, [(kind, tmp_path, session_ids)] * 3)
    assert [row[:2] for row in rows(tmp_path)] == [(session_id, "team") for session_id in session_ids]


def test_an_orchestrator_that_another_process_creates_first_joins_it(tmp_path: Path) -> None:
    if not files_resume("swarm"):
        pytest.skip("this version of Strands cannot resume a swarm from FileSessionManager either")

    class Hesitant(Swarm):
        """Is overtaken at the moment when it has found none in the session and is about to create one."""

        def serialize_state(self) -> dict[str, Any]:
            if not ran(tmp_path):
                stop_half_way("swarm", "sqlite", tmp_path, "killed")
            return super().serialize_state()

    nodes = [build(None, f"{name} goes on", name=name) for name in DONE]
    team = Hesitant(nodes, session_manager=open_session("sqlite", "session", tmp_path), id="team")
    assert ran(tmp_path) == ["a", "b"]
    result = team("the task")
    assert result.status.value == "completed"
    assert {name: str(node.result).strip() for name, node in result.results.items()} == {
        "a": "a is done",
        "b": "b goes on",
    }


def test_an_orchestrator_that_was_continued_elsewhere_is_refused(resumable: str, tmp_path: Path) -> None:
    stale = build_team(resumable, open_session("sqlite", "session", tmp_path), tmp_path)
    in_a_new_process(finish, resumable, "sqlite", tmp_path)
    before = rows(tmp_path)
    with pytest.raises(
        StaleSessionException, match=r"team in session session: another writer continued .* build a new"
    ):
        stale("another task")
    assert rows(tmp_path) == before
    with pytest.raises(StaleSessionException):
        stale("and again")
    assert rows(tmp_path) == before

    fresh = build_team(resumable, open_session("sqlite", "session", tmp_path), tmp_path)
    assert fresh("another task").status.value == "completed"


@pytest.mark.parametrize("kind", KINDS)
def test_an_orchestrator_whose_session_was_deleted_says_so(kind: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    team = build_team(kind, manager, tmp_path)
    SQLiteSessionManager("session", tmp_path / "sessions.db").delete_session("session")
    with pytest.raises(SessionException, match="team in session session does not exist") as caught:
        team("the task")
    assert not isinstance(caught.value, StaleSessionException)
    with pytest.raises(SessionException, match="Session session does not exist"):
        build_team(kind, manager, tmp_path, team_id="new")
    assert rows(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_orchestrator_that_was_deleted_and_created_again_is_refused(kind: str, tmp_path: Path) -> None:
    stale = build_team(kind, open_session("sqlite", "session", tmp_path), tmp_path)
    SQLiteSessionManager("session", tmp_path / "sessions.db").delete_session("session")
    build_team(kind, open_session("sqlite", "session", tmp_path), tmp_path)
    before = rows(tmp_path)
    with pytest.raises(StaleSessionException):
        stale("the task")
    assert rows(tmp_path) == before
