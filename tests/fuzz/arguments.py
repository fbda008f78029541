"""Command lines: any arguments work, fail in one line, or are wrong usage, and write nothing elsewhere.

Every path stays in a folder of its own: drawn text has no slash except in names known to lead nowhere else.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from strands_sqlite_session_manager import SQLiteSessionManager

from ..cli.test_terminal_safety import HOSTILE, OBEYED, store
from ..support.command_line import fill, run
from ..support.conversations import build
from .target import Target

COMMANDS = (
    *("list", "show", "search", "stats", "fork", "delete", "prune", "tag", "export", "import", "copy"),
    *("backup", "check", "vacuum"),
)
OPTIONS = (
    *("--db", "--json", "--limit", "--metadata", "--agent", "--session", "--format", "--through", "--yes", "--dry-run"),
    *(
        "--older-than",
        "-o",
        "--output",
        "--replace",
        "--create",
        "--all",
        "--skip-existing",
        "--region",
        "--help",
        "--",
    ),
    *("--version", "-h", "--l=", "--db=", "-", "@sessions.db"),
)
VALUES = (
    *("sessions.db", "sub/other.db", "x.jsonl", "no such file", ".", "..", "sub", "~", ":memory:", "file:sub", "file:"),
    *("ship", "island", "default", "ada", "text", "markdown", "json", "user_id=42", "app=", "=", "a=b=c", "0m", "30d"),
    *("9999w", "5", "0", "-1", "99999999999999999999", "٣", "1e3", "sail", "%", "'; DROP TABLE messages; --", "", " "),
)
# A slash would lead out of the folder, and a colon after `s3` or `postgresql` to a server.
free = st.text(st.characters(exclude_characters="/"), max_size=12)
argument_lists = st.tuples(
    st.lists(st.sampled_from(OPTIONS[:2] + VALUES[:4]), max_size=2),
    st.sampled_from(COMMANDS) | free,
    st.lists(
        st.sampled_from(VALUES) | st.sampled_from(OPTIONS) | st.sampled_from(list(HOSTILE.values())) | free, max_size=6
    ),
).map(lambda drawn: [*drawn[0], drawn[1], *drawn[2]])


@functools.cache
def _database() -> bytes:
    """Return a file that holds what a terminal must not be told."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        fill(path)
        for text in HOSTILE.values():
            store(path, text)
        with SQLiteSessionManager("plain", path) as manager:
            build(manager, HOSTILE["escapes"])(HOSTILE["c1"])
        return path.read_bytes()


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """Work in a folder inside another one, which holds a home as well."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as outside:
        inside, home = Path(outside) / "inside", Path(outside) / "home"
        for folder in (inside, home, inside / "sub"):
            folder.mkdir()
        (inside / "sessions.db").write_bytes(_database())
        (inside / "x.jsonl").write_text("{}\n")
        variables = {"HOME": str(home), "USERPROFILE": str(home), "COLUMNS": "80"}
        os.chdir(inside)
        try:
            with mock.patch.dict(os.environ, variables), _no_input():
                os.environ.pop("STRANDS_SQLITE_DB_PATH", None)
                yield Path(outside)
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _no_input() -> Iterator[None]:
    """Let the standard input of this process, which an import reads, be empty."""
    kept, empty = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(empty)


def check(arguments: list[str]) -> None:
    """Run a command."""
    with _place() as outside:
        ended = run(*arguments)
        assert ended.code in (0, 1, 2), ended
        assert "Traceback" not in ended.err
        for said in (ended.out, ended.err):
            assert not OBEYED.search(said), repr(said)
        assert ended.code == 0 or ended.err
        assert ended.code != 1 or ended.err.splitlines()[-1].startswith("strands-sqlite: "), ended.err
        assert ended.code != 1 or ended.err.count("\n") == 1 or "copy" in arguments, ended.err
        assert sorted(os.listdir(outside)) == ["home", "inside"]
        assert os.listdir(outside / "home") == []
        if ended.code == 2:
            assert (outside / "inside" / "sessions.db").read_bytes() == _database()
            found = {name for name in os.listdir(outside / "inside") if not name.endswith(("-wal", "-shm"))}
            assert found == {"sessions.db", "sub", "x.jsonl"}


TARGET = Target(argument_lists, check, examples=25)
