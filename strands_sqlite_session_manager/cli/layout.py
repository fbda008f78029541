"""How much room texts take on a terminal: their width, cutting and wrapping."""

import shutil
import sys
import unicodedata
from collections.abc import Iterator

_JOINER, _EMOJI_FORM = "\u200d", "\ufe0f"


def space() -> int | None:
    """Return the terminal's columns, or None if the output is not a terminal: then nothing is cut or wrapped."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    return len(text) if text.isascii() else sum(_widths(text))


def cut(text: str, columns: int | None) -> str:
    """Return as much of a text as fits, with an ellipsis if some was cut."""
    if columns is None or width(text) <= columns:
        return text
    taken = 0
    for index, more in enumerate(_widths(text)):
        taken += more
        if taken >= columns:
            return f"{text[:index]}…"
    return text


def wrap(line: str, columns: int | None) -> list[str]:
    """Return a line broken into several that fit, at spaces if possible."""
    if columns is None or columns < 2 or width(line) <= columns:
        return [line]
    lines, begin, end_of_word, taken = [], 0, 0, 0
    widths = list(_widths(line))
    index = 0
    while index < len(line):
        taken += widths[index]
        if line[index] == " ":
            end_of_word = index
        if taken > columns:
            end = end_of_word if end_of_word > begin else index
            lines.append(line[begin:end])
            begin = index = end + (line[end] == " ")
            taken = 0
        else:
            index += 1
    rest = line[begin:].rstrip()
    return [*lines, rest] if rest else lines


def pad(text: str, columns: int, to_the_right: bool = False) -> str:
    """Return a text padded with spaces to a width, on the right or on the left."""
    spaces = " " * (columns - width(text))
    return spaces + text if to_the_right else text + spaces


def _widths(text: str) -> Iterator[int]:
    """Return the columns that each character adds; joined characters are one picture."""
    before, is_joined = 0, False
    for character in text:
        if is_joined or unicodedata.category(character) in ("Mn", "Me", "Cf"):
            more = 1 if character == _EMOJI_FORM and before == 1 else 0
        else:
            more = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        is_joined = character == _JOINER
        before = more if more else before
        if character == _EMOJI_FORM:
            before = 2
        yield more
