"""Opening the database file that a command works on."""

import argparse
import os
from collections.abc import Callable

from ..database import files
from ..database.database import Database
from .errors import CommandError


def on_database(
    command: Callable[[Database, argparse.Namespace], None], *, read_only: bool
) -> Callable[[argparse.Namespace], None]:
    """Return a command that opens the file of `--db`, runs another command on it, and closes it."""

    def run(arguments: argparse.Namespace) -> None:
        database = Database(existing_file(arguments.db), read_only=read_only)
        try:
            command(database, arguments)
        finally:
            database.close()

    return run


def existing_file(path: str | None) -> str:
    """Return the absolute path of a database file: only an import with `--create` creates one.

    Raises:
        CommandError: If it does not exist.
    """
    resolved = resolve(path)
    if not os.path.exists(resolved):
        raise CommandError(f"{resolved} | no such file")
    return resolved


def resolve(path: str | None) -> str:
    """Return the absolute path of the file of `--db`, or of the default if it is None.

    Raises:
        CommandError: If it is `:memory:`.
    """
    resolved = files.resolve(path)
    if resolved == files.MEMORY:
        raise CommandError(":memory: | lives inside one process, and so is always empty here: use a file")
    return resolved
