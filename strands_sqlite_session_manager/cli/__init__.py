"""The command `strands-sqlite`."""

import os
import sys
from collections.abc import Sequence

from .. import errors as package_errors
from ..database import files
from .errors import CommandError, UsageError
from .output import safe
from .paging import paged
from .parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name; None uses the process's own.

    Returns:
        0 on success, 1 after an error, 2 if the arguments are wrong, 130 after Control-C. Errors are one line on
        standard error.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        with paged(parsed):
            parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader closed the pipe. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (UsageError, ValueError) as error:  # the layers below raise ValueError for arguments they refuse
        return _fail(error, 2)
    except (CommandError, OSError, RecursionError) as error:
        return _fail(error, 1)
    except Exception as error:
        # Naming it in the clauses above would import Strands.
        if not isinstance(error, package_errors.SessionException):
            raise
        if isinstance(error, package_errors.SessionNotFoundException):  # it may be in another file
            return _fail(f"{files.resolve(parsed.db)} | {error}", 1)
        return _fail(error, 1)


def _fail(error: Exception | str, code: int) -> int:
    print(f"strands-sqlite: {safe(error)}", file=sys.stderr)
    return code
