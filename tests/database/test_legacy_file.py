"""Legacy files are upgraded in place, completely or not at all, and agents resume from them."""

import os
import random
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.multiagent import GraphBuilder
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support import layout
from ..support.legacy_files import LAYOUT, TABLES, Contents, example, fill, large, read, rows, told, write, write_in_use
from ..support.numbered_messages import SESSION, live_agent, text
from ..support.scripted_model import ScriptedModel
from ..support.workers import PATIENCE, forked, in_processes, killed, killed_at_size

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")
JOURNAL_MODES = pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])


def write_in_rollback_mode(path: Path, contents: Contents) -> None:
    write(path, contents, "DELETE")


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# -- everything is kept --


@pytest.mark.parametrize("write_file", [write, write_in_use, write_in_rollback_mode])
def test_an_upgrade_keeps_every_session_agent_message_and_orchestrator(
    tmp_path: Path, write_file: Callable[[Path, Contents], None]
) -> None:
    path, contents = tmp_path / "sessions.db", example()
    write_file(path, contents)
    for _ in range(2):  # the second time, there is nothing to do
        with SQLiteSessionRepository(path) as repository:
            assert told(read(repository, contents)) == told(contents)
        assert query(path, "PRAGMA user_version") == [(layout.version(),)]
        assert query(path, "PRAGMA journal_mode") == [("wal",)]
        assert query(path, "PRAGMA foreign_key_check") == []
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        tables = query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        assert tables == [(name,) for name in sorted(layout.columns())]
    times = query(path, "SELECT created_at, updated_at FROM multi_agents")
    assert times == [("2024-05-06T07:08:09+00:00", "2024-05-06T07:08:10+00:00")] * 2


def test_a_legacy_file_that_is_still_open_is_upgraded(tmp_path: Path) -> None:
    path, contents = tmp_path / "sessions.db", example()
    with closing(fill(path, contents)) as earlier:
        assert earlier.execute("SELECT count(*) FROM messages").fetchone() == (6,)
        with SQLiteSessionRepository(path) as repository:
            assert told(read(repository, contents)) == told(contents)
        with pytest.raises(sqlite3.OperationalError):  # a writer of the old tables is refused, not misunderstood
            earlier.execute("UPDATE messages SET data = '{}'")


def test_an_upgraded_file_is_written_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    write(path, example())
    with SQLiteSessionManager(SESSION, path) as manager:
        live_agent(manager, "new")("hello")
        manager.delete_session("empty")
        manager.delete_session(SESSION)
    assert [query(path, f"SELECT count(*) FROM {table}") for table in TABLES] == [[(0,)]] * 4


def _summarized() -> tuple[str, dict[str, Any]]:
    manager = SummarizingConversationManager()
    state = {**manager.get_state(), "removed_message_count": 3, "summary_message": text("what was said before")}
    return "summarized", state


def _windowed() -> tuple[str, dict[str, Any]]:
    return "windowed", {**SlidingWindowConversationManager().get_state(), "removed_message_count": 2}


def _whole() -> tuple[str, dict[str, Any]]:
    return "whole", NullConversationManager().get_state()


