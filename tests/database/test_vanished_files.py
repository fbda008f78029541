"""Deleting or replacing a database file in use is an error at the next use, never a silent loss.

Nothing is written to the file that is gone, nothing of it reaches the file that took its place, and a new manager on
the path finds exactly what is there.
"""

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.numbered_messages import SESSION, add, add_all, begin, live_agent, numbers

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows does not let go of an open file's name")

COPIED = range(5)  # the messages that a copy has
OTHERS = range(100, 300)  # those of another database


def delete(path: Path) -> None:
    path.unlink()


def delete_with_log(path: Path) -> None:
    for name in (f"{path}", f"{path}-wal", f"{path}-shm"):
        os.unlink(name)


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace_by_empty(path: Path) -> None:
    path.with_name("empty.db").touch()
    os.replace(path.with_name("empty.db"), path)


def replace_by_copy(path: Path) -> None:
    os.replace(path.with_name("copy.db"), path)


def replace_by_another(path: Path) -> None:
    with begin(path.with_name("another.db")) as another:
        add_all(another, OTHERS)
    os.replace(path.with_name("another.db"), path)


@pytest.mark.parametrize(
    ("vanish", "there_now"),
    [
        (delete, []),
        (delete_with_log, []),
        (move_away, []),
        (replace_by_empty, []),
        (replace_by_copy, [*COPIED]),
        (replace_by_another, [*OTHERS]),
    ],
)
def test_a_vanished_file_is_an_error_and_a_new_manager_finds_what_is_there_now(
    tmp_path: Path, vanish: Callable[[Path], None], there_now: list[int]
) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    add_all(manager, COPIED)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
    agent = live_agent(manager)
    add_all(manager, range(5, 10))

    vanish(path)

    gone = re.escape(str(path)) + ".*deleted or replaced"
    for use in (
        lambda: add(manager, 10),
        lambda: numbers(manager),
        lambda: agent("hello"),
        lambda: live_agent(manager, "another"),
    ):
        with pytest.raises(SessionException, match=gone):
            use()

    new = SQLiteSessionManager(SESSION, path)
    assert numbers(new) == there_now
    new_agent = live_agent(new, "a new agent")
    new_agent("hello")
    with pytest.raises(SessionException, match=gone):
        numbers(manager)  # the new file does not bring the old manager back
    manager.close()
    new_agent("hello again")
    new.close()
    assert not os.path.exists(f"{path}-wal")

    with SQLiteSessionRepository(path) as after:
        assert numbers(after) == there_now
        assert len(after.list_messages(SESSION, "a new agent")) == 4
        assert "live" not in [stored.agent_id for stored in after.list_agents(SESSION)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_file_that_is_moved_away_keeps_all_of_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    add_all(manager, range(10))
    move_away(path)
    with begin(path) as new:  # what is in the WAL beside the path is not lost to it
        add_all(new, OTHERS)
    manager.close()
    with SQLiteSessionRepository(tmp_path / "elsewhere.db") as repository:
        assert numbers(repository) == list(range(10))


def test_managers_of_other_files_are_not_affected(tmp_path: Path) -> None:
    vanishing, staying = begin(tmp_path / "vanishing.db"), begin(tmp_path / "staying.db")
    agent = live_agent(staying)
    agent("hello")
    os.unlink(tmp_path / "vanishing.db")
    with pytest.raises(SessionException, match="vanishing"):
        add(vanishing, 0)
    agent("hello again")
    vanishing.close()
    agent("hello once more")
    with SQLiteSessionRepository(tmp_path / "staying.db") as repository:
        assert len(repository.list_messages(SESSION, "live")) == 6


def test_a_file_that_is_moved_back_serves_its_manager_again(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    manager = begin(path)
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(SessionException, match="deleted or replaced"):
        add(manager, 0)
    (tmp_path / "elsewhere.db").rename(path)
    add(manager, 0)
    assert numbers(manager) == [0]
