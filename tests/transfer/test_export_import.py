"""An import restores exactly what was exported, agents resume from it, and no session is ever stored in part."""

import io
import json
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import (
    SessionExistsException,
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
)

from ..support import legacy_files
from ..support.command_line import fill, in_a_process, run
from ..support.conversations import CONVERSATIONS, build, resume_conversation
from ..support.fresh_processes import held_by, in_a_new_process, open_session
from ..support.numbered_messages import add_all, begin
from ..support.records import Orchestrator, agent
from ..support.tiers import tier

TABLES = ("sessions", "session_metadata", "agents", "messages", "multi_agents")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def exported(path: Path, *session_ids: str) -> str:
    ended = run("export", *(session_ids or ("--all",)), db=path)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def imported(path: Path, text: str | bytes, *options: str) -> tuple[int, str]:
    """Import a text; return the exit code and the error."""
    file = path.with_suffix(".jsonl")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = run("import", *options, file, db=path)
    assert "Traceback" not in ended.err
    return ended.code, ended.err


def everything(path: Path) -> dict[str, list[Any]]:
    """Return all rows of all tables, those of each session in the order of storing, JSON laid out alike.

    The revisions are to differ, and of the sequence only the order within a session is kept.
    """

    def value(found: Any) -> Any:
        return json.dumps(json.loads(found)) if str(found).startswith(("{", "[")) else found

    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            table: [
                {name: value(row[name]) for name in row.keys() if name not in ("revision", "sequence")}  # noqa: SIM118
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY session_id, rowid")
            ]
            for table in TABLES
        }


def session_ids(path: Path) -> set[str]:
    return {row["session_id"] for row in everything(path)["sessions"]}


# -- identical --


def everything_there_is(path: Path) -> None:
    """Fill a file by hand with everything that rows can hold."""
    legacy_files.write(path, legacy_files.example())
    metadata = {"user": "ü", "empty": "", "\x00": "\uffff", "a b": '"', "": "{}"}
    with SQLiteSessionManager("odd", path, metadata=metadata) as manager:
        values = [
            float("nan"),
            float("-inf"),
            -0.0,
            1e300,
            2**80,
            -(2**63),
            True,
            None,
            "\ud800",
            b"\x00\xff",
            {"": []},
        ]
        manager.create_agent("odd", agent("ada", state={"values": values, "deep": {"er": [values]}}))
        manager.create_multi_agent("odd", Orchestrator("graph", {"results": values, "bytes": b"\x01"}))
        manager.create_multi_agent("odd", Orchestrator("swarm", {}))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_kind_of_history_comes_back_identical(name: str, tmp_path: Path) -> None:
    CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path))
    text = exported(tmp_path / "sessions.db")
    assert imported(tmp_path / "new.db", text, "--create") == (0, "")
    assert exported(tmp_path / "new.db") == text
    assert everything(tmp_path / "new.db") == everything(tmp_path / "sessions.db")


def test_every_kind_of_value_comes_back_identical(tmp_path: Path) -> None:
    everything_there_is(tmp_path / "sessions.db")
    text = exported(tmp_path / "sessions.db")
    assert imported(tmp_path / "new.db", text, "--create") == (0, "")
    assert exported(tmp_path / "new.db") == text
    assert everything(tmp_path / "new.db") == everything(tmp_path / "sessions.db")
    with SQLiteSessionRepository(tmp_path / "new.db") as repository:
        assert repository.check() == []


@pytest.mark.parametrize("stored_before", [0, 50, 100])
def test_an_import_keeps_the_last_activity(stored_before: int, tmp_path: Path) -> None:
    with begin(tmp_path / "new.db") as manager:
        add_all(manager, range(stored_before))
        manager.fork_session("session", "other")
        manager.delete_session("session")
    with begin(tmp_path / "sessions.db") as manager:
        add_all(manager, range(500))
        expected = manager.list_sessions()
    text = exported(tmp_path / "sessions.db")
    assert imported(tmp_path / "new.db", text) == (0, "")
    with SQLiteSessionRepository(tmp_path / "new.db") as repository:
        assert repository.list_sessions(limit=1) == expected
    assert exported(tmp_path / "new.db", "session") == text


def test_an_export_to_a_file_holds_the_same_as_one_to_the_standard_output(db: Path) -> None:
    assert run("export", "--all", "-o", db.with_name("all.jsonl"), db=db).code == 0
    written = [json.loads(line) for line in db.with_name("all.jsonl").read_text().splitlines()]
    assert written == [json.loads(line) for line in exported(db).splitlines()]
    assert db.with_name("all.jsonl").stat().st_mode & 0o077 == 0


def test_named_sessions_are_exported_once_and_nothing_else(db: Path) -> None:
    assert imported(db.with_name("new.db"), exported(db, "ship", "ship"), "--create") == (0, "")
    assert session_ids(db.with_name("new.db")) == {"ship"}


