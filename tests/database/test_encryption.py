"""Encryption at rest: a `connect` function opens the connections, here with SQLCipher.

`repository/test_contract.py` runs the repository contract on them.
"""

import gc
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from strands import Agent
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    DatabaseLockedException,
    FileSessionRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    copy_session,
)

from ..support.command_line import READING, WRITING, run
from ..support.conversations import build
from ..support.encrypted_connections import KEY, connect_encrypted, connect_with_another_key
from ..support.fresh_processes import held_by
from ..support.lock_holders import held_for_a_moment
from ..support.records import message
from ..support.scripted_model import REDACT_INPUT, ScriptedModel, tool_use
from ..support.workers import forked, in_processes, in_threads

PAGE_SIZE, SALT, RESERVED = 4096, 16, 80
SECRET = "the treasure is under the palm"


def talk(path: Path, *script: Any) -> tuple[SQLiteSessionManager, Agent]:
    """Tell an agent on an encrypted file the secret, and let it answer from a script."""
    manager = SQLiteSessionManager("island", path, metadata={"user_id": "42"}, connect=connect_encrypted)
    agent = build(manager, *script)
    agent(SECRET)
    return manager, agent


def noise_in(folder: Path) -> bytes:
    """All bytes of all files of a folder, which must be unreadable."""
    content = b"".join(file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm"))
    for word in (b"SQLite format", b"CREATE TABLE", b"island", b"user_id", SECRET.encode(), b'"role"'):
        assert word not in content
    return content


def test_without_the_key_the_file_and_its_write_ahead_log_are_unreadable(path: Path) -> None:
    manager, agent = talk(path)
    assert Path(f"{path}-wal").stat().st_size > 0
    assert len(set(noise_in(path.parent))) == 256
    agent("again")
    manager.close()
    assert len(set(noise_in(path.parent))) == 256


def test_an_agent_resumes_from_an_encrypted_file(path: Path) -> None:
    manager, agent = talk(path, [tool_use("remember", "t1", key="depth", value=[1, None])], "I dig")
    manager.close()
    resumed = build(SQLiteSessionManager("island", path, connect=connect_encrypted))
    assert held_by(resumed) == held_by(agent)
    assert resumed.state.get("depth") == [1, None]


def test_a_database_is_listed_searched_forked_and_moved_encrypted(path: Path, tmp_path: Path) -> None:
    manager, _ = talk(path)
    (summary,) = manager.list_sessions(metadata={"user_id": "42"})
    assert summary.preview == SECRET
    assert [match.message_id for match in manager.search_messages("TREASURE")] == [0]
    manager.fork_session("island", "isle", through_message=1)
    assert len(manager.list_messages("isle", "default")) == 2
    elsewhere = FileSessionRepository(str(tmp_path / "files"))
    copy_session(manager, elsewhere, "island")
    copy_session(elsewhere, manager, "island", new_session_id="back")
    assert manager.list_messages("back", "default") == manager.list_messages("island", "default")
    with SQLiteSessionRepository(tmp_path / "plain.db") as plain:
        copy_session(manager, plain, "island")
        assert plain.list_messages("island", "default") == manager.list_messages("island", "default")
    assert manager.check() == []


def decrypted(path: Path) -> bytes:
    """Decrypt the file, page by page, as https://www.zetetic.net/sqlcipher/design/ describes it for a raw key."""
    content = path.read_bytes()
    pages = []
    for start in range(0, len(content), PAGE_SIZE):
        page = content[start + (SALT if start == 0 else 0) : start + PAGE_SIZE - RESERVED]
        vector = content[start + PAGE_SIZE - RESERVED :][:16]
        decryptor = Cipher(algorithms.AES(bytes.fromhex(KEY)), modes.CBC(vector)).decryptor()
        pages.append(decryptor.update(page) + decryptor.finalize())
    return b"".join(pages)


def test_after_a_vacuum_deleted_and_redacted_text_cannot_be_read_with_the_key_either(path: Path) -> None:
    manager, agent = talk(path)
    for number in range(30):
        manager.create_message("island", "default", message(2 + number, f"{SECRET}, {number} paces " * 20))
    manager.fork_session("island", "isle")
    manager.close()
    assert decrypted(path).count(SECRET.encode()) > 1000
    with SQLiteSessionRepository(path, connect=connect_encrypted) as repository:
        repository.delete_session("island")
        repository.delete_session("isle")
        repository.vacuum()
        assert decrypted(path).count(SECRET.encode()) == 0

    manager, agent = talk(path)
    agent.model = ScriptedModel(REDACT_INPUT)
    agent("the parrot must not know")
    manager.vacuum()
    assert decrypted(path).count(b"parrot") == 0
    assert decrypted(path).count(SECRET.encode()) > 0


def test_a_backup_is_encrypted_with_the_same_key(path: Path, tmp_path: Path) -> None:
    manager, _ = talk(path)
    manager.backup(tmp_path / "backup.db")
    noise_in(tmp_path)
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    with SQLiteSessionRepository(tmp_path / "backup.db", connect=connect_encrypted) as backup:
        assert backup.check() == []
        assert backup.list_messages("island", "default") == manager.list_messages("island", "default")


@pytest.mark.parametrize("opener", [None, connect_with_another_key], ids=["no key", "another key"])
def test_without_the_right_key_the_file_is_refused_and_not_touched(
    opener: Callable[[str], Any] | None, path: Path
) -> None:
    manager, _ = talk(path)
    manager.close()
    before = path.read_bytes()
    with pytest.raises(SessionException, match=r"sessions\.db \| not a SQLite database .*open it with the `connect`"):
        SQLiteSessionManager("island", path, connect=opener)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["sessions.db"]


def test_an_unencrypted_file_is_refused_by_a_connection_with_a_key_and_not_touched(path: Path) -> None:
    SQLiteSessionManager("island", path).close()
    before = path.read_bytes()
    with pytest.raises(SessionException, match="not a SQLite database"):
        SQLiteSessionRepository(path, connect=connect_encrypted)
    assert path.read_bytes() == before


def test_an_encrypted_database_of_something_else_is_refused_and_not_touched(path: Path) -> None:
    foreign = connect_encrypted(str(path))
    foreign.execute("CREATE TABLE messages (id INTEGER)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(SessionException, match="a database of another program"):
        SQLiteSessionRepository(path, connect=connect_encrypted)
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [*READING, *WRITING])
def test_the_command_line_says_that_it_does_not_open_encrypted_files(command: str, path: Path) -> None:
    manager, _ = talk(path)
    manager.close()
    before = path.read_bytes()
    ended = run(*(READING | WRITING)[command], db=path)
    assert ended.code == 1
    assert ended.err.startswith(f"strands-sqlite: {path} | not a SQLite database")
    assert "If it is encrypted, open it with the `connect` that it was written with" in ended.err
    assert ended.err.count("\n") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other", [None, connect_with_another_key, lambda path: connect_encrypted(path)], ids=["none", "key", "equal"]
)
def test_a_file_is_opened_by_one_function_at_a_time_in_a_process(
    other: Callable[[str], Any] | None, path: Path
) -> None:
    manager, agent = talk(path)
    with pytest.raises(SessionException, match="with another `connect`; pass the same function everywhere"):
        SQLiteSessionRepository(path, connect=other)
    agent("still here")
    manager.close()
    SQLiteSessionRepository(path, connect=lambda path: connect_encrypted(path)).close()