@pytest.mark.parametrize(
    ("agent", "conversation_manager"),
    [
        (_whole(), NullConversationManager),
        (_windowed(), SlidingWindowConversationManager),
        (_summarized(), SummarizingConversationManager),
    ],
    ids=["whole", "windowed", "summarized"],
)
def test_an_agent_resumes_from_an_upgraded_file_as_from_files(
    tmp_path: Path, agent: tuple[str, dict[str, Any]], conversation_manager: type[ConversationManager]
) -> None:
    agent_id, conversation_manager_state = agent
    stored = SessionAgent(agent_id, {"user": "Zoë", "limits": [1, 2.5, None]}, conversation_manager_state)
    said = [message for _, _, message in example().messages[1:]]  # files cannot hold the first: a lone surrogate
    write(
        tmp_path / "sessions.db",
        Contents(
            [Session(SESSION, SessionType.AGENT)],
            [(SESSION, stored)],
            [(SESSION, agent_id, message) for message in said],
        ),
    )
    files = FileSessionManager(SESSION, storage_dir=str(tmp_path / "files"))
    files.create_agent(SESSION, stored)
    for message in said:
        files.create_message(SESSION, agent_id, message)

    def describe(session_manager: Any) -> str:
        """Return what an agent holds when it resumes here, and a turn later."""
        resumed = Agent(
            model=ScriptedModel(),
            agent_id=agent_id,
            session_manager=session_manager,
            conversation_manager=conversation_manager(),
            callback_handler=None,
        )
        before = repr([resumed.messages, resumed.state.get(), resumed.conversation_manager.get_state()])
        answer = resumed("go on")
        told = repr([before, str(answer), [message["content"] for message in resumed.messages]])
        return re.sub(r"'tracking_id': '[-0-9a-f]*'", "", told)  # each resume gives messages without one their own

    from_ours = describe(SQLiteSessionManager(SESSION, tmp_path / "sessions.db"))
    assert from_ours == describe(FileSessionManager(SESSION, storage_dir=str(tmp_path / "files")))
    assert "a compass" in from_ours


def test_a_graph_resumes_from_an_upgraded_file_as_from_files(tmp_path: Path) -> None:
    def build(session_manager: Any, *models: ScriptedModel) -> Any:
        builder = GraphBuilder()
        for name, model in zip(("first", "second"), models, strict=True):
            builder.add_node(Agent(name=name, model=model, callback_handler=None), name)
        builder.add_edge("first", "second")
        builder.set_graph_id("graph")
        builder.set_max_node_executions(10)
        builder.set_session_manager(session_manager)
        return builder.build()

    def files() -> FileSessionManager:
        return FileSessionManager(SESSION, storage_dir=str(tmp_path / "files"))

    with pytest.raises(RuntimeError, match="down"):
        build(files(), ScriptedModel(), ScriptedModel(RuntimeError("down")))("do it")
    state = files().read_multi_agent(SESSION, "graph")
    assert state is not None
    path = tmp_path / "sessions.db"
    write(path, Contents([Session(SESSION, SessionType.AGENT)], multi_agents=[(SESSION, "graph", state)]))

    for session_manager in (SQLiteSessionManager(SESSION, path), files()):
        models = ScriptedModel(), ScriptedModel()
        resumed = build(session_manager, *models)
        resumed("do it")
        assert [model.calls for model in models] == [0, 1]  # what was done is not done again


# -- the old file --


def copies_beside(path: Path) -> list[str]:
    """Return the names of the copies of the old file."""
    return sorted(name for name in os.listdir(path.parent) if name.startswith(f"{path.name}.legacy-backup"))


@pytest.mark.parametrize("write_file", [write, write_in_use, write_in_rollback_mode])
def test_an_upgrade_leaves_one_private_copy_of_the_old_file_beside_it(
    tmp_path: Path, write_file: Callable[[Path, Contents], None]
) -> None:
    path, contents = tmp_path / "sessions.db", example()
    write_file(path, contents)
    path.chmod(0o644)
    old = rows(path)
    for _ in range(2):  # the second time, there is nothing to upgrade
        SQLiteSessionRepository(path).close()
    assert sorted(os.listdir(tmp_path)) == ["sessions.db", "sessions.db.legacy-backup"]
    copy = tmp_path / "sessions.db.legacy-backup"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows(copy) == old
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    assert query(copy, "PRAGMA journal_mode") == [("delete",)]  # all of it is in this one file


def test_the_copy_of_a_legacy_file_is_a_legacy_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "sessions.db", example()
    write(path, contents)
    with SQLiteSessionManager(SESSION, path) as manager:
        manager.delete_session(SESSION)
    os.replace(tmp_path / "sessions.db.legacy-backup", path)
    with SQLiteSessionRepository(path) as repository:
        assert told(read(repository, contents)) == told(contents)


