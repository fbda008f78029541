"""What `SQLiteStorage` does beyond a `Storage`: it shares the file of the sessions."""

import asyncio
import copy
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from hypothesis import given, settings
from hypothesis import strategies as st
from strands import Agent
from strands.storage import InMemoryStorage
from strands.storage import storage as upstream
from strands.types.exceptions import SessionException, StorageError

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, SQLiteStorage

from ..support.command_line import ROOT, environment
from ..support.fresh_processes import at_once, in_a_new_process
from ..support.lock_holders import held_elsewhere
from ..support.records import query
from ..support.scripted_model import ScriptedModel
from ..support.storages import conversation, counts, run, snapshot, wal_size
from ..support.workers import forked

try:
    from ..support.encrypted_connections import connect_encrypted, connect_with_another_key
except ImportError:
    connect_encrypted = None  # type: ignore[assignment]

CALLS: dict[str, Callable[[SQLiteStorage], Coroutine[Any, Any, Any]]] = {
    "write": lambda storage: storage.write("key", b"value"),
    "read": lambda storage: storage.read("key"),
    "delete": lambda storage: storage.delete("key"),
    "list": lambda storage: storage.list(""),
}
searches = pytest.mark.skipif(not hasattr(InMemoryStorage, "search"), reason="this Strands does not search")
if hasattr(InMemoryStorage, "search"):
    CALLS["search"] = lambda storage: storage.search("value")


# -- the file --


def read_there(path: Path, key: str) -> bytes | None:
    return run(SQLiteStorage(path).read(key))


def test_what_is_written_is_there_in_a_new_process(path: Path) -> None:
    storage = SQLiteStorage(path)
    run(storage.write("a/b", b"value"))
    assert in_a_new_process(read_there, path, "a/b") == b"value"


def write_there(path: Path, process: int) -> None:
    with SQLiteStorage(path) as storage:
        for number in range(20):
            run(storage.write(f"{process}/{number}", b"%d %d" % (process, number)))
            run(storage.write("shared", snapshot(conversation(30, process), number)))


def test_processes_write_at_the_same_time(path: Path) -> None:
    at_once(write_there, [(path, process) for process in range(2)])
    with SQLiteStorage(path) as storage, SQLiteSessionRepository(path) as repository:
        assert len(run(storage.list(""))) == 41
        assert run(storage.read("1/19")) == b"1 19"
        assert run(storage.read("shared")) in [snapshot(conversation(30, process), 19) for process in range(2)]
        assert repository.check() == []


def test_sessions_and_values_share_a_file(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        agent = Agent(
            model=ScriptedModel(), session_manager=SQLiteSessionManager("session", path), callback_handler=None
        )
        agent("hello")
        run(storage.write("session/session/notes", b"value"))
        with SQLiteSessionRepository(path) as repository:
            repository.backup(path.parent / "backup.db")
            assert [summary.session_id for summary in repository.list_sessions()] == ["session"]
            repository.delete_session("session")
            repository.vacuum()
            assert repository.check() == []
        assert run(storage.read("session/session/notes")) == b"value"
    assert run(SQLiteStorage(path.parent / "backup.db").list("")) == ["session/session/notes"]


def test_the_environment_variable_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(path))
    run(SQLiteStorage().write("key", b"value"))
    assert counts(path) == (1, 1, 1)
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.skipif(connect_encrypted is None, reason="there is no sqlcipher3")
def test_values_are_encrypted_with_the_file(path: Path) -> None:
    with SQLiteStorage(path, connect=connect_encrypted) as storage:
        run(storage.write("key", b"a secret value"))
        assert run(storage.read("key")) == b"a secret value"
        with pytest.raises(TypeError, match="connect"):
            pickle.dumps(storage)
    assert b"secret" not in path.read_bytes()
    with pytest.raises(StorageError, match="encrypted"):
        SQLiteStorage(path, connect=connect_with_another_key)


# -- committed together, and off the loop --


def test_hundreds_of_writes_share_a_few_commits(path: Path) -> None:
    with SQLiteStorage(path) as storage, closing(sqlite3.connect(path)) as other:

        async def write() -> None:
            await asyncio.gather(*(storage.write(f"key {number}", b"%d" % number) for number in range(300)))

        run(write())
        assert other.execute("SELECT count(*) FROM storage_values").fetchone() == (300,)
        written = wal_size(path)
    assert written < 300 * 5 * 4096 / 3  # alone, each would write the pages of five trees


