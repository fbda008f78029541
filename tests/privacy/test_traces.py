"""Once a deletion returns, nothing of a session is left on the disk: not of what it held before, and in no other file.

`test_erasure.py` shows it for what was removed itself, whatever has happened before.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import ROOT
from ..support.leaked_secrets import SECRET, fill
from ..support.legacy_files import LAYOUT, Contents, insert
from ..support.records import Orchestrator, agent, message, session

WORDS = [f"{SECRET}{number:06}" for number in range(400)]


def holding(folder: Path) -> list[str]:
    """Return the names of the files that hold the secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


REPLACING: dict[str, Callable[[SQLiteSessionManager, str], Any]] = {
    "metadata": lambda manager, word: manager.update_session_metadata("home", {"title": word * 20}),
    "removed metadata": lambda manager, word: (
        manager.update_session_metadata("home", {f"key {word[-2:]}": word}),
        manager.update_session_metadata("home", {f"key {word[-2:]}": None}),
    ),
    "state": lambda manager, word: manager.update_agent("home", agent("ada", state={"x": word * 30})),
    "orchestrator": lambda manager, word: manager.update_multi_agent("home", Orchestrator("graph", {"x": word * 30})),  # type: ignore[arg-type]
    "message": lambda manager, word: manager.update_message("home", "ada", message(0, word * 30)),
}


@pytest.mark.parametrize("replace", REPLACING.values(), ids=REPLACING)
def test_of_values_that_were_replaced_nothing_is_left_when_their_session_is_deleted(
    replace: Callable[[SQLiteSessionManager, str], Any], path: Path
) -> None:
    with SQLiteSessionManager("home", path, synchronous="NORMAL") as manager:
        manager.create_agent("home", agent("ada"))
        manager.create_message("home", "ada", message(0))
        manager.create_multi_agent("home", Orchestrator("graph"))  # type: ignore[arg-type]
        for number, word in enumerate(WORDS):
            replace(manager, word * (number % 7 + 1))
            manager.create_session(session(f"other {number}"))
        manager.delete_session("home")
        assert holding(path.parent) == []
        manager.backup(path.with_name("backup.db"))
    assert holding(path.parent) == []


def test_a_fork_holds_what_was_said_until_it_is_deleted_as_well(path: Path) -> None:
    fill(path)
    with SQLiteSessionRepository(path) as repository:
        repository.fork_session("home", "fork")
        repository.delete_session("home")
        assert holding(path.parent)
        repository.delete_session("fork")
        assert holding(path.parent) == []


DELETING = """
import os, signal, sys
from strands_sqlite_session_manager import SQLiteSessionManager
manager = SQLiteSessionManager("another", sys.argv[1])
manager.delete_session("home")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_a_process_that_is_killed_after_a_deletion_leaves_nothing(path: Path) -> None:
    fill(path)
    with SQLiteSessionRepository(path) as repository:  # which keeps the log
        repository.fork_session("home", "fork")
        repository.delete_session("fork")
        done = subprocess.run([sys.executable, "-c", DELETING, str(path)], cwd=ROOT, check=False)
        assert done.returncode == -9
        assert holding(path.parent) == []
    assert holding(path.parent) == []


def test_of_a_session_from_the_earlier_package_nothing_is_left_that_its_file_had_in_unused_pages(path: Path) -> None:
    write_with_unused_pages(path)
    with SQLiteSessionRepository(path) as repository:
        deleted = [summary.session_id for summary in repository.list_sessions()]
        assert repository.delete_sessions(updated_before=datetime.now(timezone.utc)) == len(deleted)
        content = path.read_bytes()
        # What the earlier package itself had deleted is its own affair.
        assert [session_id for session_id in deleted if WORDS[int(session_id)].encode() in content] == []


def test_of_a_session_nothing_is_left_that_another_program_has_left_in_unused_pages(path: Path) -> None:
    with SQLiteSessionManager("home", path) as manager:
        manager.create_agent("home", agent("ada"))
        for number, word in enumerate(WORDS):
            manager.create_message("home", "ada", message(number, word))
    with closing(sqlite3.connect(path)) as connection, connection:  # as the program `sqlite3` does it
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM messages WHERE message_id % 10")
    with SQLiteSessionRepository(path) as repository:
        repository.delete_session("home")
        assert holding(path.parent) == []


def write_with_unused_pages(path: Path) -> None:
    """Write a file of the earlier package in which rows were moved and changed; it does not overwrite what it frees."""
    contents = Contents([Session(f"{number}", SessionType.AGENT) for number in range(200)])
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(LAYOUT)
        connection.execute("PRAGMA secure_delete = OFF")
        for one, word in zip(contents.sessions, WORDS, strict=False):
            insert(connection, "sessions", one.session_id, {**one.to_dict(), "x": word * 10})
            insert(connection, "agents", one.session_id, "ada", {**agent("ada", state={"x": word * 300}).to_dict()})
        connection.commit()
        connection.execute("UPDATE agents SET data = json_set(data, '$.state', json('{}')) WHERE rowid % 2")
        connection.execute("DELETE FROM sessions WHERE rowid % 3 = 0")
        connection.execute("DELETE FROM agents WHERE session_id NOT IN (SELECT session_id FROM sessions)")
        connection.commit()
