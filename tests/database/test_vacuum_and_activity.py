"""A rewrite of the file may give its rows new numbers; when each session was last active stays exact."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.dated_records import add_message, add_session, at, said
from ..support.encrypted_connections import connect_encrypted

Connect = Callable[[str], sqlite3.Connection]


def vacuum_by_the_repository(repository: SQLiteSessionRepository, path: Path, connect: Connect) -> None:
    repository.vacuum()


def vacuum_by_another_program(repository: SQLiteSessionRepository, path: Path, connect: Connect) -> None:
    with closing(connect(str(path))) as connection:
        connection.isolation_level = None
        connection.execute("VACUUM")


def renumber_rows(repository: SQLiteSessionRepository, path: Path, connect: Connect) -> None:
    """Do to the rows what VACUUM may do, and does in some builds of SQLite and for some tables only."""
    with closing(connect(str(path))) as connection:
        connection.isolation_level = None
        for table in ("sessions", "agents", "messages"):
            with suppress(connection.OperationalError):  # a table without row numbers
                connection.execute(
                    f"UPDATE {table} SET rowid = (SELECT count(*) FROM {table} AS o WHERE o.rowid <= {table}.rowid)"
                )


@pytest.mark.parametrize(
    ("vacuum", "connect"),
    [
        (vacuum_by_the_repository, None),
        (vacuum_by_the_repository, connect_encrypted),
        (vacuum_by_another_program, None),
        (renumber_rows, None),
        pytest.param(vacuum_by_another_program, connect_encrypted, marks=pytest.mark.long),
        pytest.param(renumber_rows, connect_encrypted, marks=pytest.mark.long),
    ],
)
def test_the_last_activity_is_exact_however_often_rows_are_renumbered(
    vacuum: Callable[[SQLiteSessionRepository, Path, Connect], None], connect: Connect | None, path: Path
) -> None:
    """Old sessions are deleted again and again, and the file vacuumed, while one session is busy."""
    opening: dict[str, Any] = {} if connect is None else {"connect": connect}
    last: dict[str, float] = {}
    with SQLiteSessionRepository(path, synchronous="NORMAL", **opening) as repository:

        def say(session_id: str, minute: float, number: int) -> None:
            add_message(repository, session_id, minute, said("hello"), message_id=number)
            last[session_id] = minute

        for minute, session_id in enumerate(["busy", "early", "middle", "old 0", "old 1", "old 2", "old 3"]):
            add_session(repository, session_id, minute)
            last[session_id] = minute
        for index in range(4):
            for number in range(200):
                say(f"old {index}", 10 + index, number)
        say("middle", 100, 0)
        say("early", 200, 0)
        for index in range(4):
            for number in range(200):
                say("busy", 300 + index, 200 * index + number)
            repository.delete_session(f"old {index}")
            del last[f"old {index}"]
            vacuum(repository, path, connect or sqlite3.connect)
        found = {summary.session_id: summary.updated_at for summary in repository.list_sessions()}
        assert found == {session_id: at(minute) for session_id, minute in last.items()}
        assert list(found) == sorted(last, key=lambda session_id: -last[session_id])
        assert [summary.session_id for summary in repository.list_sessions(limit=2)] == list(found)[:2]
