"""Sessions from other stores resume as Strands' own managers would resume them, and exactly after one turn here."""

import copy
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.content import Message

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.histories import HISTORIES, SESSION
from ..support.histories.broken_tool_use import BROKEN, without_new_tracking_ids
from ..support.histories.history import History, say
from ..support.recording_manager import Recorder, held, written

DATABASE = "sessions.db"
HISTORIES_ELSEWHERE = (
    "nothing at all",
    "plain turns",
    "parallel tools",
    "bytes in a prompt and in a tool result",
    "state set by tools and between turns",
    "guardrail redaction",
    "a turn in which the model fails",
    "an interrupt from a tool",
    "a sliding window",
    "a sliding window with pins",
    "a sliding window that overflows",
    "a sliding window before every other model call",
    "a truncated tool result",
    "a summary",
    "a summary of a summary",
    "a summary with pins",
    "a manager that inserts",
    "a continuation merged into the last prompt",
    "the first two deleted and another turn",
)


@pytest.fixture(params=HISTORIES_ELSEWHERE)
def history(request: pytest.FixtureRequest) -> History:
    """A history, and how its agent is configured."""
    history = HISTORIES[request.param]
    if history.missing:
        pytest.skip(history.missing)
    return history


def files(folder: Path) -> FileSessionManager:
    """Open the session that the files of a folder hold."""
    return FileSessionManager(SESSION, storage_dir=str(folder))


def copy_from_files(folder: Path) -> None:
    """Copy the session of the files into a database, message by message."""
    source = files(folder)
    with SQLiteSessionRepository(folder / DATABASE) as target:
        target.create_session(source.session)
        agent = source.read_agent(SESSION, "default")
        assert agent is not None
        target.create_agent(SESSION, agent)
        for message in source.list_messages(SESSION, "default"):
            target.create_message(SESSION, "default", message)


def copy_from_files_as_the_earlier_package(folder: Path) -> None:
    """Write the session of the files into a legacy file."""
    source = files(folder)
    agent = source.read_agent(SESSION, "default")
    assert agent is not None
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        for table, keys in (
            ("sessions", ["session_id"]),
            ("agents", ["session_id", "agent_id"]),
            ("messages", ["session_id", "agent_id", "message_id"]),
            ("multi_agents", ["session_id", "multi_agent_id"]),
        ):
            connection.execute(
                f"CREATE TABLE {table} ({', '.join(keys)}, data TEXT NOT NULL,"
                " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,"
                f" PRIMARY KEY ({', '.join(keys)}))"
            )
        connection.execute(
            "INSERT INTO sessions (session_id, data) VALUES (?, ?)", (SESSION, json.dumps(source.session.to_dict()))
        )
        connection.execute(
            "INSERT INTO agents (session_id, agent_id, data) VALUES (?, ?, ?)",
            (SESSION, "default", json.dumps(agent.to_dict())),
        )
        connection.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, data) VALUES (?, ?, ?, ?)",
            [
                (SESSION, "default", message.message_id, json.dumps(message.to_dict()))
                for message in source.list_messages(SESSION, "default")
            ],
        )


Move = Callable[[Path], None]


@pytest.fixture(params=[copy_from_files, copy_from_files_as_the_earlier_package])
def move(request: pytest.FixtureRequest) -> Move:
    """A way to bring a session from files to us."""
    move: Move = request.param
    return move


def test_a_session_from_files_resumes_as_it_would_have_there(history: History, move: Move, tmp_path: Path) -> None:
    history.drive(history.build(files(tmp_path)))
    move(tmp_path)
    ours = history.build(SQLiteSessionManager(SESSION, tmp_path / DATABASE))
    assert held(ours) == held(history.build(files(tmp_path)))


def test_a_session_from_files_is_exact_after_a_turn_here(history: History, move: Move, tmp_path: Path) -> None:
    history.drive(history.build(files(tmp_path)))
    move(tmp_path)
    with Recorder(SESSION, tmp_path / DATABASE) as manager:
        agent = history.build(manager)
        with suppress(TypeError):  # it may wait for the answer to an interrupt
            say(agent, "and now here")
        expected = manager.held.get("default", held(agent))
    with Recorder(SESSION, tmp_path / DATABASE) as again:
        assert held(history.build(again)) == expected


def test_a_session_from_files_has_the_same_history(history: History, tmp_path: Path) -> None:
    history.drive(history.build(files(tmp_path)))
    copy_from_files(tmp_path)
    with SQLiteSessionRepository(tmp_path / DATABASE) as ours:
        assert ours.list_messages(SESSION, "default") == files(tmp_path).list_messages(SESSION, "default")


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
def test_broken_tool_use_from_files_is_repaired_as_it_would_have_been_there(
    messages: list[Message], tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"messages": copy.deepcopy(messages)}
    plain = HISTORIES["plain turns"]
    History(lambda: arguments, plain.drive).build(files(tmp_path))
    copy_from_files(tmp_path)
    ours = plain.build(SQLiteSessionManager(SESSION, tmp_path / DATABASE))
    theirs = plain.build(files(tmp_path))
    assert without_new_tracking_ids(ours.messages, messages) == without_new_tracking_ids(theirs.messages, messages)


def test_a_changed_state_of_the_conversation_manager_decides_what_is_resumed(tmp_path: Path) -> None:
    history = HISTORIES["a sliding window"]
    with Recorder(SESSION, tmp_path / DATABASE) as manager:
        history.drive(history.build(manager))
        stored = manager.read_agent(SESSION, "default")
        assert stored is not None
        stored.conversation_manager_state["removed_message_count"] = 6
        manager.update_agent(SESSION, stored)
        resumed = history.build(SQLiteSessionManager(SESSION, tmp_path / DATABASE))
        assert written(resumed.messages) == written(manager.listed()[6:])


def test_a_changed_state_alone_leaves_the_messages_as_they_were(tmp_path: Path) -> None:
    history = HISTORIES["a sliding window that overflows"]
    with Recorder(SESSION, tmp_path / DATABASE) as manager:
        agent = history.build(manager)
        history.drive(agent)
        stored = manager.read_agent(SESSION, "default")
        assert stored is not None
        stored.state["changed"] = "by hand"
        manager.update_agent(SESSION, stored)
        resumed = history.build(SQLiteSessionManager(SESSION, tmp_path / DATABASE))
        agent.state.set("changed", "by hand")
        assert held(resumed) == held(agent)


def test_a_message_redacted_from_outside_is_redacted_in_the_agent_that_resumes(tmp_path: Path) -> None:
    history = HISTORIES["a truncated tool result"]
    with Recorder(SESSION, tmp_path / DATABASE) as manager:
        agent = history.build(manager)
        history.drive(agent)
        for index in (1, 2):
            message = manager.read_message(SESSION, "default", index)
            assert message is not None
            message.redact_message = {**agent.messages[index], "content": [{"text": "redacted"}]}
            manager.update_message(SESSION, "default", message)
            agent.messages[index]["content"] = [{"text": "redacted"}]
        assert held(history.build(SQLiteSessionManager(SESSION, tmp_path / DATABASE))) == held(agent)
