"""Output on a terminal: a screenful unless the user asks for more, and a pager for longer output."""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

from .layout import space, width
from .output import is_terminal, style

SCREENFUL = 20  # sessions, messages or keys
_ESCAPES = re.compile("\x1b\\[\\d+m")


def limit_of(arguments: argparse.Namespace) -> int | None:
    """Return how many sessions, messages or keys to print; None is all.

    By default, people get a screenful, and programs get everything.
    """
    if arguments.limit is None:
        return None if space() is None or arguments.json else SCREENFUL
    return arguments.limit or None


def print_rest(what: str) -> None:
    """Print how much more there is, and how to see it."""
    print(style(f"… {what}: -n 0 shows all", "dim"))


@contextlib.contextmanager
def paged(arguments: argparse.Namespace) -> Iterator[None]:
    """Show the output in a pager, if it goes to a terminal and does not fit."""
    pager = _pager(arguments)
    if pager is None:
        yield
        return
    screen = _Screen()
    try:
        with contextlib.redirect_stdout(screen):
            yield
    finally:
        _show(screen.getvalue(), pager)


class _Screen(io.StringIO):
    """Stands in for the terminal until the length of the output is known."""

    def isatty(self) -> bool:
        return True


def _pager(arguments: argparse.Namespace) -> list[str] | None:
    if not getattr(arguments, "is_paged", False) or arguments.no_pager or getattr(arguments, "json", False):
        return None
    if getattr(arguments, "follow", False):  # it never ends
        return None
    if not is_terminal(sys.stdout) or os.environ.get("TERM") == "dumb":
        return None
    with contextlib.suppress(ValueError):
        return shlex.split(os.environ.get("PAGER", "less")) or None
    return None


def _show(text: str, pager: list[str]) -> None:
    size = shutil.get_terminal_size()
    rows = sum(max(1, -(-width(_ESCAPES.sub("", line)) // size.columns)) for line in text.splitlines())
    if rows < size.lines:
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    try:
        process = subprocess.Popen(
            pager,
            stdin=subprocess.PIPE,
            text=True,
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            # Quit if one screen is enough, show colors, leave the text on the terminal.
            env={"LESS": "FRX", **os.environ},
        )
    except OSError:  # there is none
        sys.stdout.write(text)
        return
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # the user may quit the pager early
        process.communicate(text)
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the pager handles it
            process.wait()
            return
