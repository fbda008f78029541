"""The command line opens an encrypted file with the function that the application uses."""

from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.command_line import in_a_process, run
from ..support.dated_records import add_message, add_session

encrypted_connections = pytest.importorskip("tests.support.encrypted_connections")
CONNECT = "tests.support.encrypted_connections:connect_encrypted"


@pytest.fixture
def db(path: Path) -> Path:
    """An encrypted file with a session."""
    with SQLiteSessionRepository(path, connect=encrypted_connections.connect_encrypted) as repository:
        add_session(repository, "secret")
        add_message(repository, "secret", 0, "hello")
    return path


def test_an_encrypted_file_is_read_and_written_with_the_function(db: Path, tmp_path: Path) -> None:
    assert run("--connect", CONNECT, "list", db=db).out.splitlines()[-1].split()[-2:] == ["hello", "secret"]
    assert "hello" in run("show", "secret", "--connect", CONNECT, db=db).out
    assert run("tag", "secret", "a=b", "--connect", CONNECT, db=db).out == "a=b\n"
    assert run("export", "--all", "-o", tmp_path / "all.jsonl", "--connect", CONNECT, db=db).code == 0
    new = tmp_path / "new.db"
    assert run("import", "--create", tmp_path / "all.jsonl", "--connect", CONNECT, db=new).code == 0
    assert run("copy", db, tmp_path / "copy.db", "--all", "--connect", CONNECT).code == 0
    for encrypted in (new, tmp_path / "copy.db"):
        assert not encrypted.read_bytes().startswith(b"SQLite format")
        assert run("check", "--connect", CONNECT, db=encrypted).out == "ok\n"


def test_the_environment_names_the_function_as_well(db: Path) -> None:
    ended = in_a_process("--db", db, "show", "secret", STRANDS_SQLITE_CONNECT=CONNECT)
    assert "hello" in ended.out
    assert in_a_process("--db", db, "list").code == 1


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("named", "code", "told"),
    [
        ("module", 2, "must be module:function"),
        (":function", 2, "must be module:function"),
        ("no_such_module:connect", 1, "cannot be imported: No module named 'no_such_module'"),
        ("json:no_such_function", 1, "cannot be imported: module 'json' has no attribute 'no_such_function'"),
        ("sys:path", 1, "is not a function"),
        ("json:dumps", 1, "connect"),
        ("tests.support.encrypted_connections:connect_with_another_key", 1, "sessions.db"),
    ],
)
def test_a_function_that_cannot_open_the_file_is_an_error_in_one_line(
    named: str, code: int, told: str, db: Path
) -> None:
    ended = run("--connect", named, "list", db=db)
    assert ended.code == code
    assert ended.err.startswith("strands-sqlite: ")
    assert ended.err.count("\n") == 1
    assert told in ended.err