class Opener:
    """A key that is a part of an object, as in an application."""

    def connect(self, path: str) -> sqlite3.Connection:
        return connect_encrypted(path)


def test_a_method_of_an_object_can_open_connections(path: Path) -> None:
    opener = Opener()
    with (
        SQLiteSessionManager("island", path, connect=opener.connect),
        SQLiteSessionManager("palm", path, connect=opener.connect) as manager,
    ):
        assert len(manager.list_sessions()) == 2


def fail(path: str) -> sqlite3.Connection:
    raise KeyError("the key is not there")


def misuse(path: str) -> sqlite3.Connection:
    connection = connect_encrypted(path)
    connection.execute("PRAGMA no such thing")
    return connection


@pytest.mark.parametrize(
    ("opener", "kind", "says"),
    [
        (fail, SessionException, r"sessions\.db \| `connect` failed with KeyError"),
        (misuse, SessionException, r"sessions\.db \| `connect` failed with OperationalError"),
        (lambda path: None, TypeError, "returned NoneType, not a connection"),
        (lambda path: "connected", TypeError, "returned str, not a connection"),
        (sqlite3.connect, SessionException, r"sessions\.db \| `connect` must open with check_same_thread=False"),
        ("a key", TypeError, r"connect=<str> \| must be a function of a path"),
    ],
    ids=["fails", "misuses", "nothing", "text", "one thread", "no function"],
)
def test_a_connect_function_without_a_usable_connection_is_an_error(
    opener: Any, kind: type[Exception], says: str, path: Path
) -> None:
    with pytest.raises(kind, match=says):
        SQLiteSessionManager("island", path, connect=opener)
    SQLiteSessionManager("island", path, connect=connect_encrypted).close()