def test_the_copy_of_a_legacy_file_never_overwrites_one(tmp_path: Path) -> None:
    path, contents = tmp_path / "sessions.db", example()
    (tmp_path / "sessions.db.legacy-backup").write_text("mine")
    (tmp_path / "sessions.db.legacy-backup-2").symlink_to(tmp_path / "nothing")
    for number in (3, 4):
        path.unlink(missing_ok=True)
        write(path, contents)
        old = rows(path)
        SQLiteSessionRepository(path).close()
        assert rows(tmp_path / f"sessions.db.legacy-backup-{number}") == old
    assert (tmp_path / "sessions.db.legacy-backup").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()
    assert len(copies_beside(path)) == 4


def test_a_reader_upgrades_nothing_and_makes_no_copy(tmp_path: Path) -> None:
    path, contents = tmp_path / "sessions.db", example()
    write(path, contents)
    before = path.read_bytes()
    with SQLiteSessionRepository(path, read_only=True) as repository:
        assert told(read(repository, contents)) == told(contents)
    assert path.read_bytes() == before
    assert copies_beside(path) == []


@needs_fork
@JOURNAL_MODES
def test_an_upgrade_for_whose_copy_there_is_no_room_is_refused_and_leaves_the_old_file_alone(
    tmp_path: Path, journal_mode: str
) -> None:
    path, contents = tmp_path / "sessions.db", large(300, 3000)
    write(path, contents, journal_mode)
    before = path.read_bytes()

    def open_without_room(pipe: Connection) -> None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        try:
            SQLiteSessionRepository(path)
        except SessionException as refusal:
            pipe.send(str(refusal))

    with forked(open_without_room) as pipe:
        assert pipe.recv().startswith(f"{path} | ")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    with SQLiteSessionRepository(path) as repository:
        assert told(read(repository, contents)) == told(contents)


# -- whole or not at all --


def assert_old_or_upgraded(path: Path, contents: Contents, old: dict[str, list[Any]]) -> bool:
    """Return whether a file is still the old one, to the last row; otherwise it must be upgraded and have a copy.

    SQLite recovers only a copy of it, so that the file stays as the dead process left it.
    """
    aside = path.parent / "aside"
    aside.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copy(f"{path}{suffix}", aside / f"{path.name}{suffix}")
    copy = aside / path.name
    (version,) = query(copy, "PRAGMA user_version")
    still_old = version == (0,)
    if still_old:
        assert rows(copy) == old
        assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    shutil.rmtree(aside)
    assert still_old or copies_beside(path)

    with SQLiteSessionRepository(path) as repository:
        assert told(read(repository, contents)) == told(contents)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert copies_beside(path)
    for name in copies_beside(path):  # whatever has this name is all of the old file
        assert rows(path.with_name(name)) == old
        path.with_name(name).unlink()
    return still_old


@pytest.mark.long
@needs_fork
@JOURNAL_MODES
@pytest.mark.parametrize("beyond", [0, 200_000, 800_000])
def test_an_upgrade_that_died_in_a_write_leaves_the_legacy_file_and_the_next_one_completes_it(
    tmp_path: Path, journal_mode: str, beyond: int
) -> None:
    path, contents = tmp_path / "sessions.db", large(500, 3000)
    write(path, contents, journal_mode)
    old = rows(path)
    limit = os.path.getsize(path) + beyond
    assert killed_at_size(lambda: SQLiteSessionRepository(path), limit) == signal.SIGXFSZ
    assert assert_old_or_upgraded(path, contents, old)


@needs_fork
@JOURNAL_MODES
def test_an_upgrade_killed_at_any_moment_leaves_the_legacy_file_or_the_new_one(
    tmp_path: Path, journal_mode: str
) -> None:
    path, contents = tmp_path / "sessions.db", large(150, 3000)
    template = tmp_path / "template.db"
    write(template, contents, journal_mode)
    old = rows(template)
    shutil.copy(template, path)
    begun = time.monotonic()
    SQLiteSessionRepository(path).close()
    duration = time.monotonic() - begun
    assert copies_beside(path) == ["sessions.db.legacy-backup"]
    chance = random.Random(1)
    for _ in range(3):
        shutil.copy(template, path)
        deadline = time.monotonic() + chance.random() * duration
        killed(lambda: SQLiteSessionRepository(path), lambda deadline=deadline: time.monotonic() > deadline)
        assert_old_or_upgraded(path, contents, old)


