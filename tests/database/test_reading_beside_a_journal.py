"""Readers of files that another process left half-written or keeps locked, or that they may not write, get the truth.

A hot rollback journal is what a killed writer leaves beside a file without a write-ahead log: SQLite recovers it.
"""

import functools
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.child_process import in_a_child
from ..support.command_line import run
from ..support.legacy_files import large, write
from ..support.numbered_messages import AGENT, SESSION
from ..support.workers import killed

MESSAGES = 800  # more than SQLite keeps in memory, so that part of a transaction is in the file before its end
FALSE = ("damaged", "malformed", "`backup` made", "corrupt")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be killed")
COMMANDS = {
    "check": ("check",),
    "list": ("list",),
    "show": ("show", SESSION, "--limit", "1"),
    "export": ("export", "--all"),
}


def rewrite_and_be_killed(path: Path) -> None:
    """Rewrite every message without a write-ahead log, and die when part of that is in the file."""

    def work() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE messages SET data = replace(data, 'e', 'E')")
        os.kill(os.getpid(), signal.SIGKILL)

    killed(work, lambda: False)


def upgrade_and_be_killed(path: Path) -> None:
    """Open the file with this package, and die when part of the upgrade is in the file."""
    size = path.stat().st_size
    journal = path.with_name(f"{path.name}-journal")

    def under_way() -> bool:
        return journal.exists() and journal.stat().st_size > 4096 and path.stat().st_size > size

    for _ in range(20):
        killed(lambda: SQLiteSessionRepository(path).close(), under_way)
        if journal.exists() and journal.stat().st_size > 0:
            return
        path.unlink()
        path.write_bytes(_legacy())
    pytest.skip("it was never killed at the right moment")


@functools.cache
def _legacy() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        write(path, large(MESSAGES, 3000), "DELETE")
        return path.read_bytes()


@pytest.fixture
def legacy(path: Path) -> Path:
    """A legacy file without a write-ahead log."""
    path.write_bytes(_legacy())
    return path


@pytest.mark.long
@needs_fork
@pytest.mark.parametrize(
    ("command", "leave"),
    [*((command, rewrite_and_be_killed) for command in COMMANDS.values()), (("check",), upgrade_and_be_killed)],
    ids=[*COMMANDS, "check, of an upgrade"],
)
def test_a_command_that_reads_beside_a_hot_journal_reports_no_damage(
    command: tuple[str, ...], leave: Callable[[Path], None], legacy: Path
) -> None:
    leave(legacy)
    assert legacy.with_name(f"{legacy.name}-journal").exists()
    ended = run(*command, db=legacy)
    told = ended.out[-1000:] + ended.err
    assert not any(word in ended.err + (ended.out if command == ("check",) else "") for word in FALSE), told
    if ended.code == 0 and command != ("check",):
        assert f"{MESSAGES - 1} " in ended.out or command == ("list",), told
    with SQLiteSessionRepository(legacy) as repository:  # SQLite recovers all of it
        assert len(repository.list_messages(SESSION, AGENT)) == MESSAGES
        assert repository.check() == []


@needs_fork
@pytest.mark.parametrize("leave", [rewrite_and_be_killed, upgrade_and_be_killed])
def test_a_read_only_repository_beside_a_hot_journal_reads_all_or_says_why_not(
    leave: Callable[[Path], None], legacy: Path
) -> None:
    leave(legacy)
    try:
        with SQLiteSessionRepository(legacy, read_only=True) as repository:
            assert len(repository.list_messages(SESSION, AGENT)) == MESSAGES
    except SessionException as error:
        assert not any(word in str(error) for word in FALSE), error  # noqa: PT017
    with SQLiteSessionRepository(legacy) as repository:
        assert len(repository.list_messages(SESSION, AGENT)) == MESSAGES


# -- beside a lock --


@pytest.fixture(params=["a file without a write-ahead log", "a file with one"])
def locked(request: pytest.FixtureRequest, path: Path) -> Iterator[Path]:
    """A file that another process lets no one read."""
    if request.param == "a file with one":
        with SQLiteSessionManager(SESSION, path):
            pass
    else:
        write(path, large(5, 10), "DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE sessions SET created_at = created_at")
        yield path


def test_a_read_only_repository_beside_an_exclusive_lock_says_that_it_is_locked(locked: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(SessionException, match=r"(?i)lock|another writer|in use") as raised:
        SQLiteSessionRepository(locked, read_only=True, timeout=0.3).list_sessions()
    assert not any(word in str(raised.value) for word in FALSE)
    assert time.monotonic() - begun < 20


@pytest.mark.long
@pytest.mark.parametrize("command", [("check",), ("list",)], ids=lambda command: command[0])
def test_a_command_that_reads_beside_an_exclusive_lock_says_that_it_is_locked(
    command: tuple[str, ...], locked: Path
) -> None:
    begun = time.monotonic()
    ended = run(*command, db=locked)
    assert ended.code != 0
    assert not any(word in ended.err + ended.out for word in FALSE), ended
    assert any(word in ended.err.lower() for word in ("lock", "another writer", "in use")), ended
    assert time.monotonic() - begun < 40


# -- where one may not write --

NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """Do something in a child that has only the permissions of a stranger."""

    def drop_and_work() -> Any:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        return work()

    return in_a_child(drop_and_work)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("state", ["closed", "with a write-ahead log in use", "with a hot journal"])
def test_a_user_who_may_not_write_reads_everything_or_is_told_why_not(state: str, path: Path) -> None:
    folder = path.parent
    if state == "with a hot journal":
        path.write_bytes(_legacy())
        rewrite_and_be_killed(path)
    else:
        with SQLiteSessionManager("other", path):
            pass
        with SQLiteSessionRepository(path) as repository:
            repository.fork_session("other", SESSION)
    keeper = sqlite3.connect(path, isolation_level=None)
    if state == "with a write-ahead log in use":
        keeper.execute("UPDATE sessions SET updated_at = updated_at")
    for entry in folder.iterdir():
        entry.chmod(0o444)
    for parent in [folder, *folder.parents[:3]]:
        if parent.stat().st_uid == 0 and str(parent) != "/tmp":
            parent.chmod(0o755)
    folder.chmod(0o555)

    def read() -> tuple[int, str]:
        ended = run("list", db=path)
        return ended.code, ended.out + ended.err

    def read_only() -> tuple[int, str]:
        try:
            with SQLiteSessionRepository(path, read_only=True) as repository:
                return 0, " ".join(summary.session_id for summary in repository.list_sessions())
        except SessionException as error:
            return 1, str(error)

    try:
        for reader in (read, read_only):
            code, told = as_nobody(reader)
            assert not any(word in told for word in FALSE), told
            assert code != 0 or SESSION in told, told
            if state == "closed":
                assert code == 0, told
    finally:
        folder.chmod(0o755)
        keeper.close()
