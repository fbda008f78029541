"""Files that are not ours, not SQLite, or too new are refused with a clear error, and no byte of them changes."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.numbered_messages import add_all, begin
from ..support.tiers import tier
from ..support.workers import descriptors

FOREIGN = "a database of another program"
NOT_SQLITE = "not a SQLite database"
DAMAGED = "The file is damaged"


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def foreign(path: Path) -> None:
    sql(path, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")


def foreign_in_wal_mode(path: Path) -> None:
    sql(path, "CREATE TABLE notes (text)", "PRAGMA journal_mode = WAL", "INSERT INTO notes VALUES ('mine')")


def foreign_in_use(path: Path) -> None:
    """Leave what a crashed program leaves: all that it has is in its write-ahead log."""
    living = path.with_name("living.db")
    with closing(sqlite3.connect(living, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("INSERT INTO notes VALUES ('mine')")
        shutil.copy(living, path)
        shutil.copy(f"{living}-wal", f"{path}-wal")
    living.unlink()


def foreign_with_our_names(path: Path) -> None:
    for table in ("sessions", "agents", "messages", "multi_agents"):
        sql(path, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")


def foreign_by_its_application_id(path: Path) -> None:
    sql(path, "PRAGMA application_id = 1234567")


def foreign_by_its_user_version(path: Path) -> None:
    sql(path, "PRAGMA user_version = 3")


def newer(path: Path) -> None:
    with begin(path) as manager:
        add_all(manager, range(3))
    sql(path, "PRAGMA user_version = 1000")


def newer_in_use(path: Path) -> None:
    living = path.with_name("living.db")
    begin(living).close()
    with closing(sqlite3.connect(living, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 1000")
        shutil.copy(living, path)
        shutil.copy(f"{living}-wal", f"{path}-wal")
    living.unlink()


def text_file(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1000)


def short_text_file(path: Path) -> None:
    path.write_text("Dear diary,\n")


def random_bytes(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def zeros(path: Path) -> None:
    path.write_bytes(bytes(20_000))


def truncated(path: Path) -> None:
    with begin(path) as manager:
        add_all(manager, range(100))
    os.truncate(path, os.path.getsize(path) * 6 // 10)


def cut_off_in_the_header(path: Path) -> None:
    begin(path).close()
    os.truncate(path, 60)


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (foreign, FOREIGN),
        (foreign_in_wal_mode, FOREIGN),
        (foreign_in_use, FOREIGN),
        (foreign_with_our_names, FOREIGN),
        (foreign_by_its_application_id, FOREIGN),
        (foreign_by_its_user_version, FOREIGN),
        (newer, "newer version.*upgrade"),
        (newer_in_use, "newer version.*upgrade"),
        (text_file, NOT_SQLITE),
        (short_text_file, NOT_SQLITE),
        (random_bytes, NOT_SQLITE),
        (zeros, NOT_SQLITE),
        (truncated, DAMAGED),
        (cut_off_in_the_header, DAMAGED),
    ],
)
@pytest.mark.parametrize("open_file", [SQLiteSessionRepository, lambda path: SQLiteSessionManager("s", path)])
def test_a_file_that_is_not_ours_is_refused_untouched(
    tmp_path: Path, make: Callable[[Path], None], reason: str, open_file: Callable[[Path], object]
) -> None:
    path = tmp_path / "file.db"
    make(path)
    before = contents(tmp_path)
    for _ in range(3):
        with pytest.raises(SessionException, match=f"{re.escape(str(path))}.*{reason}"):
            open_file(path)
    assert contents(tmp_path) == before
    if os.path.isdir("/proc/self/fd"):
        assert descriptors(path) == []


COME_AND_GO = """
import os, sys
print("begun", flush=True)
while True:
    open(sys.argv[1], "x").close()
    os.unlink(sys.argv[1])
"""


@pytest.mark.long
@pytest.mark.parametrize("attempts", tier([200, 2000], quick=[200]))
def test_a_foreign_database_whose_journal_comes_and_goes_is_refused_at_any_moment(
    attempts: int, tmp_path: Path
) -> None:
    path = tmp_path / "file.db"
    foreign(path)
    # As every transaction of its owner makes it do.
    owner = subprocess.Popen([sys.executable, "-c", COME_AND_GO, f"{path}-journal"], stdout=subprocess.PIPE)
    with owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"begun\n"
            for _ in range(attempts):
                with pytest.raises(SessionException, match=FOREIGN):
                    SQLiteSessionRepository(path)
        finally:
            owner.kill()


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder, without the index that every reader of a write-ahead log makes for itself."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
