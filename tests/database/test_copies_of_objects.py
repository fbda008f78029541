"""Managers and repositories can be pickled and copied: the copy opens the same file with the same settings."""

import asyncio
import copy
import multiprocessing
import pickle
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException

import strands_sqlite_session_manager
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.recording_manager import held
from ..support.scripted_model import ScriptedModel
from ..support.tiers import tier
from ..support.workers import in_processes

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda value: pickle.loads(pickle.dumps(value)),
    "pickled by an old protocol": lambda value: pickle.loads(pickle.dumps(value, 2)),
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def build(manager: SQLiteSessionManager) -> Agent:
    return Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)


@ways
def test_a_copy_of_a_repository_opens_the_same_file(way: Callable[[Any], Any], path: Path) -> None:
    with SQLiteSessionManager("session", path, metadata={"user_id": "42"}):
        pass
    with SQLiteSessionRepository(path) as repository:
        copied = way(repository)
        assert copied.list_sessions() == repository.list_sessions()
    copied.update_session_metadata("session", {"user_id": "7"})  # closing one does not close the other
    copied.close()
    with pytest.raises(SessionException):
        copied.list_sessions()


@ways
def test_a_copy_of_a_manager_resumes_what_its_agent_holds(way: Callable[[Any], Any], path: Path) -> None:
    manager = SQLiteSessionManager("session", path)
    agent = build(manager)
    agent("hello")
    copied = way(manager)
    assert type(copied) is SQLiteSessionManager
    assert copied.session_id == "session"
    assert held(build(copied)) == held(agent)


@ways
def test_a_copy_has_the_settings_of_its_original(way: Callable[[Any], Any], path: Path) -> None:
    SQLiteSessionManager("session", path).close()
    repository = SQLiteSessionRepository(path, synchronous="NORMAL", timeout=0.2)
    copied = way(repository)
    repository.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(SessionException):
            copied.update_session_metadata("session", {"user_id": "42"})
        assert time.monotonic() - begun < 20


@ways
@pytest.mark.parametrize("opener", [SQLiteSessionRepository, lambda path: SQLiteSessionManager("session", path)])
def test_a_database_in_memory_is_not_copied(opener: Callable[[str], Any], way: Callable[[Any], Any]) -> None:
    with pytest.raises((TypeError, pickle.PicklingError, SessionException), match=":memory:"):
        way(opener(":memory:"))


@ways
def test_a_connect_function_that_cannot_be_pickled_is_refused_or_used_by_the_copy(
    way: Callable[[Any], Any], path: Path
) -> None:
    def connect(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False)

    SQLiteSessionManager("session", path).close()
    repository = SQLiteSessionRepository(path, connect=connect)
    try:
        copied = way(repository)
    except (TypeError, pickle.PicklingError, SessionException) as error:
        assert "connect" in str(error)  # noqa: PT017
    else:
        assert way in (copy.copy, copy.deepcopy)
        copied.update_session_metadata("session", {"user_id": "42"})


@ways
def test_a_copy_of_a_storage_opens_the_same_file(way: Callable[[Any], Any], path: Path) -> None:
    pytest.importorskip("strands.storage", reason="this Strands has no storage")
    storage = strands_sqlite_session_manager.SQLiteStorage(path)
    asyncio.run(storage.write("key", b"value"))
    copied = way(storage)
    assert type(copied) is type(storage)
    storage.close()
    assert asyncio.run(copied.read("key")) == b"value"


def list_session_ids(index: int, repository: SQLiteSessionRepository) -> list[str]:
    return [summary.session_id for summary in repository.list_sessions()]


def say_hello(index: int, manager: SQLiteSessionManager) -> str:
    agent = build(manager)
    agent("hello")
    return held(agent)


FRESH = [method for method in ("forkserver", "spawn") if method in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("start_method", tier(FRESH, quick=FRESH[:1]))
def test_a_process_that_starts_afresh_takes_a_manager_as_an_argument(start_method: str, path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        (there,) = in_processes(1, say_hello, manager, start_method=start_method)
        assert held(build(manager)) == there
