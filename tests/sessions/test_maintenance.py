"""A backup copies the file while it is in use, and a vacuum takes away its unused space."""

import os
import shutil
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.command_line import run
from ..support.conversations import CONVERSATIONS, build, resume_conversation
from ..support.fresh_processes import held_by, in_a_new_process, open_session
from ..support.numbered_messages import AGENT, SESSION, add, add_all, begin, live_agent, numbers
from ..support.workers import PATIENCE, forked, killed

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")
needs_modes = pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(path: Path) -> list[Any]:
    """Return every row of a file that nobody uses."""
    with closing(sqlite3.connect(path)) as connection:
        tables = ("sessions", "session_metadata", "agents", "messages", "multi_agents")
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in tables]


def large(path: Path, messages: int = 1600) -> SQLiteSessionManager:
    """Return a manager of a file with several thousand pages."""
    manager = begin(path, synchronous="NORMAL")
    add(manager, 0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"""
            WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {messages})
            INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)
            SELECT session_id, agent_id, n, created_at, updated_at, json_object(
                'role', 'user', 'more', hex(zeroblob(3000)), 'content', json_array(json_object('text', '' || n))
            )
            FROM messages, number
            """
        )
    return manager


# -- backup --


@pytest.mark.parametrize("name", ["a tool", "sliding window", "summarizing twice", "redacted user content", "an image"])
def test_an_agent_resumes_from_a_backup_exactly(name: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    assert isinstance(manager, SQLiteSessionManager)
    agent = CONVERSATIONS[name].play(manager)
    live = repr(held_by(agent))
    (tmp_path / "restored").mkdir()
    manager.backup(tmp_path / "restored" / "sessions.db")
    agent("and on it goes")
    assert repr(in_a_new_process(resume_conversation, name, tmp_path / "restored")) == live


@needs_modes
def test_a_backup_is_one_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    before = os.umask(0)
    try:
        with begin(tmp_path / "sessions.db") as manager:
            add_all(manager, range(10))
            manager.backup(tmp_path / "backups" / "backup.db")
    finally:
        os.umask(before)
    assert names(tmp_path / "backups") == ["backup.db"]
    assert stat.S_IMODE((tmp_path / "backups" / "backup.db").stat().st_mode) == 0o600
    assert content(tmp_path / "backups" / "backup.db") == content(tmp_path / "sessions.db")
    with closing(sqlite3.connect(tmp_path / "backups" / "backup.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def taken_by_a_file(path: Path) -> None:
    path.write_text("mine")


def taken_by_a_folder(path: Path) -> None:
    path.mkdir()


def taken_by_a_link(path: Path) -> None:
    path.with_name("target").write_text("mine")
    path.symlink_to(path.with_name("target"))


def taken_by_a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@needs_modes
@pytest.mark.parametrize("take", [taken_by_a_file, taken_by_a_folder, taken_by_a_link, taken_by_a_dangling_link])
def test_a_backup_never_overwrites(take: Any, tmp_path: Path) -> None:
    take(tmp_path / "taken")
    with begin(tmp_path / "sessions.db") as manager:
        before = names(tmp_path)
        with pytest.raises(SessionException, match="taken \\| exists already"):
            manager.backup(tmp_path / "taken")
        assert names(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "taken").is_file() or (tmp_path / "taken").read_text() == "mine"


def test_of_two_backups_to_one_place_one_is_refused(tmp_path: Path) -> None:
    def back_up(_: int) -> str:
        together.wait(PATIENCE)
        try:
            manager.backup(tmp_path / "backups" / "backup.db")
            return "done"
        except SessionException as error:
            return "refused" if "exists already" in str(error) else str(error)

    (tmp_path / "backups").mkdir()
    together = threading.Barrier(4)
    with begin(tmp_path / "sessions.db") as manager, ThreadPoolExecutor(4) as executor:
        add_all(manager, range(10))
        assert sorted(executor.map(back_up, range(4))) == ["done", "refused", "refused", "refused"]
    assert names(tmp_path / "backups") == ["backup.db"]


@pytest.mark.parametrize("destination", ["missing/backup.db", "sessions.db/backup.db", "x" * 300])
def test_an_impossible_destination_is_a_clear_error(destination: str, tmp_path: Path) -> None:
    with begin(tmp_path / "sessions.db") as manager:
        before = names(tmp_path)
        with pytest.raises(SessionException, match="cannot be written"):
            manager.backup(tmp_path / destination)
        assert names(tmp_path) == before


def test_the_longest_possible_file_name_works(tmp_path: Path) -> None:
    with begin(tmp_path / "sessions.db") as manager:
        add_all(manager, range(3))
        manager.backup(tmp_path / ("x" * 250))
    assert content(tmp_path / ("x" * 250)) == content(tmp_path / "sessions.db")


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_leftovers_of_an_older_file_do_not_get_into_a_backup(suffix: str, tmp_path: Path) -> None:
    with begin(tmp_path / "older.db") as manager:
        add_all(manager, range(50))
        shutil.copy(tmp_path / "older.db-wal", tmp_path / f"backup.db{suffix}")
    with begin(tmp_path / "sessions.db") as manager:
        add_all(manager, range(3))
        try:
            manager.backup(tmp_path / "backup.db")
        except SessionException:
            assert not (tmp_path / "backup.db").exists()
            return
    with SQLiteSessionRepository(tmp_path / "backup.db") as restored:
        assert numbers(restored) == [0, 1, 2]
        assert restored.check() == []


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with large(tmp_path / "sessions.db") as manager:
        manager.backup(tmp_path / "backup.db", progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (seen[-1][1], (tmp_path / "backup.db").stat().st_size // 4096)


def test_a_progress_callback_that_fails_leaves_no_backup(tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise KeyError("enough")

    (tmp_path / "backups").mkdir()
    with large(tmp_path / "sessions.db") as manager:
        with pytest.raises(KeyError, match="enough"):
            manager.backup(tmp_path / "backups" / "backup.db", progress=progress)
        add(manager, 10_000)
        assert names(tmp_path / "backups") == []


def test_a_progress_callback_that_writes_is_refused(tmp_path: Path) -> None:
    repository = large(tmp_path / "sessions.db")
    with pytest.raises(SessionException, match=r"sessions\.db \| .*nothing can be written .* `progress` of a backup"):
        repository.backup(tmp_path / "backup.db", progress=lambda *_: add(repository, 5000))
    assert not (tmp_path / "backup.db").exists()
    assert numbers(repository)[-1] == 1600
    add(repository, 5000)


@pytest.mark.long
def test_a_backup_is_of_one_moment_while_a_thread_and_a_process_write(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with large(path) as manager:
        before = numbers(manager)
        step = 0

        def progress(done: int, total: int) -> None:
            nonlocal step
            step += 1
            if done < total:
                with ThreadPoolExecutor(1) as executor:
                    executor.submit(add, manager, 10_000 + step).result(PATIENCE)
                with closing(sqlite3.connect(path)) as connection, connection:
                    connection.execute("UPDATE agents SET state = ?", (f'{{"step":{step}}}',))

        manager.backup(tmp_path / "backup.db", progress=progress)
        assert step > 2
        assert len(numbers(manager)) == len(before) + step - 1
    with SQLiteSessionRepository(tmp_path / "backup.db") as restored:
        assert numbers(restored) == before
        agent = restored.read_agent(SESSION, AGENT)
        assert agent is not None
        assert agent.state == {}


@needs_fork
def test_writers_never_wait_for_a_backup_and_it_never_holds_half_a_write(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with large(path, 1000):
        pass

    def write(pipe: Any) -> None:
        with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
            count = 1001
            while not pipe.poll():
                add(repository, count)
                count += 1
                if count == 1010:
                    pipe.send("writing")
        pipe.recv()

    with forked(write) as pipe:
        assert pipe.recv() == "writing"
        with SQLiteSessionRepository(path) as repository:
            for number in range(3):
                repository.backup(tmp_path / f"{number}.db")
        pipe.send("enough")
    found = []
    for number in range(3):
        with SQLiteSessionRepository(tmp_path / f"{number}.db") as restored:
            assert restored.check() == []
            found.append(len(numbers(restored)))
            assert numbers(restored) == list(range(found[-1]))
    assert found == sorted(found)


@needs_fork
def test_a_process_that_is_killed_leaves_no_backup(tmp_path: Path) -> None:
    path, backups = tmp_path / "sessions.db", tmp_path / "backups"
    backups.mkdir()
    with large(path):
        pass

    def work() -> None:
        def progress(done: int, total: int) -> None:
            (tmp_path / "begun").touch()
            threading.Event().wait(PATIENCE)

        with SQLiteSessionRepository(path) as repository:
            repository.backup(backups / "backup.db", progress=progress)

    assert killed(work, (tmp_path / "begun").exists) == 9
    assert not (backups / "backup.db").exists()
    with SQLiteSessionRepository(path) as repository:
        repository.backup(backups / "backup.db")
        assert repository.check() == []
    assert content(backups / "backup.db") == content(path)


def test_a_database_in_memory_can_be_backed_up(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", ":memory:") as manager:
        agent = build(manager)
        agent("hello")
        manager.backup(tmp_path / "sessions.db")
        agent("later")
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as restored:
        assert build(restored).messages == agent.messages[:2]


def test_a_backup_includes_what_is_only_in_the_write_ahead_log(tmp_path: Path) -> None:
    with begin(tmp_path / "sessions.db") as manager:
        add_all(manager, range(10))
        assert run("backup", tmp_path / "backup.db", db=tmp_path / "sessions.db").code == 0
    with SQLiteSessionRepository(tmp_path / "backup.db") as restored:
        assert numbers(restored) == list(range(10))


# -- vacuum --


def test_a_vacuum_gives_space_back_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with large(path) as manager:
        manager.fork_session(SESSION, "kept", through_message=9)
        manager.delete_session(SESSION)
        before = path.stat().st_size
        kept = [message.to_dict() for message in manager.list_messages("kept", AGENT)]
        manager.vacuum()
        assert path.stat().st_size < before / 10
        assert [message.to_dict() for message in manager.list_messages("kept", AGENT)] == kept
        assert manager.check() == []


@pytest.mark.parametrize("by", ["the manager", "another process"])
def test_a_live_agent_continues_after_a_vacuum_and_others_resume(by: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("gone", path) as manager:
        live_agent(manager)("to be deleted")
    with SQLiteSessionManager("session", path) as manager:
        agent = live_agent(manager)
        agent("one")
        manager.delete_session("gone")
        if by == "the manager":
            manager.vacuum()
        else:
            assert run("vacuum", db=path).code == 0
        agent("two")
        assert live_agent(SQLiteSessionManager("session", path)).messages == agent.messages
        assert [summary.session_id for summary in manager.list_sessions()] == ["session"]
        assert manager.check() == []


@pytest.mark.long
def test_the_order_of_activity_survives_a_vacuum(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with begin(path) as manager:
        add_all(manager, range(600))
        manager.fork_session(SESSION, "fork", through_message=100)
        manager.delete_session(SESSION)
        before = manager.list_sessions()
        manager.vacuum()
        assert manager.list_sessions() == before


def test_nothing_notices_that_a_vacuum_has_renumbered_the_rows(path: Path) -> None:
    with SQLiteSessionManager("doomed", path) as manager:
        build(manager)("first in the file")
    with SQLiteSessionManager("kept", path) as manager:
        agent = build(manager)
        for number in range(5):
            agent(f"prompt {number}")
        manager.delete_session("doomed")
        manager.vacuum()
        manager.fork_session("kept", "fork", through_message=3)
        agent("prompt 5")
        texts = [message.to_message()["content"][0]["text"] for message in manager.list_messages("kept", "default")]
        assert texts == [text for number in range(6) for text in (f"prompt {number}", f"reply {number + 1}")]
        found = [(match.session_id, match.message_id) for match in manager.search_messages("prompt", session_id="kept")]
        assert found == [("kept", number) for number in (10, 8, 6, 4, 2, 0)]
        assert manager.check() == []
    assert repr(in_a_new_process(resume_session, "kept", path.parent)) == repr(held_by(agent))


def resume_session(session_id: str, folder: Path) -> dict[str, Any]:
    """Return what a new agent holds in a session."""
    return held_by(build(open_session("sqlite", session_id, folder)))


def test_a_database_in_memory_can_be_vacuumed() -> None:
    with SQLiteSessionManager("session", ":memory:") as manager:
        agent = build(manager)
        agent("hello")
        manager.vacuum()
        agent("again")
        assert manager.check() == []
        assert len(manager.list_messages("session", "default")) == 4