def test_values_and_messages_of_one_process_are_written_at_once(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        agents = [
            Agent(model=ScriptedModel(), session_manager=SQLiteSessionManager(name, path), callback_handler=None)
            for name in ("ada", "bob")
        ]

        async def work() -> None:
            await asyncio.gather(
                *(agent.invoke_async("hello") for agent in agents),
                *(storage.write(f"key {number}", b"value") for number in range(50)),
            )

        run(work())
        assert len(run(storage.list(""))) == 50
    with SQLiteSessionRepository(path) as repository:
        assert [len(repository.list_messages(name, "default")) for name in ("ada", "bob")] == [2, 2]


def test_the_loop_keeps_running_while_another_process_holds_the_lock(path: Path) -> None:
    value = snapshot(conversation(4000))

    async def work(storage: SQLiteStorage) -> None:
        with held_elsewhere(path) as holder:  # which only the loop can have let go
            writes = [asyncio.ensure_future(storage.write(f"key {number}", value)) for number in range(3)]
            assert await storage.read("key") == b"before"
            await asyncio.sleep(0.1)
            assert not any(write.done() for write in writes)
            holder.release()
            await asyncio.gather(*writes)

    with SQLiteStorage(path) as storage:
        run(storage.write("key", b"before"))
        run(work(storage))
        assert run(storage.read("key 2")) == value


def test_a_canceled_write_is_whole_or_absent_and_leaves_nothing_behind(path: Path) -> None:
    async def work(storage: SQLiteStorage) -> None:
        with held_elsewhere(path):
            write = asyncio.ensure_future(storage.write("key", b"late"))
            await asyncio.sleep(0.05)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        await storage.write("other", b"value")
        assert await storage.list("") == ["other"]

    with SQLiteStorage(path) as storage:
        run(work(storage))


def test_threads_write_and_read_one_key(path: Path) -> None:
    values = [snapshot(conversation(40, seed)) for seed in range(4)]
    seen: set[bytes | None] = set()

    def work(number: int) -> None:
        for _ in range(10):
            run(storage.write("key", values[number]))
            seen.add(run(storage.read("key")))

    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen <= set(values)
    with SQLiteSessionRepository(path) as repository:
        assert repository.check() == []


def write_and_read(storage: SQLiteStorage, key: str) -> None:
    run(storage.write(key, snapshot(conversation(300))))
    assert run(storage.read(key)) == snapshot(conversation(300))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_continues_with_the_storage(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        write_and_read(storage, "parent")
        with forked(lambda connection: write_and_read(storage, "child")):
            write_and_read(storage, "parent too")
        assert run(storage.list("")) == ["child", "parent", "parent too"]


@pytest.mark.long
def test_an_exit_handler_uses_the_storage(path: Path) -> None:
    program = (
        "import asyncio, atexit, sys\n"
        "from strands_sqlite_session_manager import SQLiteStorage\n"
        "storage = SQLiteStorage(sys.argv[1])\n"
        "async def work():\n"
        "    await storage.write('key', bytes(100_000))\n"
        "    print(len(await storage.read('key')), await storage.list(''))\n"
        "atexit.register(lambda: asyncio.run(work()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("100000 ['key']\n", "")


# -- the same answers as the simplest storage --

NAMES = st.text(st.sampled_from("aA/.%_*\x00\n é日\U0010ffff😀"), max_size=6)
CALLS_OF_ANY_NAME = st.lists(st.tuples(st.sampled_from(["write", "read", "delete", "list"]), NAMES), max_size=20)


async def answers(storage: Any, calls: list[tuple[str, str]]) -> list[Any]:
    """Return what each call returns, or that it is refused."""
    found: list[Any] = []
    for number, (name, key) in enumerate(calls):
        try:
            found.append(await getattr(storage, name)(key, *([b"%d" % number] if name == "write" else [])))
        except StorageError:
            found.append(StorageError)
    return found


def test_calls_with_any_name_are_answered_as_by_the_storage_in_memory(path: Path) -> None:
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        fresh = count()

        @settings(max_examples=40, deadline=None, database=None)
        @given(CALLS_OF_ANY_NAME)
        def are_the_same(calls: list[tuple[str, str]]) -> None:
            view = storage.namespace(f"run {next(fresh)}")
            assert run(answers(view, calls)) == run(answers(InMemoryStorage(), calls))

        are_the_same()


# -- copies, namespaces, memory --


def test_a_storage_in_memory_says_that_it_ends_with_the_process(path: Path) -> None:
    ephemeral = getattr(upstream, "_EPHEMERAL", None)
    with SQLiteStorage(":memory:") as memory, SQLiteStorage(path) as file:
        if ephemeral is not None:
            assert memory._ephemeral is memory.namespace("a")._ephemeral is ephemeral
        assert not hasattr(file, "_ephemeral")
        assert not hasattr(file.namespace("a"), "_ephemeral")
        run(memory.write("key", b"value"))
        assert run(SQLiteStorage(":memory:").list("")) == []
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=":memory:"):
                way(memory)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_of_a_namespace_is_the_same_namespace(way: Callable[[Any], Any], path: Path) -> None:
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        view = storage.namespace("a/b").namespace("c")
        run(view.write("key", b"value"))
        copied = way(view)
        assert run(copied.list("")) == ["key"]
        assert copied._namespaced is upstream._NAMESPACED
        assert not hasattr(way(storage), "_namespaced")
        assert run(storage.namespace("/").list("")) == ["a/b/c/key"]


def test_a_namespace_of_a_subclass_is_of_the_subclass(path: Path) -> None:
    class Loud(SQLiteStorage):
        said: list[str]

        async def write(self, key: str, data: bytes) -> None:
            self.said.append(key)
            await super().write(key, data)

    with Loud(path) as storage:
        storage.said = []
        run(storage.namespace("a").write("key", b""))
        assert storage.said == ["key"]
        assert run(storage.list("")) == ["a/key"]


# -- failures --


@pytest.mark.every_case
@pytest.mark.parametrize("call", CALLS)
def test_a_closed_storage_fails_with_a_storage_error(call: str, path: Path) -> None:
    storage = SQLiteStorage(path)
    view = storage.namespace("a")
    storage.close()
    for closed in (storage, view):
        with pytest.raises(StorageError, match="closed"):
            run(CALLS[call](closed))


@pytest.mark.every_case
@pytest.mark.parametrize("call", CALLS)
def test_a_file_that_is_gone_is_a_storage_error(call: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "sessions.db"
    storage = SQLiteStorage(path)
    shutil.rmtree(path.parent)
    with pytest.raises(StorageError, match="deleted or replaced"):
        run(CALLS[call](storage))


@pytest.mark.parametrize("call", ["write", "delete"])
def test_a_locked_file_is_a_storage_error_and_nothing_is_written_later(call: str, path: Path) -> None:
    with SQLiteStorage(path, timeout=0.2) as storage:
        run(storage.write("key", b"before"))
        with held_elsewhere(path), pytest.raises(StorageError, match=r"locked for more than 0\.2 seconds"):
            run(CALLS[call](storage))
        run(storage.write("other", b""))
        assert run(storage.read("key")) == b"before"


def test_a_file_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_text("this is no database, and has been here before" * 50)
    with pytest.raises(StorageError, match="not a"):
        SQLiteStorage(foreign)
    with pytest.raises(StorageError):
        SQLiteStorage(tmp_path)


@pytest.mark.parametrize("settings", [{"synchronous": "OFF"}, {"timeout": 0}, {"db_path": ""}])
def test_an_unsupported_setting_is_a_value_error(settings: dict[str, Any], path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SQLiteStorage(**{"db_path": path, **settings})


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("key", "data"), [(None, b""), (5, b""), ("key", "text"), ("key", None), ("key", 5), ("a\ud800", b"")]
)
def test_an_invalid_key_or_value_is_a_storage_error(key: Any, data: Any, path: Path) -> None:
    with SQLiteStorage(path) as storage:
        with pytest.raises(StorageError):
            run(storage.write(key, data))
        assert run(storage.list("")) == []


@pytest.mark.parametrize("data", [bytearray(b"value"), memoryview(b"value")])
def test_other_bytes_are_stored_as_bytes(data: Any, path: Path) -> None:
    with SQLiteStorage(path) as storage:
        run(storage.write("key", data))
        assert run(storage.read("key")) == b"value"


def test_no_key_holds_a_lone_surrogate(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        run(storage.write("a", b""))
        run(storage.write("\U0010ffff", b""))
        assert run(storage.read("a\ud800")) is None
        run(storage.delete("a\ud800"))
        assert run(storage.list("\ud800")) == []
        assert run(storage.list("")) == ["a", "\U0010ffff"]


def test_a_missing_block_is_a_storage_error_until_the_key_is_written_again(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        run(storage.write("damaged", b"words"))
        query(path, "DELETE FROM storage_blocks WHERE data = CAST('words' AS BLOB)")
        with pytest.raises(StorageError, match="'damaged' is not whole"):
            run(storage.read("damaged"))
        run(storage.write("damaged", b"words"))
        assert run(storage.read("damaged")) == b"words"


def test_an_error_repeats_nothing_of_a_value(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        storage.close()
        with pytest.raises(StorageError) as failure:
            run(storage.write("key", b"a secret"))
    assert "secret" not in str(failure.value)
    assert isinstance(failure.value.__cause__, SessionException)


@pytest.mark.skipif(hasattr(InMemoryStorage, "search"), reason="this Strands searches")
def test_a_search_says_which_strands_it_needs(path: Path) -> None:
    with SQLiteStorage(path) as storage, pytest.raises(StorageError, match=r"strands-agents 1\.54"):
        run(storage.search("words"))


# -- search --


@searches
def test_a_search_reads_only_the_values_of_its_namespace(path: Path) -> None:
    with SQLiteStorage(path) as storage:
        run(storage.write("other/big", b"words " * 10000))
        run(storage.write("notes/small", b"words"))
        query(path, "DELETE FROM storage_blocks WHERE length(data) > 1000")  # reading them would fail
        assert [found.key for found in run(storage.namespace("notes").search("words"))] == ["small"]