def customized(path: str) -> sqlite3.Connection:
    """Open a connection with settings that people often choose."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level="EXCLUSIVE", timeout=1)
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    if hasattr(connection, "autocommit"):
        connection.autocommit = False
    return connection


class ForeignError(Exception):
    pass


class ForeignOperationalError(ForeignError):
    pass


class BusyError(ForeignOperationalError):
    pass


class ForeignConnection(sqlite3.Connection):
    """Raises errors of its own classes, as other drivers do, and a special one for a locked database."""

    Error, OperationalError = ForeignError, ForeignOperationalError

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            raise (BusyError if "locked" in str(error) else ForeignOperationalError)(*error.args) from None


def test_a_driver_with_its_own_class_of_error_for_a_lock_waits_for_it(path: Path) -> None:
    def connect(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False, factory=ForeignConnection)

    with SQLiteSessionManager("island", path, connect=connect) as manager, held_for_a_moment(path):
        manager.update_session_metadata("island", {"has": "waited"})


def test_connect_may_return_a_connection_of_sqlite3_itself(path: Path) -> None:
    with SQLiteSessionManager("island", path, connect=customized) as manager:
        agent = build(manager)
        agent("hello")
        assert held_by(build(SQLiteSessionManager("island", path, connect=customized))) == held_by(agent)
    gc.collect()
    with SQLiteSessionManager("island", path) as manager:
        assert len(manager.list_messages("island", "default")) == 2


def test_an_encrypted_database_in_memory_works(path: Path) -> None:
    manager = SQLiteSessionManager("island", ":memory:", connect=connect_encrypted)
    agent = build(manager)
    agent(SECRET)
    manager.fork_session("island", "isle")
    assert in_threads(4, lambda index: len(manager.list_messages("isle", "default"))) == [2] * 4


def append_in_a_process(index: int, path: Path) -> None:
    manager = SQLiteSessionManager("island", path, connect=connect_encrypted)
    agent = Agent(agent_id=f"agent-{index}", model=ScriptedModel(), session_manager=manager, callback_handler=None)
    for number in range(10):
        agent(f"{index} says {number}")


def test_threads_processes_and_forks_share_an_encrypted_file(path: Path) -> None:
    manager, _ = talk(path)
    in_processes(2, append_in_a_process, path)
    in_threads(2, lambda index: manager.list_messages("island", "default"))
    with forked(lambda pipe: manager.create_message("island", "default", message(2, "from a child"))):
        pass
    assert [len(manager.list_messages("island", agent.agent_id)) for agent in manager.list_agents("island")] == [
        *(3, 20, 20)
    ]
    assert manager.check() == []


def test_another_writer_on_an_encrypted_file_is_waited_for_and_reported(path: Path) -> None:
    _, agent = talk(path)
    impatient = SQLiteSessionManager("palm", path, timeout=0.1, connect=connect_encrypted)
    other = connect_encrypted(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseLockedException, match=r"another writer kept .* locked for more than 0\.1 seconds"):
        build(impatient)
    other.close()
    agent("free again")
