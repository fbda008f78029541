"""Sessions move between histories and snapshots: an agent resumes on the other side with exactly what it held."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.content import Message
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    FileSessionRepository,
    SessionExistsException,
    SessionNotFoundException,
    SnapshotRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    copy_session,
)

from ..support.command_line import run
from ..support.conversations import build
from ..support.histories import HISTORIES, SESSION
from ..support.histories.broken_tool_use import without_new_tracking_ids
from ..support.histories.history import say
from ..support.histories.turns import Dawdler
from ..support.orchestrators import build_team
from ..support.recording_manager import held, written
from ..support.scripted_model import ScriptedModel

snapshots = pytest.importorskip("strands.session.snapshot_session_manager", reason="this Strands has no snapshots")
storage_module = pytest.importorskip("strands.storage")

# Histories in which a new process changes an agent, whatever stores it.
NOT_RESUMED = {"a conversation that the model keeps", "tools in the background"}


def storage_in(path: Path, kind: str) -> Any:
    if kind == "folder":
        return storage_module.LocalFileStorage(str(path.parent / "snapshots"))
    from strands_sqlite_session_manager import SQLiteStorage

    return SQLiteStorage(path)


def resumed(manager: Any, name: str) -> Any:
    agent = HISTORIES[name].build(manager)
    if isinstance(agent.model, Dawdler):
        agent.model = ScriptedModel()
    return agent


def found(manager: Any, name: str, known: list[Message]) -> list[Any]:
    """Return what an agent holds, but for the tracking ids that Strands gives to a message at every repair."""
    described = json.loads(held(resumed(manager, name)))
    return [without_new_tracking_ids(described.pop("messages"), known), described]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", [name for name in HISTORIES if name not in NOT_RESUMED])
def test_an_agent_holds_in_snapshots_what_it_held_before_and_back(name: str, kind: str, path: Path) -> None:
    if HISTORIES[name].missing:
        pytest.skip(HISTORIES[name].missing)
    storage = storage_in(path, kind)
    with SQLiteSessionManager(SESSION, path, synchronous="NORMAL") as manager:
        agent = HISTORIES[name].build(manager)
        HISTORIES[name].drive(agent)
        copy_session(manager, SnapshotRepository(storage), SESSION)
    with SQLiteSessionManager(SESSION, path) as manager:
        expected = found(manager, name, agent.messages)
    manager = snapshots.SnapshotSessionManager(SESSION, storage=storage)
    assert found(manager, name, agent.messages) == expected
    back = path.with_name("back.db")
    with SQLiteSessionRepository(back) as target:
        copy_session(SnapshotRepository(storage), target, SESSION)
        assert target.check() == []
    with SQLiteSessionManager(SESSION, back) as manager:
        assert found(manager, name, agent.messages) == expected


def snapshot_of_a_conversation(path: Path, **options: Any) -> tuple[Any, Any, Any]:
    """Have a conversation that is kept as snapshots; return the storage, its manager and the agent."""
    storage = storage_in(path, "folder")
    manager = snapshots.SnapshotSessionManager(SESSION, storage=storage)
    agent = build(manager, "answer 0", "answer 1", system_prompt="be brief", **options)
    say(agent, "question 0")
    agent.state.set("mood", "bold")
    say(agent, "question 1")
    return storage, manager, agent


def test_messages_of_a_snapshot_become_the_history(path: Path) -> None:
    storage, _, agent = snapshot_of_a_conversation(path)
    with SQLiteSessionRepository(path) as target:
        with pytest.warns(UserWarning, match="system_prompt"):
            copy_session(SnapshotRepository(storage), target, SESSION)
        listed = [message.to_message() for message in target.list_messages(SESSION, "default")]
        assert written(listed) == written(agent.messages)
        (summary,) = target.list_sessions()
        assert (summary.preview, summary.message_count) == ("question 0", 4)
    with SQLiteSessionManager(SESSION, path) as manager:
        again = build(manager, "answer 2")
        assert held(again) == held(agent)
        say(again, "question 2")
        assert len(manager.list_messages(SESSION, "default")) == 6


def test_what_only_snapshots_hold_is_reported(path: Path) -> None:
    storage, manager, agent = snapshot_of_a_conversation(path)
    asyncio.run(manager.save_snapshot(agent, is_latest=False))
    with SQLiteSessionRepository(path) as target, pytest.warns(UserWarning, match="stayed behind") as warned:
        copy_session(SnapshotRepository(storage), target, SESSION)
    said = " ".join(str(warning.message) for warning in warned)
    assert "immutable snapshots" in said
    assert "system_prompt" in said
    ended = run("copy", f"snapshots:{path.parent / 'snapshots'}", path.with_name("other.db"), "--all")
    assert (ended.code, ended.err) == (0, "")
    assert "left behind, since the target cannot hold it: the immutable snapshots of 1 session" in ended.out


@pytest.mark.parametrize("direction", ["to snapshots", "from snapshots"])
def test_an_agent_holds_the_same_after_a_copy_between_files_and_snapshots(direction: str, path: Path) -> None:
    folder = str(path.parent / "files")
    if direction == "to snapshots":
        agent = build(FileSessionManager(SESSION, storage_dir=folder), "answer 0", "answer 1")
        say(agent, "question 0")
        say(agent, "question 1")
        storage = storage_in(path, "file")
        copy_session(FileSessionRepository(folder), SnapshotRepository(storage), SESSION)
        again = build(snapshots.SnapshotSessionManager(SESSION, storage=storage))
    else:
        storage, _, agent = snapshot_of_a_conversation(path)
        with pytest.warns(UserWarning, match="system_prompt"):
            copy_session(SnapshotRepository(storage), FileSessionRepository(folder), SESSION)
        again = build(FileSessionManager(SESSION, storage_dir=folder))
    assert held(again) == held(agent)


@pytest.mark.parametrize("kind", ["graph", "swarm"])
def test_a_team_goes_to_snapshots_and_back(kind: str, path: Path) -> None:
    with SQLiteSessionManager(SESSION, path) as manager:
        build_team(kind, manager, path.parent)("the task")
        state = manager.read_multi_agent(SESSION, "team")
        repository = SnapshotRepository(storage_in(path, "file"))
        copy_session(manager, repository, SESSION)
    with SQLiteSessionRepository(path.with_name("back.db")) as target:
        copy_session(repository, target, SESSION)
        assert target.read_multi_agent(SESSION, "team") == state


def test_the_command_copies_there_and_back(path: Path) -> None:
    with SQLiteSessionManager(SESSION, path) as manager:
        agent = build(manager, "yes")
        say(agent, "ready?")
        expected = held(agent)
    assert run("copy", path, f"snapshots:{path}", "--all").code == 0
    ended = run("copy", f"snapshots:{path}", path.with_name("back.db"), "--all")
    assert (ended.code, ended.err) == (0, "")
    with SQLiteSessionManager(SESSION, path.with_name("back.db")) as manager:
        assert held(build(manager)) == expected
    assert "already exists" in run("copy", path, f"snapshots:{path}", "--all").err
    assert run("copy", path, f"snapshots:{path}", "--all", "--skip-existing").code == 0


def test_the_command_copies_to_a_bucket(s3_bucket: str, path: Path) -> None:
    with SQLiteSessionManager(SESSION, path) as manager:
        say(build(manager, "yes"), "ready?")
    place = f"snapshots:s3://{s3_bucket}/of-a-test"
    ended = run("copy", path, place, "--all", "--region", "us-east-1")
    assert (ended.code, ended.err) == (0, "")
    back = path.with_name("back.db")
    assert run("copy", place, back, "--all", "--region", "us-east-1").code == 0
    with SQLiteSessionRepository(path) as log, SQLiteSessionRepository(back) as copied:
        assert copied.read_context(SESSION, "default") == log.read_context(SESSION, "default")


def test_what_is_missing_or_there_is_refused(path: Path) -> None:
    storage, _, _ = snapshot_of_a_conversation(path)
    repository = SnapshotRepository(storage)
    with SQLiteSessionRepository(path) as target:
        with pytest.raises(SessionNotFoundException):
            copy_session(repository, target, "nobody")
        with pytest.warns(UserWarning, match="system_prompt"):
            copy_session(repository, target, SESSION)
        with pytest.raises(SessionExistsException):
            copy_session(target, repository, SESSION)
    with pytest.raises(TypeError, match="copy_session"):
        repository.create_session(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema_version": "2.0", "scope": "agent"}'])
def test_what_is_not_a_snapshot_is_named(content: bytes, path: Path) -> None:
    storage, _, _ = snapshot_of_a_conversation(path)
    (latest,) = (path.parent / "snapshots").rglob("snapshot_latest.json")
    latest.write_bytes(content)
    with SQLiteSessionRepository(path) as target:
        with pytest.raises(SessionException, match="is not a snapshot"):
            copy_session(SnapshotRepository(storage), target, SESSION)
        assert target.list_sessions() == []
