"""Rewinding a session, changing its state from outside, and what a summary says of a fork."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import SlidingWindowConversationManager

from strands_sqlite_session_manager import (
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
    copy_session,
)

from ..support.conversations import build
from ..support.recording_manager import held
from ..support.scripted_model import ScriptedModel


def converse(path: Path, turns: int = 4, **options: Any) -> tuple[SQLiteSessionManager, Agent]:
    """Have a conversation in which the state changes with every turn."""
    manager = SQLiteSessionManager("trip", path, metadata={"user": "ada", "share": "token"}, synchronous="NORMAL")
    agent = build(manager, *[f"answer {turn}" for turn in range(turns)], **options)
    for turn in range(turns):
        agent(f"question {turn}")
        agent.state.set("turn", turn)
        manager.sync_agent(agent)
    return manager, agent


def texts(messages: list[Any]) -> list[str]:
    return [message["content"][0]["text"] for message in messages]


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# -- rewinding --


def test_a_rewound_session_continues_from_the_message_as_if_nothing_had_followed(path: Path) -> None:
    manager, _ = converse(path)
    manager.rewind_session("trip", through_message=3)
    again = build(SQLiteSessionManager("trip", path), "another answer")
    assert texts(again.messages) == ["question 0", "answer 0", "question 1", "answer 1"]
    assert again.state.get() == {"turn": 1}
    again("another question")
    stored = [message.to_message() for message in manager.list_messages("trip", "default")]
    assert texts(stored) == [*texts(again.messages[:4]), "another question", "another answer"]
    assert manager.search_messages("question 3") == []
    assert manager.check() == []


def test_the_last_answer_is_generated_again_in_the_same_session(path: Path) -> None:
    manager, _ = converse(path, turns=2)
    manager.rewind_session("trip", through_message=2)
    agent = build(SQLiteSessionManager("trip", path), "a better answer")
    agent(None)
    assert texts(agent.messages) == ["question 0", "answer 0", "question 1", "a better answer"]


def test_minus_one_is_the_empty_beginning(path: Path) -> None:
    manager, _ = converse(path)
    manager.fork_session("trip", "fork", through_message=-1)
    manager.rewind_session("trip", through_message=-1)
    for session_id in ("trip", "fork"):
        agent = build(SQLiteSessionManager(session_id, path), "a first answer")
        assert agent.messages == []
        assert agent.state.get() == {}
        agent("a first question")
        assert [message.message_id for message in manager.list_messages(session_id, "default")] == [0, 1]


def test_a_live_agent_becomes_stale_and_overwrites_nothing(path: Path) -> None:
    manager, agent = converse(path)
    SQLiteSessionRepository(path).rewind_session("trip", through_message=1)
    agent.model = ScriptedModel("too late")
    with pytest.raises(StaleSessionException):
        agent("go on")
    assert len(manager.list_messages("trip", "default")) == 2


def test_only_the_named_agent_is_taken_back(path: Path) -> None:
    manager = SQLiteSessionManager("trip", path)
    for agent_id in ("ada", "bob"):
        build(manager, "yes", "no", agent_id=agent_id)("ready?")
    before = manager.list_messages("trip", "bob")
    with pytest.raises(ValueError, match="ada, bob"):
        manager.rewind_session("trip", through_message=0)
    manager.rewind_session("trip", through_message=0, agent_id="ada")
    assert len(manager.list_messages("trip", "ada")) == 1
    assert manager.list_messages("trip", "bob") == before


@pytest.mark.parametrize(
    ("session_id", "options", "error"),
    [
        ("trip", {"through_message": 99}, SessionNotFoundException),
        ("trip", {"through_message": 0, "agent_id": "eve"}, SessionNotFoundException),
        ("nowhere", {"through_message": 0}, SessionNotFoundException),
        ("trip", {"through_message": "0"}, ValueError),
        ("trip", {"through_message": 0, "agent_id": "a/b"}, ValueError),
        ("a/b", {"through_message": 0}, ValueError),
    ],
)
def test_what_cannot_be_rewound_is_refused_and_stays(
    session_id: str, options: dict[str, Any], error: type[Exception], path: Path
) -> None:
    manager, agent = converse(path, turns=2)
    with pytest.raises(error):
        manager.rewind_session(session_id, **options)
    assert len(manager.list_messages("trip", "default")) == 4
    agent.model = ScriptedModel("still here")
    agent("go on")


def test_what_was_rewound_is_not_in_the_file_after_a_vacuum(path: Path) -> None:
    manager, _ = converse(path)
    manager.rewind_session("trip", through_message=1)
    manager.vacuum()
    manager.close()
    contents = b"".join(part.read_bytes() for part in path.parent.glob("sessions.db*"))
    assert b"question 0" in contents
    assert b"question 3" not in contents


# -- versions --


def test_a_redacted_text_is_in_no_checkpoint(path: Path) -> None:
    manager = SQLiteSessionManager("trip", path, synchronous="NORMAL")
    agent = build(manager, "yes", "no", {"redactContent": {"redactUserContentMessage": "[gone]"}})
    agent("my secret")
    agent.messages[0]["content"][0]["text"] = "a longer secret"  # an edit, of which a version is kept
    agent("go on")
    agent.messages[0]["content"][0]["text"] = "an edited secret"
    manager.sync_agent(agent)
    assert query(path, "SELECT count(*) FROM message_versions") == [(2,)]
    (first, *_) = manager.list_messages("trip", "default")
    first.redact_message = {"role": "user", "content": [{"text": "[gone]"}]}
    first.message = first.redact_message
    manager.update_message("trip", "default", first)
    for number in range(4):
        assert texts(manager.read_context("trip", "default", number))[0] == "[gone]"
    manager.vacuum()
    manager.close()
    assert not any(b"secret" in part.read_bytes() for part in path.parent.glob("sessions.db*"))


def test_an_append_alone_keeps_no_version(path: Path) -> None:
    manager = SQLiteSessionManager("trip", path, synchronous="NORMAL")
    agent = build(manager, *["answer"] * 5)
    for _ in range(5):
        agent("question")
    assert query(path, "SELECT count(*) FROM agent_versions") == [(0,)]
    assert query(path, "SELECT count(*) FROM message_versions") == [(0,)]


def test_versions_survive_an_export_a_copy_and_a_backup_and_go_with_their_session(path: Path, tmp_path: Path) -> None:
    manager, _ = converse(path, conversation_manager=SlidingWindowConversationManager(window_size=2))
    stream = io.StringIO()
    manager.export_sessions(stream, ["trip"])
    manager.backup(tmp_path / "backup.db")
    with SQLiteSessionRepository(tmp_path / "imported.db") as imported:
        imported.import_sessions(io.StringIO(stream.getvalue()))
    with SQLiteSessionRepository(tmp_path / "copied.db") as copied:
        copy_session(manager, copied, "trip")
    for number in range(-1, 8):
        expected = manager.read_context("trip", "default", number)
        for name in ("imported.db", "copied.db", "backup.db"):
            with SQLiteSessionRepository(tmp_path / name) as other:
                assert other.read_context("trip", "default", number) == expected
                other.fork_session("trip", f"fork {number}", through_message=number)
                state = other.read_agent(f"fork {number}", "default")
                assert state is not None
                assert state.state == ({} if number < 1 else {"turn": number // 2 - (number % 2 == 0)})
    assert query(path, "SELECT count(*) FROM agent_versions") != [(0,)]
    manager.delete_session("trip")
    assert query(path, "SELECT count(*) FROM agent_versions") == [(0,)]


# -- forks --


def test_a_fork_knows_its_origin_even_when_that_is_deleted(path: Path) -> None:
    manager, _ = converse(path)
    manager.fork_session("trip", "whole")
    manager.fork_session("trip", "part", through_message=3)
    manager.delete_session("trip")
    origins = {each.session_id: (each.forked_from, each.forked_through) for each in manager.list_sessions()}
    assert origins == {"whole": ("trip", None), "part": ("trip", 3)}


def test_the_metadata_of_a_fork_is_merged_over_the_copied_metadata(path: Path) -> None:
    manager, _ = converse(path, turns=1)
    manager.fork_session("trip", "fork", metadata={"share": None, "mood": "bold"})
    summary = manager.read_session_summary("fork")
    assert summary is not None
    assert summary.metadata == {"user": "ada", "mood": "bold"}
    with pytest.raises(TypeError):
        manager.fork_session("trip", "other", metadata={"share": 1})  # type: ignore[dict-item]
    assert manager.read_session_summary("other") is None


def test_a_summary_of_one_session_is_that_of_the_list(path: Path) -> None:
    manager, _ = converse(path)
    assert [manager.read_session_summary("trip")] == manager.list_sessions()
    assert manager.read_session_summary("nowhere") is None
    with pytest.raises(ValueError, match="a/b"):
        manager.read_session_summary("a/b")


def test_the_moments_of_a_summary_are_what_filters_take(path: Path) -> None:
    manager, _ = converse(path, turns=1)
    (summary,) = manager.list_sessions()
    assert manager.list_sessions(updated_after=summary.created_at) == [summary]
    assert manager.list_sessions(updated_before=summary.updated_at) == []


# -- messages and state --


def test_the_last_messages_come_in_order(path: Path) -> None:
    manager, _ = converse(path)
    everything = manager.list_messages("trip", "default")
    assert manager.list_messages("trip", "default", last=3) == everything[-3:]
    assert manager.list_messages("trip", "default", last=99) == everything
    assert manager.list_messages("trip", "default", last=0) == []
    for wrong in ({"last": -1}, {"last": 1, "limit": 1}, {"last": 1, "offset": 1}):
        with pytest.raises(ValueError, match=r"last|limit"):
            manager.list_messages("trip", "default", **wrong)


def test_a_state_is_changed_from_outside_and_a_live_agent_becomes_stale(path: Path) -> None:
    manager, agent = converse(path)
    agent.state.set("color", "red")
    manager.sync_agent(agent)
    manager.update_agent_state("trip", "default", {"turn": None, "plan": {"kind": "premium"}})
    agent.model = ScriptedModel("too late")
    with pytest.raises(StaleSessionException):
        agent("go on")
    assert build(SQLiteSessionManager("trip", path)).state.get() == {"color": "red", "plan": {"kind": "premium"}}
    manager.fork_session("trip", "before", through_message=5)
    assert build(SQLiteSessionManager("before", path)).state.get() == {"turn": 2}


def test_a_change_of_state_that_cannot_be_stored_changes_nothing(path: Path) -> None:
    manager, agent = converse(path)
    for changes, error in (
        ({"a": object()}, Exception),
        ({1: "a"}, ValueError),
        ({" ": "a"}, ValueError),
        (["a"], TypeError),
    ):
        with pytest.raises(error):
            manager.update_agent_state("trip", "default", changes)  # type: ignore[arg-type]
    with pytest.raises(SessionNotFoundException):
        manager.update_agent_state("trip", "eve", {})
    before = held(agent)
    assert held(build(SQLiteSessionManager("trip", path))) == before
