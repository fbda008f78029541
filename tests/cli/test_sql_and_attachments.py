"""The commands `sql` and `attachments`, and `show --follow`."""

import csv
import io
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.command_line import COMMAND, ROOT, run
from ..support.conversations import IMAGE, build
from ..support.scripted_model import ScriptedModel


@pytest.fixture
def db(path: Path) -> Path:
    """A conversation about a picture and a document."""
    document = {"document": {"name": "../the plan", "format": "md", "source": {"bytes": b"# plan"}}}
    with SQLiteSessionManager("ship", path, synchronous="NORMAL") as manager:
        build(manager, "I see")([{"text": "look"}, IMAGE, document])
    return path


# -- sql --


def test_a_query_prints_a_table_json_or_csv(db: Path) -> None:
    query = "SELECT session_id, count(*) AS messages, NULL AS blank FROM messages GROUP BY session_id"
    heading, row = run("sql", query, db=db).out.splitlines()
    assert (heading.split(), row.split()) == (["session_id", "messages", "blank"], ["ship", "2"])
    printed = run("sql", query, "--json", db=db).out
    assert json.loads(printed) == {"session_id": "ship", "messages": 2, "blank": None}
    assert list(csv.reader(io.StringIO(run("sql", query, "--csv", db=db).out)))[1] == ["ship", "2", ""]


@pytest.mark.every_case
@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
        "SELECT role, text FROM transcript",
        "SELECT value FROM messages, json_each(message)",
        "VALUES (1)",
    ],
)
def test_whatever_reads_can_be_run(query: str, db: Path) -> None:
    ended = run("sql", query, db=db)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.every_case
@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM messages",
        "INSERT INTO sessions (session_id) VALUES (1)",
        "DROP TABLE messages",
        "CREATE TEMP TABLE x (y)",
        "ATTACH '/tmp/other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "VACUUM",
        "COMMIT",
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM messages",
        "EXPLAIN DELETE FROM messages",
        "SELEC 1",
        "",
        "-- nothing",
    ],
)
def test_anything_but_a_query_is_refused_and_changes_nothing(query: str, db: Path) -> None:
    before = db.read_bytes()
    ended = run("sql", query, db=db)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("strands-sqlite: ")
    assert ended.err.count("\n") == 1
    assert db.read_bytes() == before


# -- attachments --


def test_pictures_and_documents_become_private_files_in_the_folder(db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    ended = run("attachments", "ship", "-o", folder, db=db)
    assert ended.out.endswith("2 attachments written\n")
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert contents == {
        "default-0-0-image.png": IMAGE["image"]["source"]["bytes"],
        "default-0-1-_the_plan.md": b"# plan",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_what_is_there_is_not_overwritten(db: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("attachments", "ship", "-o", folder, db=db)
    (folder / "default-0-0-image.png").write_bytes(b"mine")
    ended = run("attachments", "ship", "-o", folder, db=db)
    assert ended.code == 1
    assert "exists already" in ended.err
    assert (folder / "default-0-0-image.png").read_bytes() == b"mine"


# -- following --


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="needs the signals of POSIX")
def test_show_follows_what_an_agent_adds_until_it_is_interrupted(db: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--db", str(db), "show", "ship", "--follow"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    assert process.stdout is not None
    try:
        while "I see" not in process.stdout.readline():
            pass
        with SQLiteSessionManager("ship", db) as manager:
            agent = build(manager)
            agent.model = ScriptedModel("an answer to follow")
            agent("a question to follow")
        printed = ""
        end = time.monotonic() + 30
        while "an answer to follow" not in printed and time.monotonic() < end:
            printed += process.stdout.readline()
        assert printed.index("a question to follow") < printed.index("an answer to follow")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
