"""No other user can read or write what the package creates, from the first moment and whatever the umask.

The mode of each file and folder is read right after the system call that creates it, in Python and in SQLite.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.cli import main

from ..support.conversations import build
from ..support.file_watch import CAN_WATCH, Watch
from ..support.legacy_files import example, write
from ..support.lock_holders import held_for_a_moment
from ..support.records import agent, message, query
from ..support.scripted_model import REDACT_INPUT
from ..support.tiers import tier
from ..support.workers import in_processes

pytestmark = pytest.mark.skipif(not CAN_WATCH, reason="SQLite's system calls cannot be watched here")

NOBODY = 65534
UMASKS = pytest.mark.parametrize("umask", tier([0o000, 0o002, 0o022, 0o077, 0o777], quick=[0o000]), ids=oct)
MEGABYTE = "x" * 2**20
# The endings of all names that must be created; a run that creates none of a kind proves nothing about it.
KINDS = (
    *("new", "below", "sessions.db", "sessions.db-journal", "sessions.db-wal", "sessions.db-shm", "sessions.db-queue"),
    *(".partial", ".partial-journal", "other.db", "imported.db", "earlier.db-wal", "earlier.db-shm"),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which every user may work; `tmp_path` is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def as_somebody(umask: int) -> None:
    """Continue without the rights of root, who may read and write even what is closed to its owner."""
    os.umask(umask)
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def use_everything(folder: Path) -> None:
    """Do all that creates files, of sessions that are too large for SQLite's cache."""
    path = folder / "new" / "below" / "sessions.db"
    with SQLiteSessionManager("home", path, metadata={"user": "42"}) as manager:
        with held_for_a_moment(path):  # so that it queues
            build(manager, "aye", REDACT_INPUT)("hello")
        for number in range(2, 6):
            manager.create_message("home", "default", message(number, MEGABYTE))
        manager.fork_session("home", "fork")
        manager.delete_session("fork")
        manager.vacuum()
        manager.backup(folder / "backup.db")
        run("--db", path, "stats")
        run("--db", path, "export", "--all", "-o", folder / "export.jsonl")
    run("--db", path, "list")
    run("--db", folder / "imported.db", "import", "--create", folder / "export.jsonl")
    run("--db", folder / "backup.db", "backup", folder / "again.db")
    run("copy", path, folder / "other.db", "--all")
    SQLiteSessionRepository(folder / "earlier.db").list_sessions()


def watched(index: int, folder: Path, umask: int) -> tuple[list[tuple[str, int]], list[str], dict[str, int]]:
    as_somebody(umask)
    watch = Watch()
    write(folder / "earlier.db", example(), "DELETE")
    (folder / "earlier.db").chmod(0o600)
    begun = len(watch.created)
    use_everything(folder)
    left = {str(path): mode(path) for path in folder.rglob("*")}
    return watch.created[begun:], watch.events, left


@UMASKS
def test_what_is_created_is_open_to_its_owner_and_to_nobody_else_at_any_moment(folder: Path, umask: int) -> None:
    ((created, _, left),) = in_processes(1, watched, folder, umask, start_method="fork")
    assert [(path, oct(first)) for path, first in created if first & 0o077] == []
    assert [(path, oct(last)) for path, last in left.items() if last & 0o077] == []
    assert [kind for kind in KINDS if not any(path.endswith(kind) for path, _ in created)] == []
    # A file that the watch did not see being created was not checked in its first moment.
    unseen = left.keys() - {path for path, _ in created} - {str(folder / "earlier.db")}
    renamed = ("backup.db", "again.db", "export.jsonl", "earlier.db.legacy-backup")
    assert unseen == {str(folder / name) for name in renamed}
    assert {path: oct(last) for path, last in left.items() if last & 0o600 != 0o600} == {}


@pytest.mark.long
def test_temporary_files_of_sqlite_have_no_name_before_they_have_content(folder: Path) -> None:
    ((created, events, _),) = in_processes(1, watched, folder, 0, start_method="fork")
    elsewhere = [path for path, _ in created if not path.startswith(str(folder))]
    assert elsewhere  # VACUUM's
    for path in elsewhere:
        assert events[events.index(f"created {path}") + 1] == f"unlinked {path}"
        assert not os.path.lexists(path)


# -- what is gone a moment later --


