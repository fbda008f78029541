"""Commands that only read change nothing, never wait, and work on legacy files and read-only folders."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.cli import main

from ..support import legacy_files
from ..support.command_line import PATIENCE, READING, ROOT, WRITING, environment, fill, run
from ..support.conversations import build
from ..support.numbered_messages import SESSION
from ..support.workers import killed

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork to make a child with")

# Holds a write transaction until its standard input is closed.
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE messages SET updated_at = 'never'")
connection.execute("DELETE FROM sessions")
print("holding", flush=True)
sys.stdin.read()
"""

# Runs commands one after the other, and reports how each ended and what was imported by then.
IMPORTED = """
import io, json, sys
from strands_sqlite_session_manager.cli import main
sys.stdout, out = io.TextIOWrapper(io.BytesIO()), sys.stdout
for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    heavy = [name for name in sys.modules if name.partition(".")[0] in ("strands", "boto3", "pydantic")]
    print(code, heavy, file=out)
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files with content in a folder, except for the `-shm` index, which readers may build."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    return {name: content for name, content in files.items() if content}


def complete_ids(db: Path) -> tuple[object, ...]:
    """Return the command that a shell calls to complete the id of a session."""
    return ("completion", "bash", "--", "--db", db, "show", "")


@contextmanager
def writer(db: Path) -> Iterator[None]:
    """Another process in the middle of a write transaction."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "holding\n"
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(PATIENCE)


@pytest.mark.parametrize("name", READING)
def test_reading_leaves_every_byte_as_it_was(name: str, db: Path) -> None:
    before = everything(db.parent)
    assert run(*READING[name], db=db).code == 0
    assert everything(db.parent) == before


@pytest.mark.parametrize("name", READING)
def test_reading_leaves_the_write_ahead_log_as_it_was(name: str, db: Path) -> None:
    with SQLiteSessionManager("ship", db) as manager:
        build(manager)("sail on")
        before = everything(db.parent)
        assert f"{db.name}-wal" in before
        ended = run(*READING[name], db=db)
        assert ended.code == 0
        assert everything(db.parent) == before
    assert name.startswith(("stats", "check", "list", "usage", "forks", "storage")) or "sail on" in ended.out


def test_reading_happens_while_another_process_writes_and_sees_none_of_it(db: Path) -> None:
    before = {name: run(*arguments, db=db) for name, arguments in READING.items() if not name.startswith("stats")}
    with writer(db):
        for name, ended in before.items():
            assert run(*READING[name], db=db) == ended
        assert run("stats", db=db).code == 0
        assert run("backup", db.parent / "backup.db", db=db).code == 0
        assert run("attachments", "ship", "-o", db.parent / "pictures", db=db).out.endswith("1 attachment written\n")
        assert run(*complete_ids(db)).out == "island\nship\n"
    assert run("list", db=db.parent / "backup.db") == before["list"]


def test_no_command_imports_strands(db: Path, tmp_path: Path) -> None:
    run("export", "--all", "-o", tmp_path / "export.jsonl", db=db)
    commands: list[tuple[object, ...]] = [
        ("--db", db, "backup", tmp_path / "new.db"),
        ("--db", db, "export", "--all", "-o", tmp_path / "new.jsonl"),
        ("--db", tmp_path / "imported.db", "import", "--create", tmp_path / "export.jsonl"),
        *(("--db", db, *arguments) for name, arguments in READING.items() if name != "show context"),
    ]
    for number, arguments in enumerate(WRITING.values()):
        shutil.copy(db, tmp_path / f"{number}.db")
        commands.append(("--db", tmp_path / f"{number}.db", *arguments))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, json.dumps([[str(word) for word in command] for command in commands])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment({}),
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "0 []\n" * len(commands), done.stderr


# -- where nothing can be written --


def as_nobody(work: Callable[[], Any]) -> int:
    """Run in a child that is not root, and return the signal that it died of."""

    def drop_and_work() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        work()

    return killed(drop_and_work, lambda: False)


@contextmanager
def read_only_folder(db: Path, log: bool) -> Iterator[Path]:
    """A copy of the file that everyone can reach and read, but only root can write."""
    folder = Path(tempfile.mkdtemp())  # a test's own folder is closed to others
    try:
        for path in db.parent.iterdir():
            if path.is_file() and (log or path == db):
                shutil.copy(path, folder / path.name)
                (folder / path.name).chmod(0o444)
        folder.chmod(0o555)
        yield folder / db.name
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@needs_fork
def test_reading_works_in_a_read_only_folder(db: Path) -> None:
    with read_only_folder(db, log=False) as path:

        def work() -> None:
            assert not os.access(path.parent, os.W_OK)
            for arguments in READING.values():
                ended = run(*arguments, db=path)
                assert (ended.code, ended.err) == (0, ""), (arguments, ended)
                if arguments[0] != "stats":
                    assert ended.out == expected[arguments]
            assert run(*complete_ids(path)).out == "island\nship\n"
            with tempfile.TemporaryDirectory() as pictures:
                assert run("attachments", "ship", "-o", pictures, db=path).out.endswith("1 attachment written\n")

        expected = {arguments: run(*arguments, db=db).out for arguments in READING.values()}
        assert as_nobody(work) == 0
        assert [file.name for file in path.parent.iterdir()] == [db.name]


