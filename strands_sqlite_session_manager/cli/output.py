"""What the commands print: for people on a terminal, or for programs."""

import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

from .layout import cut, pad, space, width

# Control characters, and those that change the direction of the text around them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def safe(text: object) -> str:
    r"""Return a value as text with every character escaped that a terminal would obey, such as `\x1b`."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode(), str(text))


def safe_lines(text: str) -> list[str]:
    """Return the lines of a text, each as `safe` returns it, with tabs as spaces."""
    return [safe(line.expandtabs(4)) for line in text.splitlines()]


def safe_block(text: str) -> str:
    """Return a text of several lines as `safe` does, but keep line breaks and tabs."""
    return "\n".join("\t".join(map(safe, line.split("\t"))) for line in text.splitlines())


def safe_json(line: str) -> str:
    """Return the same JSON with every character escaped that a terminal would obey."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


def local_time(moment: str) -> str:
    """Return a time of the file in local time, to the minute; anything that is not a time comes back as text."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return safe(moment)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal; a process may have no stream at all."""
    return stream is not None and stream.isatty()


def style(text: str, name: str) -> str:
    """Return a text in a color, if it goes to a terminal and `NO_COLOR` is not set."""
    if not is_terminal(sys.stdout) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_STYLES[name]}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(safe_json(json.dumps(value, ensure_ascii=False, default=repr)))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], bars: Iterable[str] = ()) -> None:
    """Print rows in aligned columns, numbers to the right, each line cut to the terminal's width.

    `bars` follow the first rows; the caller has left space for them.
    """
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(headings, *cells, strict=True)]
    numeric = [
        bool(cells) and all(cell.replace(",", "").isdigit() or not cell for cell in column)
        for column in zip(*cells, strict=True)
    ] or [False] * len(headings)

    def line(row: Sequence[str]) -> str:
        padded = (pad(cell, columns, right) for cell, columns, right in zip(row, widths, numeric, strict=True))
        return cut("  ".join(padded).rstrip(), space())

    print(style(line(headings), "bold"))
    for row, bar in itertools.zip_longest(cells, bars, fillvalue=""):
        print(f"{line(row)}  {bar}" if bar else line(row))


def progress(label: str) -> Callable[[int, int | None], None] | None:
    """Return a function that shows progress on the terminal, or None if standard error is not one."""
    if not is_terminal(sys.stderr):
        return None

    def show(done: int, total: int | None) -> None:
        of = "" if total is None else f" of {total:,}"
        ending = "\n" if done == total else ""
        print(f"\r{label}: {done:,}{of}", end=ending, file=sys.stderr, flush=True)

    return show
