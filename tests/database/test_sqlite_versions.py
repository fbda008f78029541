"""A SQLite that is too old is refused with a clear error before a file is touched."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.database import connections

from ..support.command_line import run


def connect_to_old(path: str) -> sqlite3.Connection:
    """Open a connection that claims to be SQLite of 2020."""
    raw = sqlite3.connect(path, check_same_thread=False)
    raw.create_function("sqlite_version", 0, lambda: "3.34.1")
    return raw


def connect_without_json(path: str) -> sqlite3.Connection:
    """Open a connection without JSON functions, which builds before SQLite 3.38 could leave out."""

    def refuse(text: str) -> None:
        raise NotImplementedError

    raw = sqlite3.connect(path, check_same_thread=False)
    raw.create_function("json", 1, refuse)
    return raw


@pytest.fixture
def too_old(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make Python's own SQLite appear older than what we need."""
    with monkeypatch.context() as context:
        context.setattr(connections, "OLDEST_SQLITE", (3, 1000, 0))
        connections.check_own_sqlite.cache_clear()
        yield


NEEDS = r"needs SQLite {} or newer, with JSON functions; this is {}"


@pytest.mark.usefixtures("too_old")
def test_a_sqlite_that_is_too_old_is_refused_before_a_file_is_touched(tmp_path: Path) -> None:
    refusal = NEEDS.format(r"3\.1000\.0", sqlite3.sqlite_version)
    for path in (tmp_path / "new" / "sessions.db", ":memory:"):
        with pytest.raises(SessionException, match=refusal):
            SQLiteSessionManager("session", path)
        with pytest.raises(SessionException, match=refusal):
            SQLiteSessionRepository(path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "sessions.db").touch()
    ended = run("list", db=tmp_path / "sessions.db")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert f"this is {sqlite3.sqlite_version}" in ended.err
    assert (tmp_path / "sessions.db").stat().st_size == 0


@pytest.mark.parametrize(
    ("connect", "found"),
    [
        (connect_to_old, r"3\.34\.1: use a newer Python"),
        (connect_without_json, rf"{sqlite3.sqlite_version} without JSON functions: use"),
    ],
)
def test_a_sqlite_without_what_we_need_is_refused(connect: connections.Connect, found: str, tmp_path: Path) -> None:
    with pytest.raises(SessionException, match=NEEDS.format(r"3\.35\.0", found)):
        SQLiteSessionManager("session", tmp_path / "sessions.db", connect=connect)
    SQLiteSessionManager("session", tmp_path / "sessions.db").close()
