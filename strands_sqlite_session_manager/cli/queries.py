"""The command that runs the user's own query: `sql`."""

import argparse
import csv
import sqlite3
import sys
from typing import Any

from ..database.database import Database
from . import output
from .errors import CommandError

# All that a query needs. SQLite itself refuses everything else: writes, ATTACH, PRAGMA, transactions.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}


def sql(database: Database, arguments: argparse.Namespace) -> None:
    """Run one query and print its rows."""
    names, rows = database.snapshot(lambda connection: _run(connection, arguments.query))
    if arguments.json:
        for row in rows:
            output.print_json(dict(zip(names, row, strict=True)))
    elif arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        output.print_table(names, [["" if value is None else str(value) for value in row] for row in rows])


def _run(connection: sqlite3.Connection, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    # SQLite declares these virtual tables when they are first used, which the authorizer would refuse as a CREATE.
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
    connection.set_authorizer(_authorize)
    try:
        cursor = connection.execute(query)
        rows = cursor.fetchall()
    except connection.DatabaseError as error:
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise CommandError(f"{error}: only a query that reads can be run, such as SELECT") from error
        raise CommandError(f"the query failed: {error}") from error
    except (connection.ProgrammingError, sqlite3.Warning) as error:  # more than one statement
        raise CommandError(f"the query failed: {error}") from error
    finally:
        connection.set_authorizer(lambda *_: sqlite3.SQLITE_OK)
    if cursor.description is None:
        raise CommandError("the query is empty: pass one SELECT")
    return [name for name, *_ in cursor.description], rows


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    is_function = action == sqlite3.SQLITE_FUNCTION and second != "load_extension"
    return sqlite3.SQLITE_OK if action in _ALLOWED or is_function else sqlite3.SQLITE_DENY