NOT_UTF8 = (b'{"message": "a secret \xff"}').hex()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE messages SET data = substr(data, 1, 20) WHERE message_id = 3", "'session', 'agent', 3.*messages"),
        ("UPDATE messages SET data = '[1, 2]' WHERE message_id = 0", "'session', 'agent', 0.*messages"),
        ("UPDATE messages SET data = '{\"message_id\": 2}' WHERE message_id = 2", "'session', 'agent', 2.*messages"),
        (
            f"UPDATE messages SET data = CAST(x'{NOT_UTF8}' AS TEXT) WHERE message_id = 4",
            "'session', 'agent', 4.*messages",
        ),
        (f"UPDATE messages SET data = x'{NOT_UTF8}' WHERE message_id = 4", "'session', 'agent', 4.*messages"),
        (f"UPDATE messages SET data = '{'[' * 100_000}' WHERE message_id = 5", "'session', 'agent', 5.*messages"),
        (
            "INSERT INTO messages SELECT 'gone', agent_id, 1, data, '', '' FROM messages LIMIT 1",
            "'gone', 'agent', 1.*messages",
        ),
        ("UPDATE agents SET data = '' WHERE agent_id = 'silent'", "'session', 'silent'.*agents"),
        ("UPDATE sessions SET data = 'null' WHERE session_id = 'empty'", "'empty'.*sessions"),
        ("UPDATE multi_agents SET data = '}' WHERE multi_agent_id = 'swarm'", "'session', 'swarm'.*multi_agents"),
    ],
    ids=[
        "cut off",
        "a list",
        "no message",
        "not UTF-8",
        "not UTF-8 nor text",
        "too deep",
        "an orphan",
        "empty",
        "null",
        "}",
    ],
)
@JOURNAL_MODES
def test_a_malformed_row_is_named_and_nothing_is_changed(
    tmp_path: Path, journal_mode: str, damage: str, named: str
) -> None:
    path, contents = tmp_path / "sessions.db", example()
    write(path, contents, journal_mode)
    sound = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(SessionException, match=named) as refusal:
            SQLiteSessionRepository(path)
        assert "secret" not in str(refusal.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]

    path.write_bytes(sound)
    with SQLiteSessionRepository(path) as repository:
        assert told(read(repository, contents)) == told(contents)


def open_and_tell(index: int, path: Path, contents: Contents) -> list[str]:
    with SQLiteSessionRepository(path, timeout=PATIENCE) as repository:
        return told(read(repository, contents))


@JOURNAL_MODES
def test_processes_that_upgrade_a_file_at_once_all_succeed(tmp_path: Path, journal_mode: str) -> None:
    path, contents = tmp_path / "sessions.db", large(50, 3000)
    write(path, contents, journal_mode)
    assert in_processes(4, open_and_tell, path, contents) == [told(contents)] * 4
    assert copies_beside(path) == ["sessions.db.legacy-backup"]


# -- not a legacy file --


def other_columns(layout: str) -> str:
    return re.sub(r"\b(data|message_id|agent_id)\b", r"my_\1", layout)


def other_columns_beside_data(layout: str) -> str:
    return layout.replace("created_at", "made").replace("updated_at", "changed")


def other_keys_beside_data(layout: str) -> str:
    return layout.replace("message_id", "number")


def further_columns(layout: str) -> str:
    return layout.replace("data TEXT NOT NULL,", "data TEXT NOT NULL, mine TEXT,")


def further_table(layout: str) -> str:
    return layout + "CREATE TABLE notes (text);"


def missing_table(layout: str) -> str:
    return re.sub(r"CREATE (TABLE|INDEX) \w*multi_agents[^;]*;", "", layout)


@pytest.mark.parametrize(
    "change",
    [other_columns, other_columns_beside_data, other_keys_beside_data, further_columns, further_table, missing_table],
)
@JOURNAL_MODES
def test_another_programs_database_with_our_table_names_is_refused_untouched(
    tmp_path: Path, journal_mode: str, change: Callable[[str], str]
) -> None:
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(change(LAYOUT))
    before = path.read_bytes()
    with pytest.raises(SessionException, match="a database of another program"):
        SQLiteSessionRepository(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
