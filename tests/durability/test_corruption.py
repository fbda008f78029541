"""A damaged file raises an error or still works. Nothing crashes or hangs, and `check` reports what reads wrong.

`support/damaged_files.py` damages copies of a file in every way it knows; `support/file_examination.py` then reads,
resumes, converses, changes, and runs the command line on each. SQLite keeps no checksums, so damage inside a text shows
only where it breaks the JSON. `check` reports all other damage that SQLite can detect; until it runs, a damaged index
can lead to another row.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support import file_examination, layout
from ..support.command_line import fill, run
from ..support.conversations import build
from ..support.damaged_files import KINDS, OF_THE_LOG, PAGE, damaged
from ..support.fresh_processes import PROCESSES
from ..support.records import Orchestrator, query

SEED = 6
WERE_MISREPORTED = (293, 324)  # copies whose damage was a `TypeError` once
PATIENCE = 60  # seconds for one copy, of which each takes a tenth of one


def test_no_damage_crashes_hangs_or_reads_wrong_unreported(tmp_path: Path) -> None:
    """A copy with every eighth kind of damage."""
    assert findings(tmp_path, [*range(0, len(KINDS), 8), *WERE_MISREPORTED]) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_none_of_a_thousand_damaged_copies_crashes_hangs_or_reads_wrong_unreported(
    tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """1,000 copies, some 40 with each kind of damage, a third of them of a file that is in use."""
    assert findings(tmp_path, range(scaled(1000))) == []


def findings(folder: Path, numbers: Iterable[int]) -> list[str]:
    """Examine copies in another process, as far as it gets; return what should not have happened, and to which."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=examine_copies, args=(theirs, folder, numbers))
    process.start()
    theirs.close()
    found: list[str] = []
    try:
        for number in numbers:
            try:
                found += ours.recv() if ours.poll(PATIENCE) else [f"copy {number} of seed {SEED}: it hangs"]
            except EOFError:
                process.join()
                found.append(f"copy {number} of seed {SEED}: the process died of {process.exitcode}")
            if process.exitcode is not None or (found and found[-1].endswith("hangs")):
                break
    finally:
        process.kill()
        process.join()
    return found


def examine_copies(sender: Any, folder: Path, numbers: Iterable[int]) -> None:
    """Examine damaged copies of a file, and send what should not have happened to each."""
    originals = file_examination.write(folder)
    said = [file_examination.contents(files, folder) for files in originals]
    for number in numbers:
        name = list(KINDS)[number % len(KINDS)]
        in_use = name in OF_THE_LOG or number // len(KINDS) % 3 == 2
        name, files = damaged(originals[in_use], SEED, number)
        place = folder / str(number)
        place.mkdir()
        path = file_examination.put(files, place / "sessions.db")
        found = file_examination.examine(path, said[in_use], only_the_end_may_be_missing=name in OF_THE_LOG)
        sender.send([f"copy {number} of seed {SEED} ({name}): {finding}" for finding in found])
        file_examination.remove(place)


# -- values --

COLUMNS = [(table, column) for table, columns in layout.columns().items() for column in columns]
TYPES = ("x'7b7d'", "x'ff'", "5", "-1.5", "CAST(x'ff' AS TEXT)", "''", "'{}'", "'[]'", "'null'", "'{\"role\":5}'")


def findings_with(path: Path, table: str, column: str, value: str) -> list[str]:
    """Put a value into a column of one row, as damage to its list of types does, and run every operation on it."""
    fill(path)
    with SQLiteSessionManager("ship", path, synchronous="NORMAL") as manager:
        manager.create_multi_agent("ship", Orchestrator("graph", {"x": 1}))
    file_examination.keep_values(path)
    keys = layout.primary_key(table)
    try:
        query(path, f"UPDATE {table} SET {column} = {value} WHERE ({keys}) = (SELECT {keys} FROM {table} LIMIT 1)")
    except sqlite3.IntegrityError:  # there is such a row already
        return []
    return [f"{table}.{column} = {value}: {finding}" for finding in file_examination.use(path)]


