"""Opening the database file that a command works on."""

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Callable

from ..database import files
from ..database.connections import Connect
from ..database.database import Database
from .errors import CommandError, UsageError

CONNECT_VARIABLE = "STRANDS_SQLITE_CONNECT"


def on_database(
    command: Callable[[Database, argparse.Namespace], None], *, read_only: bool
) -> Callable[[argparse.Namespace], None]:
    """Return a command that opens the file of `--db`, runs another command on it, and closes it."""

    def run(arguments: argparse.Namespace) -> None:
        connect = connect_function(arguments.connect)
        try:
            database = Database(existing_file(arguments.db), read_only=read_only, connect=connect)
        except TypeError as error:  # the function does not open connections
            raise CommandError(str(error)) from error
        try:
            command(database, arguments)
        finally:
            database.close()

    return run


def connect_function(named: str | None) -> Connect | None:
    """Return the function that `--connect` or the environment names; None uses `sqlite3`.

    The module can be in the current folder, as for `python -m`.

    Raises:
        UsageError: If it is not named as `module:function`.
        CommandError: If there is no such function.
    """
    given = os.environ.get(CONNECT_VARIABLE) if named is None else named
    if not given:
        return None
    module, _, name = given.partition(":")
    if not module or not name:
        raise UsageError(f"{given} | --connect and {CONNECT_VARIABLE} must be module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise CommandError(f"{given} | the function that opens connections cannot be imported: {error}") from error
    if not callable(found):
        raise CommandError(f"{given} | is not a function: name one that opens connections")
    return found


def existing_file(path: str | None) -> str:
    """Return the absolute path of a database file, which must exist: only an import with `--create` creates one.

    Raises:
        CommandError: If it does not exist.
    """
    resolved = resolve(path)
    if not os.path.exists(resolved):
        raise CommandError(f"{resolved} | no such file: name another with --db or ${files.ENVIRONMENT_VARIABLE}")
    return resolved


def resolve(path: str | None) -> str:
    """Return the absolute path of the file of `--db`, or of the default if it is None.

    Raises:
        CommandError: If it is `:memory:`.
    """
    resolved = files.resolve(path)
    if resolved == files.MEMORY:
        raise CommandError(":memory: | exists only inside one process, so it is always empty here: use a file")
    return resolved
