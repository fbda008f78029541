"""Asking before something is deleted."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress

from . import output
from .errors import CommandError


def confirm(what: str, show: Callable[[], object], arguments: argparse.Namespace) -> bool:
    """Return whether to delete something: ask on a terminal, and rely on `--yes` elsewhere.

    Args:
        what: What would be deleted, such as `2 sessions`.
        show: Prints the details.
        arguments: The command's.

    Raises:
        CommandError: If there is no terminal to ask on.
    """
    if arguments.dry_run:
        show()
        print(f"{what} would be deleted")
        return False
    if arguments.yes:
        return True
    if not output.is_terminal(sys.stdin):
        raise CommandError(f"{what} would be deleted: confirm with --yes, or preview with --dry-run")
    show()
    with suppress(EOFError):
        if input(f"Delete {what}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
    print("nothing was deleted")
    return False
