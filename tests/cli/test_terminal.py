"""The command line on a terminal and off it: prompts, colors, widths, and readers that close the pipe."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.command_line import (
    COMMAND,
    PATIENCE,
    READING,
    ROOT,
    environment,
    fill,
    in_a_new_process,
    in_a_process,
    on_a_terminal,
    run,
)
from ..support.conversations import build
from ..support.tiers import tier

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")

DESTRUCTIVE = {"delete": ("delete", "ship", "island"), "prune": ("prune", "--older-than", "0m")}
ESCAPE = "\x1b["


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def count(db: Path) -> int:
    with closing(sqlite3.connect(db)) as connection:
        return int(connection.execute("SELECT count(*) FROM sessions").fetchone()[0])


def width(line: str) -> int:
    """Count the columns that a line takes on a terminal."""
    plain = re.sub(r"\x1b\[\d+m", "", line)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in plain)
    return len(plain) + wide - sum(map(bool, map(unicodedata.combining, plain)))


# -- asking --


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("name", "typed", "left"),
    [
        pytest.param("delete", "y\n", 0, id="delete: y"),
        pytest.param("prune", "YES\n", 0, id="prune: yes", marks=pytest.mark.long),
        pytest.param("prune", "n\n", 2, id="prune: n", marks=pytest.mark.long),
        pytest.param("delete", "\n", 2, id="delete: enter"),
        pytest.param("delete", "yesterday\n", 2, id="delete: something else", marks=pytest.mark.long),
        pytest.param("delete", "\x04", 2, id="delete: end of input", marks=pytest.mark.long),
        pytest.param("prune", "\x03", 2, id="prune: interrupt"),
    ],
)
def test_a_person_at_a_terminal_is_asked(name: str, typed: str, left: int, db: Path) -> None:
    code, told = on_a_terminal("--db", db, *DESTRUCTIVE[name], typed=typed, columns=200)
    assert "2 sessions with 12 messages" in told
    assert "ship" in told
    assert "[y/N]" in told
    assert count(db) == left
    assert "Traceback" not in told
    assert (code == 0) == (typed != "\x03")


@pytest.mark.parametrize("name", tier(DESTRUCTIVE, quick=["delete"]))
def test_without_a_terminal_nothing_is_deleted_without_yes(name: str, db: Path) -> None:
    refused = in_a_process("--db", db, *DESTRUCTIVE[name], stdin=b"y\n")
    assert (refused.code, count(db)) == (1, 2)
    assert "--yes" in refused.err
    assert in_a_process("--db", db, *DESTRUCTIVE[name], "--yes").code == 0
    assert count(db) == 0


@pytest.mark.parametrize("name", ["prune"])
def test_with_yes_nobody_is_asked_even_on_a_terminal(name: str, db: Path) -> None:
    code, told = on_a_terminal("--db", db, *DESTRUCTIVE[name], "--yes")
    assert (code, count(db)) == (0, 0)
    assert "[y/N]" not in told


@pytest.mark.parametrize("name", DESTRUCTIVE)
@pytest.mark.parametrize("yes", [(), ("--yes",)], ids=["", "and --yes"])
def test_a_dry_run_prints_what_would_be_deleted_and_changes_nothing(name: str, yes: tuple[str, ...], db: Path) -> None:
    before = db.read_bytes()
    ended = run(*DESTRUCTIVE[name], "--dry-run", *yes, db=db)
    assert (ended.code, ended.err) == (0, "")
    assert "ship" in ended.out
    assert "2 sessions with 12 messages would be deleted" in ended.out
    assert count(db) == 2
    assert db.read_bytes() == before


def test_with_standard_input_closed_nobody_can_be_asked(db: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "--db", str(db), "delete", "ship"],
        capture_output=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, count(db)) == (1, 2)
    assert b"Traceback" not in ended.stderr
    assert b"--yes" in ended.stderr


# -- color --


@pytest.mark.parametrize("command", tier(["list", "show ship", "search sail"], quick=["list"]))
def test_color_is_used_only_on_a_terminal_and_never_with_no_color(command: str, db: Path) -> None:
    arguments = command.split()
    plain = run(*arguments, db=db).out
    assert ESCAPE not in plain
    code, colored = on_a_terminal("--db", db, *arguments, columns=300)
    assert code == 0
    assert ESCAPE in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == plain
    assert on_a_terminal("--db", db, *arguments, columns=300, NO_COLOR="1") == (0, plain)


@pytest.mark.parametrize("command", tier(["list --json", "show ship --json", "export --all"], quick=["list --json"]))
def test_output_for_programs_has_no_color_and_is_not_cut(command: str, db: Path) -> None:
    arguments = command.split()
    code, told = on_a_terminal("--db", db, *arguments, columns=20)
    assert code == 0
    assert ESCAPE not in told
    assert told == run(*arguments, db=db).out
    assert all(json.loads(line) for line in told.splitlines())


# -- width --


@pytest.mark.parametrize("columns", tier([1, 20, 60, 100], quick=[20]))
def test_long_lines_are_cut_to_the_width_of_the_terminal(columns: int, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    texts = {"ascii": "x" * 500, "wide": "世界" * 200, "combining": "e\u0301" * 300, "escaped": "\x1b" * 300}
    for name, text in texts.items():
        with SQLiteSessionManager(name, path) as manager:
            build(manager)(text)
    code, told = on_a_terminal("--db", path, "list", columns=columns)
    lines = told.splitlines()
    assert (code, len(lines)) == (0, 5 if columns >= 60 else 8)
    assert max(map(width, lines)) <= columns


def test_columns_in_the_environment_sets_the_width(db: Path) -> None:
    _, told = on_a_terminal("--db", db, "list", columns=200, COLUMNS="30")
    assert {width(line) <= 30 for line in told.splitlines()} == {True}


def test_nothing_is_cut_where_there_is_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("long" * 30, path, metadata={"title": "x" * 500}) as manager:
        build(manager)("the end")
    assert "x" * 500 + "  " + "long" * 30 in in_a_process("--db", path, "list", COLUMNS="30").out


# -- progress --


@pytest.mark.parametrize("command", tier(["backup", "export", "import"], quick=["backup"]))
def test_long_work_shows_its_progress_on_a_terminal_and_nowhere_else(command: str, db: Path, tmp_path: Path) -> None:
    run("export", "--all", "-o", tmp_path / "export.jsonl", db=db)
    new = tmp_path / "new"
    arguments = {
        "backup": ("--db", db, "backup", new),
        "export": ("--db", db, "export", "--all", "-o", new),
        "import": ("--db", new, "import", "--create", tmp_path / "export.jsonl"),
    }[command]
    assert in_a_process(*arguments).err == ""
    new.unlink()
    code, told = on_a_terminal(*arguments)
    assert code == 0
    assert re.search(r"\r(pages|sessions): \d", told)


# -- readers --


@pytest.mark.parametrize("name", tier([*READING, "attachments", "completion"], quick=["list", "storage get"]))
def test_a_closed_pipe_is_not_an_error(name: str, db: Path) -> None:
    arguments = {
        **READING,
        "attachments": ("attachments", "ship", "-o", str(db.parent / "pictures")),
        "completion": ("completion", "bash"),
    }
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*COMMAND, "--db", db, *arguments[name]],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment({}),
        timeout=PATIENCE,
        check=False,
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("command", tier(["export --all", "show long", "show long --json"], quick=["show long"]))
def test_a_reader_may_close_the_pipe_in_the_middle_of_long_output(command: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("long", path) as manager:
        build(manager)("many words " * 50_000)
    process = subprocess.Popen(
        [*COMMAND, "--db", path, *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment({}),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("command", tier(["list", "export --all"], quick=["list"]))
def test_a_full_disk_is_an_error_in_one_line(command: str, db: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, "--db", db, *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment({}),
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 1
    assert re.fullmatch(rb"strands-sqlite: .+\n", ended.stderr)


@pytest.mark.parametrize("command", tier(["list", "export --all"], quick=["list"]))
def test_a_closed_standard_output_ends_without_a_traceback(command: str, db: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "--db", str(db), *command.split()],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )
    assert b"Traceback" not in ended.stderr


def test_an_ascii_terminal_gets_other_characters_escaped(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("grüße", path) as manager:
        build(manager)("世界")
    ended = in_a_new_process("--db", path, "list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert ended.code == 0
    assert r"gr\xfc\xdfe" in ended.out
    shown = in_a_new_process("--db", path, "show", "grüße", PYTHONIOENCODING="ascii")
    assert r"\u4e16\u754c" in shown.out


def test_a_terminal_is_not_needed_to_start() -> None:
    assert in_a_new_process("--version").out.startswith("strands-sqlite ")
    assert sys.executable in COMMAND