def test_an_export_of_a_missing_session_leaves_no_file(db: Path) -> None:
    ended = run("export", "ship", "nobody", "-o", db.with_name("all.jsonl"), db=db)
    assert ended.code == 1
    assert [path.name for path in db.parent.iterdir() if not path.name.startswith(db.name)] == []


@pytest.mark.parametrize("moment", ["~", "\x7f", "é", "", "9999-12-31T23:59:59+00:00", "no time"], ids=ascii)
def test_a_session_with_an_odd_time_is_listed_and_exported(moment: str, db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(
            "UPDATE messages SET created_at = ?, updated_at = ? WHERE session_id = 'ship'", (moment,) * 2
        )
    assert '"session_id":"ship"' in exported(db)
    assert '"ship"' in run("list", "--json", db=db).out


def test_an_import_reads_the_standard_input(db: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    ended = in_a_process("--db", new, "import", "--create", stdin=exported(db).encode())
    assert (ended.code, ended.out) == (0, "imported 2 sessions\n")
    assert everything(new) == everything(db)
    again = in_a_process("--db", new, "import", "-", "--replace", stdin=exported(db).encode())
    assert (again.code, everything(new)) == (0, everything(db))


def test_blank_lines_and_other_line_ends_do_not_matter(db: Path) -> None:
    text = "\n\n" + exported(db).replace("\n", "\r\n  \n")
    assert imported(db.with_name("new.db"), text, "--create") == (0, "")
    assert everything(db.with_name("new.db")) == everything(db)


# -- in Python --


def test_python_exports_and_imports_what_the_command_does(db: Path) -> None:
    stream = io.StringIO()
    with SQLiteSessionRepository(db) as repository:
        assert repository.export_sessions(stream) == 2
    assert stream.getvalue() == exported(db)
    stream.seek(0)
    with SQLiteSessionRepository(db.with_name("new.db")) as repository:
        assert repository.import_sessions(stream) == 2
        stream.seek(0)
        with pytest.raises(SessionExistsException, match=r"^line 1 \| Session ship already exists"):
            repository.import_sessions(stream)
        stream.seek(0)
        assert repository.import_sessions(stream, replace=True) == 2
    assert everything(db.with_name("new.db")) == everything(db)


@pytest.mark.parametrize(
    ("selected", "expected"),
    [
        ({"session_ids": ["ship", "ship"]}, {"ship"}),
        ({"session_ids": iter(["island"])}, {"island"}),
        ({"session_ids": []}, set()),
        ({"metadata": {"user_id": "42"}}, {"ship"}),
        ({"metadata": {"user_id": "nobody"}}, set()),
    ],
)
def test_python_exports_the_selected_sessions_only(selected: dict[str, Any], expected: set[str], db: Path) -> None:
    stream = io.StringIO()
    with SQLiteSessionRepository(db, read_only=True) as repository:
        assert repository.export_sessions(stream, **selected) == len(expected)
    assert {json.loads(line)["session_id"] for line in stream.getvalue().splitlines()} == expected


@pytest.mark.parametrize(
    ("selected", "error"),
    [
        ({"session_ids": "ship"}, TypeError),
        ({"session_ids": ["a/b"]}, ValueError),
        ({"session_ids": ["ship"], "metadata": {"user_id": "42"}}, ValueError),
        ({"metadata": {"user_id": 42}}, TypeError),
        ({"session_ids": ["nobody"]}, SessionNotFoundException),
    ],
)
def test_python_refuses_an_export_that_is_not_clear(selected: dict[str, Any], error: type[Exception], db: Path) -> None:
    stream = io.StringIO()
    with SQLiteSessionRepository(db) as repository, pytest.raises(error):
        repository.export_sessions(stream, **selected)
    assert stream.getvalue() == ""


# -- resuming --


@pytest.mark.parametrize(
    "name", ["sliding window", "summarizing twice", "redacted user content", "interrupted in a tool", "an image"]
)
def test_an_agent_resumes_from_the_imported_file_exactly(name: str, tmp_path: Path) -> None:
    live = held_by(CONVERSATIONS[name].play(open_session("sqlite", "session", tmp_path)))
    (tmp_path / "elsewhere").mkdir()
    text = exported(tmp_path / "sessions.db")
    assert imported(tmp_path / "elsewhere" / "sessions.db", text, "--create") == (0, "")
    assert repr(in_a_new_process(resume_conversation, name, tmp_path / "elsewhere")) == repr(live)


def test_a_live_agent_is_stale_when_its_session_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    live = build(SQLiteSessionManager("session", path))
    live("hello")
    text = exported(path)
    assert imported(path, text, "--replace") == (0, "")
    with pytest.raises(StaleSessionException):
        live("are you there?")
    assert exported(path) == text
    build(SQLiteSessionManager("session", path))("I am")


# -- existing sessions --


def test_existing_sessions_are_refused_with_their_line(db: Path) -> None:
    before, text = everything(db), exported(db)
    run("delete", "ship", "--yes", db=db)
    code, error = imported(db, text)
    assert code == 1
    assert re.search(r"line 11 \| Session island already exists", error)
    assert everything(db) == before  # `ship` came first


def test_replaced_sessions_are_as_they_were_exported(db: Path) -> None:
    before, text = everything(db), exported(db)
    with SQLiteSessionManager("ship", db) as manager:
        build(manager)("sink")
        manager.create_multi_agent("ship", Orchestrator("graph", {}))
        manager.update_session_metadata("ship", {"user_id": "none"})
    assert imported(db, text, "--replace") == (0, "")
    assert everything(db) == before


@pytest.mark.parametrize("ending", ["", "not JSON\n"], ids=["done", "broken later"])
def test_vacuum_leaves_nothing_of_what_an_import_replaced(ending: str, db: Path) -> None:
    secret = "nobody must ever know this"
    text = exported(db)
    with SQLiteSessionManager("ship", db) as manager:  # an open connection keeps the write-ahead log
        build(manager)(secret)
        assert secret.encode() in db.with_name("sessions.db-wal").read_bytes()
        assert imported(db, text + ending, "--replace")[0] == (1 if ending else 0)
        manager.vacuum()
        holding = [path.name for path in db.parent.iterdir() if secret.encode() in path.read_bytes()]
    assert holding == []


# -- halves --


def test_a_file_that_is_cut_after_any_line_imports_whole_sessions_only(db: Path) -> None:
    lines = exported(db).splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if '"session_id":"island"' in line)
    for end in range(len(lines)):
        new = db.with_name(f"{end}.db")
        code, error = imported(new, "".join(lines[:end]), "--create")
        assert code == (0 if end in (0, first) else 1)
        assert code == 0 or f"line {end} | " in error
        assert new.exists() == (end >= first)
        assert end < first or session_ids(new) == {"ship"}


def test_a_line_that_is_malformed_or_missing_breaks_its_session_only(db: Path) -> None:
    lines = exported(db).splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if '"session_id":"island"' in line)
    for number in range(len(lines)):
        for name, instead in (("broken", ["{broken\n"]), ("cut", [lines[number][:-20] + "\n"]), ("missing", [])):
            new = db.with_name(f"{number} {name}.db")
            code, error = imported(new, "".join([*lines[:number], *instead, *lines[number + 1 :]]), "--create")
            assert (code, len(error.splitlines())) == (1, 1)
            assert re.search(r"line \d+ \| ", error)
            assert name == "missing" or f"line {number + 1} | is not JSON" in error
            assert new.exists() == (number >= first)
            assert number < first or session_ids(new) == {"ship"}


