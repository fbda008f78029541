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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager.cli import main

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
    "search": ("search", "sail"),
    "search --json": ("search", "sail", "--json"),
    "usage": ("usage",),
    "usage --by": ("usage", "--by", "user_id", "--json"),
    "sql": ("sql", "SELECT text FROM transcript ORDER BY created_at"),
    "forks": ("forks", "ship"),
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


def in_a_process(*arguments: object, stdin: bytes = b"", cwd: Path = ROOT, **variables: str | None) -> Ended:
    """Run a command in a process of its own, whose standard streams are pipes."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(variables),
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_a_terminal(
    *arguments: object, typed: str = "", columns: int = 80, stdout: int | None = None, **variables: str | None
) -> tuple[int, str]:
    """Run a command on a terminal of so many columns; return its exit code and all that the terminal was told.

    Args:
        *arguments: The command's.
        typed: What a person types when asked.
        columns: How wide the terminal is.
        stdout: A file descriptor that takes the place of the terminal as standard output.
        **variables: Changes of the environment.
    """
    import fcntl  # not on Windows
    import pty
    import select
    import termios

    def take_the_terminal() -> None:  # so that Control-C is a signal, even if these tests run in the background
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        cwd=ROOT,
        env=environment(variables),
        start_new_session=True,
        preexec_fn=take_the_terminal,
    )
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
                # An interrupt just before Python begins to wait for a line is seen at the next key only.
                typed = typed if typed == "\x03" else ""
    try:
        return process.wait(PATIENCE), told.decode(errors="replace").replace("\r\n", "\n")
    finally:
        process.kill()
        os.close(ours)


def fill(path: Path) -> None:
    """Store the sessions `ship`, with tools, an image and a redaction, and `island`, with two agents."""
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
        return path.read_bytes()
