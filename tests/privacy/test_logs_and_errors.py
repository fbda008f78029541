"""Whatever fails, no log, warning, exception, or command-line error contains anything of a conversation.

The secret is in every message, tool input and output, state, metadata value, and orchestrator. Ids may appear, and so
may the names of keys, which say where a value is.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
)

from ..support.conversations import build
from ..support.leaked_secrets import SECRET, fill, holds, telling, told_by_command
from ..support.records import Orchestrator, agent, message
from ..support.scripted_model import REDACT_INPUT
from ..support.value_places import PLACES, prepared


@pytest.fixture
def filled(path: Path) -> Path:
    fill(path)
    return path


# -- values --


class Loud:
    """A value whose `repr` reveals everything."""

    def __repr__(self) -> str:
        return SECRET


def circle() -> list[Any]:
    around: list[Any] = [SECRET]
    around.append({"again": around})
    return around


UNSTORABLE: dict[str, Any] = {
    "tuple": (SECRET,),
    "set": {SECRET},
    "object": Loud(),
    "exception": ValueError(SECRET),
    "key that is not a string": {(SECRET,): SECRET},
    "key that is an object": {Loud(): SECRET},
    "bytes as a key": {SECRET.encode(): SECRET},
    "surrogate pair": f"{SECRET} \ud83d\ude00",
    "surrogate pair in a key": {f"{SECRET} \ud83d\ude00": SECRET},
    "long integer": [SECRET, 10**5000],
    "what contains itself": circle(),
    "what looks like bytes": [{"__bytes_encoded__": mark, "data": SECRET} for mark in (True, "raw")],
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_no_error_repeats_a_value_that_cannot_be_stored(value: Any, path: Path) -> None:
    with prepared(path) as manager:
        for place in PLACES.values():
            for wrapped in (value, [{"deep": [SECRET, value]}]):
                told, failure = telling(lambda place=place, wrapped=wrapped: place.store(manager, wrapped))  # type: ignore[misc]
                assert isinstance(failure, SessionException)
                assert told == [], place.name


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_no_error_repeats_what_an_agent_cannot_store(value: Any, path: Path) -> None:
    with SQLiteSessionManager("home", path) as manager:
        speaker = build(manager, SECRET, agent_id="ada")
        speaker(SECRET)
        speaker.messages[0]["content"].append({"x": value})
        told, failure = telling(lambda: manager.sync_agent(speaker))
        assert isinstance(failure, SessionException)
        assert told == []


METADATA: dict[str, Any] = {
    "a number": {"user": SECRET, "age": 5},
    "a list": {"user": [SECRET]},
    "bytes": {"user": SECRET.encode()},
    "a key that is not a string": {5: SECRET},
    "no mapping": [("user", SECRET)],
    "a surrogate pair": {"user": f"{SECRET} \ud83d\ude00"},
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_no_error_repeats_refused_metadata(metadata: Any, path: Path) -> None:
    with prepared(path) as manager:
        for refused in (
            lambda: SQLiteSessionManager("new", path, metadata=metadata),
            lambda: manager.update_session_metadata("home", metadata),
        ):
            told, failure = telling(refused)
            assert isinstance(failure, (TypeError, ValueError))
            assert told == []
        for found in (manager.list_sessions, manager.delete_sessions):
            assert telling(lambda found=found: found(metadata=metadata))[0] == []  # type: ignore[misc]


@pytest.mark.parametrize(
    "text", [f"{SECRET} \ud83d\ude00", SECRET * 10_000, f"%{SECRET}\0_~", SECRET.encode(), (SECRET,)]
)
def test_no_error_repeats_a_search(text: Any, filled: Path) -> None:
    with SQLiteSessionRepository(filled) as repository:
        assert telling(lambda: repository.search_messages(text))[0] == []


# -- constraints and other writers --

REFUSED: dict[str, Callable[[SQLiteSessionManager], Any]] = {
    "a message that is there": lambda manager: manager.create_message("home", "ada", message(0, SECRET)),
    "a message of nobody": lambda manager: manager.create_message("home", "bob", message(0, SECRET)),
    "a message that is not there": lambda manager: manager.update_message("home", "ada", message(99, SECRET)),
    "an odd message id": lambda manager: manager.create_message(
        "home", "ada", SessionMessage({"role": "user", "content": [{"text": SECRET}]}, 2**70)
    ),
    "an agent that is there": lambda manager: manager.create_agent("home", agent("ada", state={"x": SECRET})),
    "an agent of no session": lambda manager: manager.create_agent("none", agent("ada", state={"x": SECRET})),
    "an agent that is not there": lambda manager: manager.update_agent("home", agent("bob", state={"x": SECRET})),
    "an odd time": lambda manager: manager.create_agent(
        "home", agent("bob", state={"x": SECRET}, created_at=None, updated_at=[SECRET])
    ),
    "an orchestrator of no session": lambda manager: manager.create_multi_agent(
        "none", Orchestrator("graph", {"x": SECRET})
    ),
    "an orchestrator that is not there": lambda manager: manager.update_multi_agent(
        "home", Orchestrator("swarm", {"x": SECRET})
    ),
    "metadata of no session": lambda manager: manager.update_session_metadata("none", {"user": SECRET}),
    "a fork that is there": lambda manager: manager.fork_session("home", "home"),
    "a fork from no message": lambda manager: manager.fork_session("home", "fork", through_message=99),
    "another agent of the same id": lambda manager: [build(manager, SECRET, agent_id="ada") for _ in range(2)],
    "a backup that is there": lambda manager: manager.backup(manager._database.path),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_no_error_of_a_refused_call_repeats_the_conversation(
    refused: Callable[[SQLiteSessionManager], Any], filled: Path
) -> None:
    with SQLiteSessionManager("home", filled) as manager:
        told, failure = telling(lambda: refused(manager))
        assert failure is not None
        assert told == []


def writes(manager: SQLiteSessionManager, speaker: Any) -> dict[str, Callable[[], Any]]:
    """Return every way in which a live agent and its manager write."""

    def redact() -> None:
        speaker.model.replies = [REDACT_INPUT]
        speaker(SECRET)

    return {
        "say": lambda: speaker(SECRET),
        "sync": lambda: (speaker.state.set("key", f"{SECRET} 2"), manager.sync_agent(speaker)),
        "redact": lambda: manager.redact_latest_message(message(0, SECRET).message, speaker),
        "be blocked": redact,
        "update": lambda: manager.update_message("home", "ada", message(0, f"{SECRET} {SECRET}")),
        "orchestrate": lambda: manager.sync_multi_agent(Orchestrator("graph", {"x": [SECRET]})),  # type: ignore[arg-type]
        "tag": lambda: manager.update_session_metadata("home", {"user": SECRET * 2}),
        "fork": lambda: manager.fork_session("home", "fork"),
        "delete": lambda: manager.delete_sessions(metadata={"user": SECRET}),
    }


def test_an_error_about_another_writer_repeats_nothing_that_was_to_be_written(filled: Path) -> None:
    with SQLiteSessionManager("home", filled, timeout=0.01) as manager:
        speaker = build(manager, agent_id="ada")
        with closing(sqlite3.connect(filled, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for name, work in writes(manager, speaker).items():
                told, failure = telling(work)
                assert isinstance(failure, SessionException), name
                assert told == [], name


def test_an_error_about_a_full_disk_repeats_nothing_that_was_to_be_written(filled: Path) -> None:
    with SQLiteSessionManager("home", filled) as manager:
        manager._database.read("PRAGMA max_page_count = 1")
        texts = {
            "message": lambda: manager.create_message("home", "ada", message(50, SECRET * 10_000)),
            "state": lambda: manager.update_agent("home", agent("ada", state={"x": SECRET * 10_000})),
            "metadata": lambda: manager.update_session_metadata("home", {"user": SECRET * 10_000}),
            "orchestrator": lambda: manager.update_multi_agent("home", Orchestrator("graph", {"x": SECRET * 10_000})),  # type: ignore[arg-type]
        }
        for name, work in texts.items():
            told, failure = telling(work)
            assert "full" in str(failure), name
            assert told == [], name


def test_an_error_about_a_stale_writer_repeats_nothing_that_was_to_be_written(filled: Path) -> None:
    with SQLiteSessionManager("home", filled) as manager, SQLiteSessionManager("home", filled) as other:
        speaker = build(manager, agent_id="ada")
        build(other, SECRET, agent_id="ada")(SECRET)
        told, failure = telling(lambda: speaker(SECRET))
        assert isinstance(failure, StaleSessionException)
        assert told == []


def test_an_error_about_a_missing_or_closed_file_repeats_nothing_that_was_to_be_written(filled: Path) -> None:
    manager = SQLiteSessionManager("home", filled)
    speaker = build(manager, agent_id="ada")
    filled.rename(filled.with_name("moved.db"))
    for work in writes(manager, speaker).values():
        told, failure = telling(work)
        assert isinstance(failure, SessionException)
        assert told == []
    manager.close()
    for work in writes(manager, speaker).values():
        assert telling(work)[0] == []


# -- the `repr` of objects --


def test_no_object_shows_what_it_holds(filled: Path) -> None:
    with SQLiteSessionManager("home", filled, metadata={"user": SECRET}) as manager:
        speaker = build(manager, SECRET, agent_id="ada")
        speaker(SECRET)
        shown = [
            manager,
            SQLiteSessionRepository(filled),
            manager._agents,
            manager._agents["ada"].account,
            manager._orchestrators,
            manager._database,
            manager._database._pool,
        ]
        for value in shown:
            assert not holds(repr(value))
            assert not holds(str(value))


def test_a_conversation_that_goes_well_leaves_nothing_in_the_logs(path: Path) -> None:
    def converse() -> None:
        fill(path)
        with SQLiteSessionManager("home", path, metadata={"user": SECRET}) as manager:
            speaker = build(manager, SECRET, REDACT_INPUT, agent_id="ada")
            speaker(SECRET)
            speaker(SECRET)
            manager.search_messages(SECRET)
            manager.list_sessions(metadata={"user": SECRET})
            manager.fork_session("home", "fork")
            manager.backup(path.with_name("backup.db"))
            manager.delete_sessions(metadata={"user": SECRET})

    assert telling(converse) == ([], None)


@pytest.mark.parametrize(
    "command",
    [
        ("--db", "missing.db", "search", SECRET),
        ("--db", "missing.db", "tag", "home", f"user={SECRET}"),
        ("search", SECRET, "--session", "none"),
        ("tag", "none", f"user={SECRET}"),
        ("list", "--metadata", f"user={SECRET}", "--limit", "-1"),
        ("prune", "--metadata", f"user={SECRET}", "--older-than", "soon"),
        ("prune", "--metadata", f"user={SECRET}", "--older-than", "0m"),
        ("show", "home", "--agent", "nobody"),
        ("show", "none"),
        ("fork", "home", "home"),
        ("fork", "home", "fork", "--through", "99", "--agent", "ada"),
        ("backup", "sessions.db"),
        ("export", "none", "-o", "new.jsonl"),
    ],
)
def test_a_failing_command_prints_nothing_of_the_file(
    command: tuple[str, ...], filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled.parent)
    assert told_by_command(*command) == []