@pytest.mark.long
@pytest.mark.parametrize("changes", tier([30, 300], quick=[30]))
def test_any_byte_may_be_wrong(changes: int, db: Path) -> None:
    """Most changed texts are valid, too; no session is ever stored in part."""
    text = exported(db).encode()
    whole = {name: [row for row in rows if row["session_id"] == "ship"] for name, rows in everything(db).items()}
    generator = random.Random(4)
    for number in range(changes):
        new = db.with_name(f"{number}.db")
        at = generator.randrange(len(text))
        damaged = text[:at] + bytes([generator.randrange(256)]) + text[at + generator.randrange(3) :]
        code, error = imported(new, damaged, "--create")
        assert code in (0, 1)
        assert (error == "") == (code == 0)
        assert code == 0 or re.fullmatch(r"strands-sqlite: line \d+ \| .+\n", error)
        if new.exists():
            counts = {name: len(rows) for name, rows in everything(new).items()}
            assert counts["sessions"] in (0, 1, 2)
            assert counts["sessions"] or not any(counts.values())
            if counts["sessions"] == 1:
                assert counts == {name: len(rows) for name, rows in whole.items()}


@pytest.mark.parametrize("end", [0.1, 0.5, 0.99])
def test_an_interrupted_import_keeps_what_was_there(end: float, db: Path) -> None:
    before, text = everything(db), exported(db)
    code, error = imported(db, text.encode()[: int(len(text) * end)], "--replace")
    assert code == 1
    assert re.search(r"line \d+ \| ", error)
    assert everything(db) == before


def test_bytes_that_are_not_text_are_named_by_their_line(db: Path) -> None:
    lines = exported(db).encode().splitlines(keepends=True)
    code, error = imported(db.with_name("new.db"), b"".join([*lines[:2], b"\xff\xfe\n", *lines[2:]]), "--create")
    assert (code, error) == (1, "strands-sqlite: line 3 | is not UTF-8\n")
