"""A file with two names would get two write-ahead logs, and lose what is in one of them: it is refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.records import query

pytestmark = pytest.mark.skipif(not hasattr(os, "link"), reason="needs hard links")

WHY = r"(?i)hard link|more than one name|other names?|another name"


@pytest.fixture
def other(path: Path) -> Path:
    """A second name of a file that has a session."""
    SQLiteSessionManager("session", path).close()
    other = path.with_name("other.db")
    os.link(path, other)
    return other


OPENERS: dict[str, Callable[[Path], Any]] = {
    "a manager": lambda path: SQLiteSessionManager("session", path),
    "a repository": lambda path: SQLiteSessionRepository(path),
}


@pytest.mark.parametrize("by", ["its first name", "its second name"])
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_a_file_with_two_names_is_refused_with_the_reason(
    opener: Callable[[Path], Any], by: str, path: Path, other: Path
) -> None:
    opened = path if by == "its first name" else other
    with pytest.raises(SessionException, match=WHY) as raised:
        opener(opened)
    assert str(opened) in str(raised.value)
    assert not list(path.parent.glob("*-wal"))
    assert query(path, "SELECT session_id FROM sessions") == [("session",)]


def test_a_file_that_gets_a_second_name_while_it_is_in_use_is_not_opened_by_that_name(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        other = path.with_name("other.db")
        os.link(path, other)
        with pytest.raises(SessionException, match=WHY):
            SQLiteSessionRepository(other)
        manager.update_session_metadata("session", {"user_id": "42"})
    other.unlink()
    with SQLiteSessionRepository(path) as repository:
        assert repository.list_sessions()[0].metadata == {"user_id": "42"}


def test_a_backup_is_opened_whose_process_was_killed_just_before_it_removed_the_first_name(path: Path) -> None:
    backup = path.with_name("backup.db")
    with SQLiteSessionManager("session", path) as manager:
        manager.backup(backup)
    os.link(backup, path.with_name(".new-1234.partial"))
    other = path.with_name(".new-5678.partial")
    other.touch()
    with SQLiteSessionRepository(backup) as repository:
        assert repository.list_sessions()[0].session_id == "session"
    assert not path.with_name(".new-1234.partial").exists()
    assert other.exists()  # it may be in the making


def test_a_file_whose_second_name_is_gone_is_opened(path: Path, other: Path) -> None:
    other.unlink()
    SQLiteSessionManager("session", path).close()


def test_a_symbolic_link_is_another_name_of_the_same_path(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        link = path.with_name("link.db")
        link.symlink_to(path)
        with SQLiteSessionRepository(link) as repository:
            repository.update_session_metadata("session", {"user_id": "42"})
        assert manager.list_sessions()[0].metadata == {"user_id": "42"}
