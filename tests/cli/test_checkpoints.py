"""The commands about checkpoints: fork, rewind, forks, and show --context."""

import json
from pathlib import Path

import pytest
from strands.agent.conversation_manager import SlidingWindowConversationManager

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import run
from ..support.conversations import build


@pytest.fixture
def db(path: Path) -> Path:
    """A conversation of six messages under a window of four."""
    with SQLiteSessionManager("trip", path, metadata={"share": "token"}, synchronous="NORMAL") as manager:
        window = SlidingWindowConversationManager(window_size=4)
        agent = build(manager, "answer 0", "answer 1", "answer 2", conversation_manager=window)
        for turn in range(3):
            agent(f"question {turn}")
    return path


def test_show_context_prints_what_the_agent_holds_or_held(db: Path) -> None:
    assert "question 0" in run("show", "trip", db=db).out
    now = run("show", "trip", "--context", db=db).out
    assert "question 0" not in now
    assert now.split() == [
        "user",
        "question",
        "1",
        "assistant",
        "answer",
        "1",
        "user",
        "question",
        "2",
        "assistant",
        "answer",
        "2",
    ]
    then = run("show", "trip", "--context", "--through", "2", db=db).out
    assert then.split() == ["user", "question", "0", "assistant", "answer", "0", "user", "question", "1"]
    lines = run("show", "trip", "--context", "--through", "1", "--json", db=db).out.splitlines()
    assert [json.loads(line)["message"]["content"][0]["text"] for line in lines] == ["question 0", "answer 0"]


def test_show_through_a_message_is_about_the_context(db: Path) -> None:
    ended = run("show", "trip", "--through", "1", db=db)
    assert (ended.code, "--context" in ended.err) == (2, True)


def test_a_rewind_is_shown_first_and_confirmed(db: Path) -> None:
    shown = run("rewind", "trip", "--through", "3", "--dry-run", db=db)
    assert "question 2" in shown.out
    assert "question 1" not in shown.out
    assert shown.out.endswith("2 messages would be deleted\n")
    assert run("rewind", "trip", "--through", "3", db=db).code == 1
    with SQLiteSessionRepository(db) as repository:
        assert len(repository.list_messages("trip", "default")) == 6
        assert run("rewind", "trip", "--through", "3", "--yes", db=db).out == "deleted 2 messages\n"
        assert len(repository.list_messages("trip", "default")) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trip", "--through", "9"), "Message 9 of agent default in session trip does not exist"),
        (("trip", "--through", "1", "--agent", "eve"), "Agent eve in session trip does not exist"),
        (("nowhere", "--through", "1"), "Session nowhere does not exist"),
    ],
)
def test_a_rewind_of_something_missing_says_so(arguments: tuple[str, ...], said: str, db: Path) -> None:
    ended = run("rewind", *arguments, "--yes", db=db)
    assert (ended.code, ended.err) == (1, f"strands-sqlite: {db} | {said}\n")


def test_forks_are_a_tree_that_outlives_its_root(db: Path) -> None:
    run("fork", "trip", "trip-2", "--through", "1", "--metadata", "share=", db=db)
    run("fork", "trip-2", "trip-3", db=db)
    run("fork", "trip", "trip-4", db=db)
    tree = ["  trip-2  through message 1", "    trip-3", "  trip-4"]
    assert run("forks", "trip", db=db).out.splitlines() == ["trip", *tree]
    lines = [json.loads(line) for line in run("forks", "trip", "--json", db=db).out.splitlines()]
    assert lines[0] == {"session_id": "trip-2", "forked_from": "trip", "forked_through": 1}
    run("delete", "trip", "--yes", db=db)
    assert run("forks", "trip", db=db).out.splitlines() == ["trip  (deleted)", *tree]
    assert run("forks", "nowhere", db=db).err == f"strands-sqlite: {db} | Session nowhere does not exist\n"
    with SQLiteSessionRepository(db) as repository:
        metadata = {each.session_id: each.metadata for each in repository.list_sessions()}
    assert metadata == {"trip-2": {}, "trip-3": {}, "trip-4": {"share": "token"}}