def opened_while_it_vanishes(index: int, folder: Path, doomed: int) -> tuple[list[tuple[str, int]], int]:
    """Open a database whose file is deleted just before the connection with that number."""
    os.umask(0)
    path = folder / "sessions.db"
    connections = 0

    def delete(step: str, named: str) -> None:
        nonlocal connections
        if step == "sqlite3.connect" and path.name in named:
            connections += 1
            if connections == doomed:
                path.unlink()

    watch = Watch(delete)
    try:
        with SQLiteSessionManager("home", path) as manager:
            in_threads_of_their_own(lambda: manager.create_agent("home", agent("ada")))
    except SessionException:
        pass
    return watch.created, connections


def in_threads_of_their_own(work: Any) -> None:
    """Work in a thread while another one has the connection that it could take over."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor:
        executor.submit(work).result()


@pytest.mark.parametrize("doomed", [1, 2, 3])
def test_a_file_that_vanishes_while_it_is_opened_does_not_come_back_readable_by_others(
    tmp_path: Path, doomed: int
) -> None:
    ((created, connections),) = in_processes(1, opened_while_it_vanishes, tmp_path, doomed, start_method="fork")
    assert connections >= doomed
    assert [(path, oct(first)) for path, first in created if first & 0o077] == []


# -- what others may read because its owner said so --


def shared(path: Path, permissions: int) -> SQLiteSessionManager:
    SQLiteSessionManager("home", path).close()
    path.chmod(permissions)
    manager = SQLiteSessionManager("home", path)
    manager.create_agent("home", agent("ada"))
    return manager


@pytest.mark.parametrize("permissions", [0o640, 0o660, 0o666], ids=oct)
def test_a_shared_file_stays_shared_with_what_belongs_to_it_whatever_is_done(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "sessions.db"
    before = os.umask(0o077)
    try:
        with shared(path, permissions) as manager:
            with held_for_a_moment(path):
                manager.create_message("home", "ada", message(0, "hello " * 10_000))
            manager.fork_session("home", "fork")
            manager.delete_session("fork")
            manager.vacuum()
            assert {file.name: mode(file) for file in tmp_path.iterdir()} == dict.fromkeys(
                ("sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db-queue"), permissions
            )
    finally:
        os.umask(before)
    assert mode(path) == permissions


def test_copies_of_a_shared_file_are_for_their_owner_only(tmp_path: Path) -> None:
    with shared(tmp_path / "sessions.db", 0o666) as manager:
        manager.backup(tmp_path / "backup.db")
        run("--db", tmp_path / "sessions.db", "export", "--all", "-o", tmp_path / "export.jsonl")
        run("copy", tmp_path / "sessions.db", tmp_path / "copy.db", "--all")
    assert {mode(tmp_path / name) for name in ("backup.db", "export.jsonl", "copy.db")} == {0o600}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the administrator can be two users")
def test_what_root_does_to_a_file_leaves_its_owner_everything(folder: Path) -> None:
    path = folder / "sessions.db"
    SQLiteSessionManager("home", path).close()
    os.chown(path, NOBODY, NOBODY)
    with SQLiteSessionManager("home", path) as manager:
        with held_for_a_moment(path):
            manager.create_agent("home", agent("ada"))
        assert {(file.name, file.stat().st_uid) for file in folder.iterdir()} == {
            (name, NOBODY) for name in ("sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db-queue")
        }
        in_processes(1, read_as_somebody, path, start_method="fork")


def read_as_somebody(index: int, path: Path) -> None:
    as_somebody(0o077)
    assert query(path, "SELECT agent_id FROM agents") == [("ada",)]


def folder_store(index: int, folder: Path) -> dict[str, int]:
    as_somebody(0o022)
    SQLiteSessionManager("home", folder / "sessions.db").create_agent("home", agent("ada"))
    run("copy", folder / "sessions.db", f"file:{folder}/store", "--all")
    return {str(path): mode(path) for path in (folder / "store").rglob("*") if path.is_file()}


def test_a_copy_in_a_folder_is_for_its_owner_only(folder: Path) -> None:
    ((files),) = in_processes(1, folder_store, folder, start_method="fork")
    (folder / "probe").mkdir()
    FileSessionManager("probe", storage_dir=str(folder / "probe"))
    if any(mode(path) & 0o077 for path in (folder / "probe").rglob("session.json")):
        pytest.skip("this Strands lets everybody read its sessions")
    assert files
    assert {path: oct(found) for path, found in files.items() if found & 0o077} == {}