@needs_fork
def test_writing_to_a_read_only_folder_is_an_error_in_one_line(db: Path) -> None:
    with read_only_folder(db, log=False) as path:

        def work() -> None:
            for arguments in WRITING.values():
                ended = run(*arguments, db=path)
                assert ended.code == 1, (arguments, ended)
                assert ended.err.startswith("strands-sqlite: "), ended
                assert ended.err.count("\n") == 1, ended

        before = path.read_bytes()
        assert as_nobody(work) == 0
        assert path.read_bytes() == before


@needs_fork
def test_a_file_in_use_can_be_read_without_permission_to_write(db: Path) -> None:
    with SQLiteSessionManager("ship", db) as manager:
        build(manager)("sail on")
        with read_only_folder(db, log=True) as path:

            def work() -> None:
                assert "sail on" in run("show", "ship", db=path).out

            assert (path.parent / f"{db.name}-wal").stat().st_size > 0
            assert as_nobody(work) == 0


@needs_fork
def test_an_unreadable_file_is_an_error_in_one_line(db: Path) -> None:
    with read_only_folder(db, log=False) as path:

        def work() -> None:
            for arguments in READING.values():
                ended = run(*arguments, db=path)
                assert ended.code == 1, (arguments, ended)
                assert ended.err.count("\n") == 1, ended

        path.chmod(0o000)
        assert as_nobody(work) == 0


# -- older files --


def earlier_package(path: Path) -> None:
    legacy_files.write(path, legacy_files.example())


def earlier_package_in_use(path: Path) -> None:
    legacy_files.write_in_use(path, legacy_files.example())


def earlier_package_without_log(path: Path) -> None:
    legacy_files.write(path, legacy_files.example(), journal_mode="DELETE")


def empty(path: Path) -> None:
    path.touch()


OLD = [earlier_package, earlier_package_without_log, earlier_package_in_use]


@pytest.mark.parametrize("write", [*OLD, empty])
def test_a_legacy_file_is_read_and_not_changed(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    write(path)
    before = everything(tmp_path)
    ids = () if write is empty else (SESSION,)
    for arguments in (
        *(
            ("list",),
            ("list", "--json"),
            ("search", "1"),
            ("stats",),
            ("stats", "--json"),
            ("check",),
            ("export", "--all"),
        ),
        *(("show", session_id) for session_id in ids),
    ):
        ended = run(*arguments, db=path)
        assert (ended.code, ended.err) == (0, ""), arguments
        assert arguments[0] in ("search", "stats", "check", "show") or all(name in ended.out for name in ids)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("write", OLD)
def test_commands_print_the_same_before_and_after_an_upgrade(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    write(path)
    before = [
        run(*arguments, db=path).out for arguments in (("list", "--json"), ("export", "--all"), ("show", SESSION))
    ]
    with SQLiteSessionRepository(path) as repository:
        assert repository.check() == []
    after = [run(*arguments, db=path).out for arguments in (("list", "--json"), ("export", "--all"), ("show", SESSION))]
    assert after == before


@pytest.mark.parametrize("write", OLD)
def test_a_legacy_file_cannot_be_backed_up_before_it_is_upgraded(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    write(path)
    before = everything(tmp_path)
    ended = run("backup", tmp_path / "backup.db", db=path)
    assert (ended.code, ended.out) == (1, "")
    assert f"{path} | has an older schema" in ended.err
    assert everything(tmp_path) == before
    assert run("vacuum", db=path).code == 0
    assert run("backup", tmp_path / "backup.db", db=path).code == 0
    assert run("export", "--all", db=tmp_path / "backup.db") == run("export", "--all", db=path)


@pytest.mark.parametrize("name", READING)
def test_a_file_that_is_not_ours_is_an_error_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    for content in (path.read_bytes(), b"not a database " * 1000):
        path.write_bytes(content)
        ended = run(*READING[name], db=path)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.count("\n") == 1
        assert path.read_bytes() == content


def test_main_without_arguments_uses_those_of_the_process(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["strands-sqlite", "--db", str(db), "check"])
    assert main() == 0