@pytest.mark.long
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_bytes_instead_of_text_are_an_error_or_can_be_used(tmp_path: Path, table: str, column: str) -> None:
    assert findings_with(tmp_path / "sessions.db", table, column, TYPES[0]) == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_value_of_any_type_in_any_column_is_an_error_or_can_be_used(
    tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """Ten values in each column."""
    every = [(*place, value) for value in TYPES for place in COLUMNS]
    found = []
    for number, (table, column, value) in enumerate(every[: scaled(len(every))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        found += findings_with(folder / "sessions.db", table, column, value)
    assert found == []


# Values on which Strands itself fails when an agent resumes.
SHAPES = (
    ("agents", "internal_state", '{"interrupt_state": {}}'),
    ("agents", "internal_state", '{"interrupt_state": 5}'),
    ("agents", "internal_state", '{"interrupt_state": {"activated": true, "context": 5, "interrupts": 5}}'),
    ("agents", "internal_state", '{"model_state": 5}'),
    ("agents", "internal_state", "[]"),
    ("agents", "state", "[]"),
    ("agents", "state", "5"),
    ("agents", "conversation_manager_state", '{"__name__": "SlidingWindowConversationManager"}'),
    ("agents", "conversation_manager_state", "[]"),
    ("agents", "conversation_manager_state", "{}"),
    ("agents", "context", "[[0, 2], [0, null]]"),
    ("messages", "message", "5"),
    ("messages", "message", '{"role": "user"}'),
    ("messages", "message", '{"role": "assistant", "content": [{"toolUse": {}}]}'),
    ("messages", "message", '{"role": "user", "content": [{"toolResult": {}}]}'),
    ("messages", "message", '{"role": "user", "content": [5, null]}'),
    ("messages", "message", '{"role": "user", "content": 5}'),
    ("agents", "context", "5"),
    ("messages", "edited_message", "5"),
    ("messages", "redact_message", '{"role": "user"}'),
    ("multi_agents", "state", "[]"),
)


@pytest.mark.parametrize(("table", "column", "text"), SHAPES)
def test_json_of_another_shape_is_an_error_or_can_be_used(tmp_path: Path, table: str, column: str, text: str) -> None:
    assert findings_with(tmp_path / "sessions.db", table, column, f"'{text}'") == []


# -- what the error says --


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def zero_tables(path: Path) -> None:
    """Write zeroes over the first pages of the tables, so that the file can still be opened."""
    roots = query(path, "SELECT rootpage FROM sqlite_master WHERE rootpage > 0")
    with path.open("rb+") as file:
        for (root,) in roots:
            file.seek((root - 1) * PAGE)
            file.write(bytes(PAGE))


def zero(path: Path) -> None:
    """Write zeroes over the whole file."""
    with path.open("rb+") as file:
        file.write(bytes(os.path.getsize(path)))


USES: dict[str, Callable[[SQLiteSessionRepository], Any]] = {
    "list_sessions": lambda repository: repository.list_sessions(),
    "read_session": lambda repository: repository.read_session("ship"),
    "list_messages": lambda repository: repository.list_messages("ship", "default"),
    "search_messages": lambda repository: repository.search_messages("sail"),
    "fork_session": lambda repository: repository.fork_session("ship", "copy"),
    "delete_session": lambda repository: repository.delete_session("ship"),
    "vacuum": lambda repository: repository.vacuum(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("damage", [zero, zero_tables])
def test_the_error_of_a_damaged_file_names_it_and_points_at_check_and_backup(
    db: Path, damage: Callable[[Path], None], use: Callable[[SQLiteSessionRepository], Any]
) -> None:
    with SQLiteSessionRepository(db) as repository:
        damage(db)
        with pytest.raises(SessionException) as failure:
            use(repository)
    assert_points_at_check_and_backup(str(failure.value), db)


def test_the_error_of_an_agent_on_a_damaged_file_names_it_and_points_at_check_and_backup(db: Path) -> None:
    with SQLiteSessionManager("ship", db) as manager:
        agent: Agent = build(manager)
        zero(db)
        with pytest.raises(SessionException) as failure:
            agent("are you there?")
    assert_points_at_check_and_backup(str(failure.value), db)


@pytest.mark.parametrize(
    "command", [("list",), ("show", "ship"), ("search", "sail"), ("export", "--all"), ("stats",)], ids=" ".join
)
def test_the_error_of_a_command_on_a_damaged_file_names_it_and_points_at_check_and_backup(
    db: Path, command: tuple[str, ...]
) -> None:
    zero_tables(db)
    ended = run(*command, db=db)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert_points_at_check_and_backup(ended.err, db)


def assert_points_at_check_and_backup(said: str, path: Path) -> None:
    assert str(path) in said
    assert "strands-sqlite check" in said
    assert "backup" in said


def test_a_damaged_file_gives_back_what_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("one", path) as manager:
        build(manager)("x" * 3000)
    with SQLiteSessionManager("other", path) as manager:
        build(manager)("find me")
    with path.open("rb+") as file:
        file.seek(path.read_bytes().index(b"x" * 2000))
        file.write(b'"' * 100)
    with SQLiteSessionRepository(path) as repository:
        with pytest.raises(SessionException, match="message 0 of agent default in session one"):
            repository.list_messages("one", "default")
        assert len(repository.list_messages("one", "default", offset=1)) == 1
        assert len(repository.list_messages("other", "default")) == 2
        assert len(repository.check()) == 1
