"""Runs the command line in this process, in another one, and on a terminal."""

import contextlib
import functools
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager.blobs import values
from strands_sqlite_session_manager.blobs.blocks import cut
from strands_sqlite_session_manager.cli import main
from strands_sqlite_session_manager.database.database import Database

from .conversations import IMAGE, build
from .scripted_model import REDACT_INPUT, tool_use

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "strands_sqlite_session_manager")
PATIENCE = 60  # seconds, far more than anything here takes

# Every command with arguments for the file of `fill`, and whether it only reads.
READING: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "list --json": ("list", "--json"),
    "show": ("show", "ship"),
    "show markdown": ("show", "ship", "--format", "markdown"),
    "show json": ("show", "ship", "--json"),
    "show context": ("show", "ship", "--context"),
    "search": ("search", "sail"),
    "search --json": ("search", "sail", "--json"),
    "usage": ("usage",),
    "usage --by": ("usage", "--by", "user_id", "--json"),
    "sql": ("sql", "SELECT text FROM transcript ORDER BY created_at"),
    "forks": ("forks", "ship"),
    "storage list": ("storage", "list"),
    "storage get": ("storage", "get", "notes/today"),
    "stats": ("stats",),
    "stats --json": ("stats", "--json"),
    "export": ("export", "--all"),
    "check": ("check",),
    "check --json": ("check", "--json"),
}
WRITING: dict[str, tuple[str, ...]] = {
    "fork": ("fork", "ship", "copy"),
    "fork --through": ("fork", "ship", "copy", "--through", "1"),
    "delete": ("delete", "ship", "--yes"),
    "prune": ("prune", "--older-than", "0m", "--yes"),
    "tag": ("tag", "ship", "app=other"),
    "vacuum": ("vacuum",),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class _Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\n")

    def text(self) -> str:
        self.flush()
        buffer: Any = self.buffer
        return str(buffer.getvalue().decode())


def run(*arguments: object, db: Path | None = None) -> Ended:
    """Run a command in this process, with an empty standard input and no terminal."""
    given = [str(argument) for argument in arguments]
    if db is not None:
        given = ["--db", str(db), *given]
    out, err = _Output(), _Output()
    with _stdin(io.StringIO()), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(given)
        except SystemExit as ending:
            code = int(ending.code or 0)
    return Ended(code, out.text(), err.text())


@contextlib.contextmanager
def _stdin(stream: Any) -> Iterator[None]:
    before, sys.stdin = sys.stdin, stream
    try:
        yield
    finally:
        sys.stdin = before


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return this process's environment with changes; None removes a variable."""
    plain = {
        "NO_COLOR": None,
        "COLUMNS": None,
        "STRANDS_SQLITE_DB_PATH": None,
        "STRANDS_SQLITE_CONNECT": None,
        "TERM": "xterm",
        "PAGER": "cat",
        "TZ": "UTC",
    }
    merged = {**os.environ, **plain, "PYTHONPATH": str(ROOT), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def in_a_new_process(*arguments: object, stdin: bytes = b"", **variables: str | None) -> Ended:
    """Run a command in a new Python process."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=environment(variables),
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def in_a_process(*arguments: object, stdin: bytes = b"", **variables: str | None) -> Ended:
    """Run a command in a fork of this process where there are forks, without a terminal."""
    if not hasattr(os, "fork"):
        return in_a_new_process(*arguments, stdin=stdin, **variables)
    with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        typed.write(stdin)
        typed.seek(0)
        child = os.fork()
        if child == 0:
            os.setsid()
            _become_the_command(arguments, (typed.fileno(), out.fileno(), err.fileno()), environment(variables))
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode())


def on_a_terminal(
    *arguments: object, typed: str = "", columns: int = 80, stdout: int | None = None, **variables: str | None
) -> tuple[int, str]:
    """Run a command on a terminal with some columns; return its exit code and everything written to the terminal.

    The process is a fork of this one, as in `in_a_process`, which saves starting Python for each.

    Args:
        *arguments: The command's.
        typed: What a person types when asked.
        columns: How wide the terminal is.
        stdout: A file descriptor to use as standard output instead of the terminal.
        **variables: Changes of the environment.
    """
    import fcntl  # not on Windows
    import pty
    import select
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)  # so that Control-C is a signal
        _become_the_command(arguments, (theirs, theirs if stdout is None else stdout, theirs), environment(variables))
    os.close(theirs)
    told = b""
    patience, pressed = PATIENCE, False
    with contextlib.suppress(OSError):  # the other side was closed
        while patience > 0:
            silent = not select.select([ours], [], [], 1)[0]
            if silent:
                patience -= 1
            else:
                part = os.read(ours, 65536)
                if not part:
                    break
                told += part
            if b"[y/N]" in told and typed and (silent or not pressed):
                os.write(ours, typed.encode())
                pressed = True
                # An interrupt just before Python begins to wait for a line is noticed only at the next key.
                typed = typed if typed == "\x03" else ""
    if patience <= 0:
        os.kill(child, signal.SIGKILL)
    os.close(ours)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.decode(errors="replace").replace("\r\n", "\n")


def _become_the_command(arguments: tuple[object, ...], streams: tuple[int, int, int], environ: dict[str, str]) -> None:
    """Run a command with these standard streams, and end the process."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(ROOT)
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = int(ending.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def fill(path: Path) -> None:
    """Store the sessions `ship`, with tools, an image and a redaction, and `island`, with two agents; and a value."""
    path.write_bytes(_filled())


@functools.cache
def _filled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with SQLiteSessionManager("ship", path, metadata={"user_id": "42", "app": "web"}) as manager:
            script = ([{"text": "aye"}, tool_use("shout", "t1", text="sail")], "we sail", "nice", REDACT_INPUT)
            agent = build(manager, *script)
            agent("set the sails")
            agent([{"text": "look"}, IMAGE])
            agent("a secret to forget")
        with SQLiteSessionManager("island", path, metadata={"user_id": "7"}) as manager:
            build(manager, "sand", agent_id="ada")("what is there?")
            build(manager, "palms", agent_id="bob")("and what else?")
        with closing(Database(path)) as database:
            database.transaction(lambda connection: values.write(connection, "notes/today", cut(b"fair winds")))
        return path.read_bytes()
