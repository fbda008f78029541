"""`strands-sqlite storage`, and what the other commands do with values."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from strands_sqlite_session_manager import SQLiteStorage

from ..support.command_line import COMMAND, ROOT, environment, on_a_terminal, run
from ..support.storages import counts
from ..support.storages import run as run_async

VALUES = {
    "session/ada/1.json": b"one",
    "session/ada/2.json": b"two",
    "session/adam/1.json": b"three",
    "session/\x1b[31m": b"red",
    "binary": bytes(range(256)),
}


@pytest.fixture
def filled(path: Path) -> Path:
    with SQLiteStorage(path) as storage:
        for key, value in VALUES.items():
            run_async(storage.write(key, value))
    return path


def keys(path: Path) -> list[str]:
    with SQLiteStorage(path) as storage:
        return run_async(storage.list(""))


def test_list_shows_keys_and_sizes(filled: Path) -> None:
    ended = run("storage", "list", db=filled)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["key", "size", "written"]
    assert [line.split()[0] for line in lines[1:]] == [
        "binary",
        *(key.replace("\x1b", "\\x1b") for key in sorted(VALUES)[1:]),
    ]
    assert "256 bytes" in lines[1]


def test_list_takes_a_prefix_and_prints_json(filled: Path) -> None:
    ended = run("storage", "list", "session/ada", "--json", db=filled)
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [(value["key"], value["size"]) for value in found] == [
        ("session/ada/1.json", 3),
        ("session/ada/2.json", 3),
        ("session/adam/1.json", 5),
    ]
    assert all(value["updated_at"] for value in found)


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals")
def test_a_terminal_gets_a_screenful_of_keys_and_learns_that_there_are_more(path: Path) -> None:
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        for number in range(30):
            run_async(storage.write(f"key-{number:02}", b"value"))
    for options, count, rest in (((), 20, "… 10 more: -n 0"), (("-n", "0"), 30, ""), (("-n", "2"), 2, "… 28 more")):
        told = on_a_terminal("--db", path, "storage", "list", *options, columns=100, NO_COLOR="1", PAGER="cat")[1]
        assert told.count("key-") == count
        assert rest in told
        assert ("more" in told) == bool(rest)
    assert run("storage", "list", db=path).out.count("key-") == 30
    assert run("storage", "list", "--json", "-n", "2", db=path).out.count("key-") == 2


def test_keys_can_be_listed_by_when_they_were_written(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute("UPDATE storage_values SET updated_at = '2024-05-06T07:08:09+00:00' WHERE key = 'binary'")
    for option, count in (("--since", len(VALUES) - 1), ("--before", 1)):
        listed = run("storage", "list", "--json", option, "7d", db=filled).out.splitlines()
        assert len(listed) == count
        assert any("binary" in line for line in listed) == (option == "--before")


def test_get_writes_the_bytes_and_nothing_else(filled: Path) -> None:
    command = [*COMMAND, "--db", str(filled), "storage", "get", "binary"]
    done = subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, check=True)
    assert done.stdout == VALUES["binary"]


def test_get_of_a_missing_key_fails(filled: Path) -> None:
    ended = run("storage", "get", "nothing", db=filled)
    assert (ended.code, ended.out) == (1, "")
    assert f"{filled} | no such storage key: " in ended.err


@pytest.mark.parametrize("arguments", [("get", "../a"), ("get", ""), ("list", "a\\b"), ("delete", "..", "--yes")])
def test_an_invalid_key_is_wrong_usage(arguments: tuple[str, ...], filled: Path) -> None:
    assert run("storage", *arguments, db=filled).code == 2


def test_delete_of_a_key_leaves_the_keys_that_begin_with_it(filled: Path) -> None:
    assert run("storage", "delete", "session/ada", "--yes", db=filled).code == 1
    ended = run("storage", "delete", "session/ada/1.json", "--yes", db=filled)
    assert (ended.code, ended.out) == (0, "deleted 1 storage key\n")
    assert keys(filled) == sorted(VALUES.keys() - {"session/ada/1.json"})


def test_delete_of_a_prefix_deletes_what_begins_with_it(filled: Path) -> None:
    ended = run("storage", "delete", "session/ada/", "--yes", db=filled)
    assert (ended.code, ended.out) == (0, "deleted 2 storage keys\n")
    assert keys(filled) == sorted(key for key in VALUES if not key.startswith("session/ada/"))
    assert counts(filled) == (3, 3, 3)


def test_delete_asks_or_needs_yes(filled: Path) -> None:
    ended = run("storage", "delete", "session/ada/", db=filled)
    assert ended.code == 1
    assert "2 storage keys with 6 bytes would be deleted: confirm with --yes" in ended.err
    ended = run("storage", "delete", "session/ada/", "--dry-run", db=filled)
    assert ended.code == 0
    assert "session/ada/2.json" in ended.out
    assert "2 storage keys with 6 bytes would be deleted" in ended.out
    assert keys(filled) == sorted(VALUES)


@pytest.mark.skipif(os.name == "nt", reason="there are no such terminals")
@pytest.mark.parametrize(("typed", "left"), [("n\n", 5), ("y\n", 3)])
def test_delete_asks_on_a_terminal(typed: str, left: int, filled: Path) -> None:
    code, told = on_a_terminal("--db", filled, "storage", "delete", "session/ada/", typed=typed)
    assert code == 0
    assert "Delete 2 storage keys with 6 bytes? [y/N]" in told
    assert len(keys(filled)) == left


def test_deleted_text_is_in_no_file(filled: Path) -> None:
    with SQLiteStorage(filled) as storage:
        run_async(storage.write("secret", b"the password is swordfish"))
        assert run("storage", "delete", "secret", "--yes", db=filled).code == 0
        assert not any(b"swordfish" in file.read_bytes() for file in filled.parent.iterdir() if file.is_file())


def test_stats_check_and_backup_know_of_values(filled: Path, tmp_path: Path) -> None:
    facts = json.loads(run("stats", "--json", db=filled).out)
    assert (facts["storage_keys"], facts["storage_bytes"]) == (5, sum(map(len, VALUES.values())))
    assert run("check", db=filled).out == "ok\n"
    assert run("backup", tmp_path / "backup.db", db=filled).code == 0
    assert keys(tmp_path / "backup.db") == sorted(VALUES)


@pytest.mark.parametrize("arguments", [("list",), ("get", "binary"), ("delete", "binary", "--yes")])
def test_no_command_imports_strands(arguments: tuple[str, ...], filled: Path) -> None:
    code = (
        "import sys; from strands_sqlite_session_manager.cli import main; main(sys.argv[1:]);"
        " print('strands' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "--db", str(filled), "storage", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, check=True)
    assert done.stderr == b"False\n"
