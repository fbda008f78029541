"""What other programs keep in the file, and errors of other code on the stack, are not mistaken for damage."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import Session

from strands_sqlite_session_manager import DatabaseLockedException, SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.records import query, session
from ..support.workers import PATIENCE

# -- in the file --


@pytest.mark.long
def test_deletions_leave_a_table_of_another_program_alone(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        build(manager)("hello")
        query(path, 'CREATE TABLE "my notes" (body TEXT)')
        for number in range(500):
            query(path, 'INSERT INTO "my notes" VALUES (?)', f"note {number} " * 20)
        query(path, 'DELETE FROM "my notes" WHERE rowid % 3 = 0')
        manager.create_session(session("doomed"))
        manager.delete_session("doomed")
    assert query(path, 'SELECT count(*) FROM "my notes"') == [(334,)]


def test_check_copes_with_a_table_of_another_program(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        query(path, "CREATE TABLE notes (session_id TEXT REFERENCES sessions)")
        query(path, "INSERT INTO notes VALUES ('lost')")
        assert manager.check() == ["A row of notes belongs to no row of sessions."]


def test_metadata_that_is_not_a_string_is_found(path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        query(path, "INSERT INTO session_metadata VALUES ('session', 'visits', x'05'), ('session', x'06', 'six')")
        assert manager.check() == [
            "Metadata key b'\\x06' of session 'session': the column key is not text.",
            "Metadata key 'visits' of session 'session': the column value is not text.",
        ]
        with pytest.raises(SessionException, match="the metadata of session session cannot be read"):
            manager.list_sessions()


# -- who has the file --


@pytest.mark.parametrize("timeout", [0.3, 1.5])
def test_a_program_that_locks_the_whole_file_is_waited_for_until_the_timeout(path: Path, timeout: float) -> None:
    SQLiteSessionManager("session", path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with pytest.raises(DatabaseLockedException, match=re.escape(f"for more than {timeout:g} seconds")):
            SQLiteSessionManager("session", path, timeout=timeout)
        assert timeout * 0.9 < time.monotonic() - begun < timeout + 20


def test_a_thread_waits_for_another_on_a_database_in_memory_for_its_timeout(path: Path) -> None:
    repository = SQLiteSessionRepository(":memory:", timeout=0.2)
    inside, done = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        inside.set()
        done.wait(PATIENCE)

    thread = threading.Thread(target=repository._database.transaction, args=(hold,))
    thread.start()
    inside.wait(PATIENCE)
    try:
        for use in (
            lambda: repository.read_session("session"),
            lambda: repository.create_session(session("session")),
        ):
            begun = time.monotonic()
            with pytest.raises(DatabaseLockedException, match=r"another writer .* 0\.2 seconds"):
                use()
            assert 0.2 * 0.9 < time.monotonic() - begun < 0.2 + 20
    finally:
        done.set()
        thread.join()
    assert repository.read_session("session") is None


# -- on the stack --

WRITES: dict[str, Callable[[SQLiteSessionRepository], Any]] = {
    "create_session": lambda repository: repository.create_session(session("new")),
    "fork_session": lambda repository: repository.fork_session("session", "new"),
    "update_session_metadata": lambda repository: repository.update_session_metadata("session", {"a": "b"}),
    "delete_session": lambda repository: repository.delete_session("session"),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_callback_may_read_and_may_not_write(write: str, path: Path, tmp_path: Path) -> None:
    with SQLiteSessionManager("session", path) as manager:
        build(manager)("hello")
        seen: list[Any] = []

        def progress(done: int, total: int) -> None:
            seen.append((len(manager.list_sessions()), len(manager.search_messages("hello")), manager.check()))
            WRITES[write](manager)

        with pytest.raises(SessionException, match=r"in the middle of a read or a write: nothing can be written"):
            manager.backup(tmp_path / "backup.db", progress=progress)
        assert seen == [(1, 1, [])]
        assert [summary.session_id for summary in manager.list_sessions()] == ["session"]
        WRITES[write](manager)


class Broken(SlidingWindowConversationManager):
    """A conversation manager with a bug of its own."""

    def restore_from_session(self, state: dict[str, Any]) -> Any:
        return super().restore_from_session(state) or {}["no such key"]


def test_a_bug_in_a_conversation_manager_is_not_reported_as_damage(path: Path) -> None:
    build(SQLiteSessionManager("session", path), conversation_manager=Broken())("hello")
    with pytest.raises(SessionException, match=r"default of session session cannot be restored: KeyError") as failure:
        build(SQLiteSessionManager("session", path), conversation_manager=Broken())
    assert "damaged" not in str(failure.value)
    assert isinstance(failure.value.__cause__, KeyError)


# -- in an error --


def test_a_record_that_cannot_be_stored_is_an_error_that_names_the_file(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        nameless: Any = Session("session", "AGENT", created_at=None, updated_at=None)  # type: ignore[arg-type]
        with pytest.raises(SessionException, match=rf"{re.escape(str(path))} \| NOT NULL constraint"):
            repository.create_session(nameless)


def test_the_name_of_a_folder_is_not_mistaken_for_the_cause_of_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "locked and busy"
    repository = SQLiteSessionRepository(folder / "sessions.db")
    folder.rename(tmp_path / "elsewhere")
    folder.touch()
    with pytest.raises(SessionException) as failure:
        repository.list_sessions()
    assert "another writer" not in str(failure.value)


@pytest.mark.parametrize(
    ("destination", "kind"), [("", ValueError), (" ", ValueError), ("x\0.db", ValueError), (b"x.db", TypeError)]
)
def test_a_destination_that_is_not_a_path_is_refused(path: Path, destination: Any, kind: type[Exception]) -> None:
    with SQLiteSessionRepository(path) as repository, pytest.raises(kind, match="destination"):
        repository.backup(destination)
