"""`check` names the rows of every kind of damage, and finds nothing in a healthy file."""

import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support import legacy_files
from ..support.command_line import fill, run
from ..support.conversations import CONVERSATIONS, build
from ..support.fresh_processes import open_session
from ..support.numbered_messages import add_all, begin
from ..support.records import Orchestrator


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    with SQLiteSessionRepository(path) as repository:
        repository.create_multi_agent("ship", Orchestrator("graph", {"x": 1}))
    return path


def check(path: Path) -> list[str]:
    with SQLiteSessionRepository(path) as repository:
        return repository.check()


def damage(path: Path, *statements: str) -> None:
    """Change a file as a program that knows nothing of it would: without foreign keys, as in any plain connection."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


# -- healthy --


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_kind_of_history_is_healthy(name: str, tmp_path: Path) -> None:
    manager = open_session("sqlite", "session", tmp_path)
    assert isinstance(manager, SQLiteSessionManager)
    CONVERSATIONS[name].play(manager)
    assert manager.check() == []


def test_what_was_done_to_a_session_leaves_it_healthy(db: Path) -> None:
    assert check(db) == []
    with SQLiteSessionManager("ship", db) as manager:
        manager.fork_session("ship", "copy")
        manager.fork_session("ship", "cut", through_message=3)
        manager.update_session_metadata("copy", {"ü": "\uffff"})
        build(manager)("go on")
        with SQLiteSessionManager("cut", db) as other:
            build(other)("go on here")
        manager.delete_session("island")
        assert manager.check() == []
        manager.vacuum()
        assert manager.check() == []
    assert run("export", "--all", "-o", db.with_name("all.jsonl"), db=db).code == 0
    assert run("import", "--replace", db.with_name("all.jsonl"), db=db).code == 0
    assert check(db) == []


def test_legacy_files_are_healthy_once_upgraded(tmp_path: Path) -> None:
    legacy_files.write(tmp_path / "sessions.db", legacy_files.example())
    assert check(tmp_path / "sessions.db") == []


def test_an_empty_file_is_healthy(tmp_path: Path) -> None:
    assert check(tmp_path / "sessions.db") == []
    with SQLiteSessionRepository(":memory:") as repository:
        assert repository.check() == []


# -- damaged --


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "DELETE FROM sessions WHERE session_id = 'ship'",
            {
                "Agent 'default' of session 'ship' belongs to no row of sessions.",
                "Orchestrator 'graph' of session 'ship' belongs to no row of sessions.",
                "Metadata key 'app' of session 'ship' belongs to no row of sessions.",
                "Metadata key 'user_id' of session 'ship' belongs to no row of sessions.",
            },
        ),
        (
            "DELETE FROM agents WHERE agent_id = 'ada'",
            {f"Message {number} of agent 'ada' in session 'island' belongs to no row of agents." for number in (0, 1)},
        ),
        (
            "UPDATE messages SET agent_id = 'eve' WHERE agent_id = 'bob' AND message_id = 0",
            {
                "Message 0 of agent 'eve' in session 'island' belongs to no row of agents.",
                "Message 0 of agent 'bob' in session 'island' is missing.",
            },
        ),
        (
            "UPDATE messages SET message = '{' WHERE session_id = 'ship' AND message_id = 3",
            {"Message 3 of agent 'default' in session 'ship': the column message is not JSON."},
        ),
        (
            "UPDATE messages SET message = '[]', redact_message = '5', edited_message = 'x'"
            " WHERE agent_id = 'ada' AND message_id = 1",
            {
                f"Message 1 of agent 'ada' in session 'island': the column {column} is not {what}."
                for column, what in (
                    ("message", "a JSON object"),
                    ("redact_message", "a JSON object"),
                    ("edited_message", "JSON"),
                )
            },
        ),
        (
            "UPDATE messages SET message = CAST(x'7b22ff227d' AS TEXT) WHERE session_id = 'ship' AND message_id = 3",
            {"Message 3 of agent 'default' in session 'ship': the column message is not JSON."},
        ),
        (
            "UPDATE agents SET state = 'x', internal_state = 'null', conversation_manager_state = ''"
            " WHERE agent_id = 'bob'",
            {
                "Agent 'bob' of session 'island': the column state is not JSON.",
                "Agent 'bob' of session 'island': the column internal_state is not a JSON object.",
                "Agent 'bob' of session 'island': the column conversation_manager_state is not JSON.",
            },
        ),
        (
            "UPDATE multi_agents SET state = '{'",
            {"Orchestrator 'graph' of session 'ship': the column state is not JSON."},
        ),
        *(
            (
                f"UPDATE agents SET context = '{window}' WHERE agent_id = 'bob'",
                {"Agent 'bob' of session 'island': the column context is not made of ranges and messages."},
            )
            for window in ("{}", "5", "[5]", "[[0]]", '[["0",null]]', "[[0,1,2]]", "[[null,null]]", "[[0,1.5]]")
        ),
        (
            "UPDATE agents SET context = 'x' WHERE agent_id = 'bob'",
            {"Agent 'bob' of session 'island': the column context is not JSON."},
        ),
        (
            "DELETE FROM messages WHERE session_id = 'ship' AND message_id = 4",
            {"Message 4 of agent 'default' in session 'ship' is missing."},
        ),
        (
            "DELETE FROM messages WHERE session_id = 'ship' AND message_id < 3",
            {"Messages 0 to 2 of agent 'default' in session 'ship' are missing."},
        ),
        (
            "UPDATE messages SET message_id = -5 WHERE agent_id = 'ada' AND message_id = 0",
            {"Message -5 of agent 'ada' in session 'island' has a negative id."},
        ),
        (
            "UPDATE messages SET message_id = 8 - message_id + 100 WHERE session_id = 'ship' AND message_id IN (2, 6)",
            {
                "Message 2 of agent 'default' in session 'ship' is missing.",
                "Message 6 of agent 'default' in session 'ship' is missing.",
                "Message 106 of agent 'default' in session 'ship' was stored before message 102.",
            },
        ),
        (
            "UPDATE messages SET message_id = 'seven' WHERE session_id = 'ship' AND message_id = 7",
            {"'seven'"},
        ),
        ("UPDATE messages SET message_id = 6.5 WHERE session_id = 'ship' AND message_id = 7", {"6.5"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_rows_are_named(statement: str, expected: set[str], db: Path) -> None:
    damage(db, statement)
    with SQLiteSessionRepository(db) as repository:
        found = repository.check()
    assert found
    missing = [sentence for sentence in expected if not any(sentence in finding for finding in found)]
    assert missing == []
    assert run("check", db=db).code == 1


def test_every_finding_is_a_sentence_of_its_own(db: Path) -> None:
    damage(
        db,
        "UPDATE messages SET message = 'no JSON'",
        "DELETE FROM messages WHERE message_id = 0",
        "DELETE FROM sessions WHERE session_id = 'island'",
    )
    found = check(db)
    assert len(set(found)) == len(found) > 9
    assert all(finding.endswith(".") and "\n" not in finding for finding in found)


# -- damaged pages --


def outcome(path: Path) -> list[str] | None:
    """Return what `check` finds, or None if the file cannot be read at all, which the command says in one line."""
    try:
        found = check(path)
    except SessionException:
        refused = run("check", db=path)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert path.name in refused.err
        return None
    ended = run("check", db=path)
    assert ended.code == (1 if found else 0)
    return found


def damaged(path: Path, number: int, content: bytes) -> Path:
    copy = path.with_name(f"{number}.db")
    copy.write_bytes(content)
    return copy


def test_a_page_of_zeros_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with begin(path) as manager:
        add_all(manager, range(200))
    content = path.read_bytes()
    assert len(content) > 15 * 4096
    for at in range(0, len(content), 4096):
        if any(content[at : at + 4096]):
            copy = damaged(path, at, content[:at] + bytes(4096) + content[at + 4096 :])
            assert outcome(copy) != [], f"page {at // 4096 + 1}"


def test_a_truncated_file_is_found(db: Path) -> None:
    content = db.read_bytes()
    for pages in range(1, len(content) // 4096):
        assert outcome(damaged(db, pages, content[: pages * 4096])) != []


@pytest.mark.long
def test_flipped_bytes_are_reported_or_harmless_and_check_never_fails(db: Path) -> None:
    content = db.read_bytes()
    generator = random.Random(4)
    outcomes: list[Any] = []
    for number in range(30):
        damaged_content = bytearray(content)
        for at in some(generator, len(content)):
            damaged_content[at] ^= 1 << generator.randrange(8)
        outcomes.append(outcome(damaged(db, number, bytes(damaged_content))))
    assert any(outcomes)


def test_a_schema_that_is_not_text_is_a_clear_error(db: Path) -> None:
    content = db.read_bytes()
    assert content.count(b"CREATE TABLE messages") == 1
    copy = damaged(db, 0, content.replace(b"CREATE TABLE messages", b"CREA\xc5E TABLE messages"))
    assert outcome(copy) is None


def some(generator: random.Random, length: int) -> Iterable[int]:
    return (generator.randrange(length) for _ in range(3))
