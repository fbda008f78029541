"""The command `strands-sqlite`."""

import argparse
import os
import sys
from collections.abc import Sequence

from .. import files
from ..database import Database
from .errors import CommandError, UsageError
from .output import safe
from .parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        0 if it was done, 1 after an error that was told in a line, 2 after wrong usage, 130 after Control-C.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        _run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # Whoever read this has had enough. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"strands-sqlite: {safe(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(parsed: argparse.Namespace) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if parsed.opens is None:
        parsed.run(parsed)
        return
    path = files.resolve(parsed.db)
    if path == files.MEMORY:
        raise CommandError(":memory: | is a database of its process alone, and always empty here")
    if not os.path.exists(path) and not getattr(parsed, "create", False):
        raise CommandError(f"{path} | no such file")
    if parsed.opens is False:
        parsed.run(path, parsed)
        return
    database = Database(path, read_only=parsed.read_only)
    try:
        parsed.run(database, parsed)
    finally:
        database.close()


def _is_expected(error: Exception) -> bool:
    if isinstance(error, (CommandError, OSError, ValueError, RecursionError)):
        return True
    from strands.types.exceptions import SessionException  # it is loaded, if this is one

    return isinstance(error, SessionException)
