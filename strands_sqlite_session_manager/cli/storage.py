"""Commands on what `SQLiteStorage` keeps: list, get, delete."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ..blobs import values
from ..blobs.keys import normalize_key, normalize_prefix
from ..blobs.values import StoredValue
from ..database.database import Database
from ..sessions.text import size
from . import output
from .confirmation import confirm
from .errors import CommandError
from .layout import space
from .paging import limit_of, print_rest
from .selection import between
from .summaries import counted


def list_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the keys with a prefix."""
    after, before = between(arguments)
    found = _with_prefix(database, normalize_prefix(arguments.prefix))
    selected = [value for value in found if after < value.updated_at < before]
    shown = selected[: limit_of(arguments)]
    if arguments.json:
        for value in shown:
            output.print_json(asdict(value))
        return
    _print_values(shown)
    if space() is not None and len(shown) < len(selected):
        print_rest(f"{len(selected) - len(shown):,} more")


def get(database: Database, arguments: argparse.Namespace) -> None:
    """Write a value to standard output, unchanged."""
    key = normalize_key(arguments.key)
    value = database.snapshot(lambda connection: values.read(connection, key))
    if value is None:
        raise _missing(database, arguments.key)
    sys.stdout.flush()
    sys.stdout.buffer.write(value)


def delete(database: Database, arguments: argparse.Namespace) -> None:
    """Delete a key, or all keys with a prefix."""
    found = _named(database, arguments.key)
    what = f"{counted(len(found), 'storage key')} with {size(sum(value.size for value in found))}"
    if not confirm(what, lambda: _print_values(found), arguments):
        return
    keys = [value.key for value in found]
    database.transaction(lambda connection: values.delete(connection, keys))
    database.empty_wal()
    print(f"deleted {counted(len(keys), 'storage key')}")


def _named(database: Database, name: str) -> list[StoredValue]:
    """Return the values that an argument names: no key ends with a `/`, so a name that does is a prefix."""
    if name.endswith("/"):
        found = _with_prefix(database, normalize_prefix(name))
    else:
        key = normalize_key(name)
        found = [value for value in _with_prefix(database, key) if value.key == key]
    if not found:
        raise _missing(database, name)
    return found


def _missing(database: Database, name: str) -> CommandError:
    return CommandError(f"{database.path} | no such storage key: {name}; `storage list` shows the existing ones")


def _with_prefix(database: Database, prefix: str) -> list[StoredValue]:
    return database.snapshot(lambda connection: values.list_values(connection, prefix))


def _print_values(found: Sequence[StoredValue]) -> None:
    output.print_table(
        ("key", "size", "written"),
        [(value.key, size(value.size), output.local_time(value.updated_at)) for value in found],
    )
