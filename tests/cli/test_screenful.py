"""People get a screenful, a pager and short names; programs get everything, and nothing is deleted by a short name."""

import json
import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from strands.types.session import Session, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.command_line import in_a_process, on_a_terminal, run
from ..support.dated_records import add_message, add_session

needs_terminal = pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")


@pytest.fixture
def db(path: Path) -> Path:
    """A file with 30 sessions, of which the first has 25 messages that say hello."""
    with SQLiteSessionRepository(path) as repository:
        for number in range(30):
            add_session(repository, f"session-{number:02}", number)
        for number in range(25):
            add_message(repository, "session-00", 100 + number, f"hello {number}", message_id=number)
    return path


LISTED = {"list": ("list",), "show": ("show", "session-00"), "search": ("search", "hello")}
TOTALS = {"list": 30, "show": 25, "search": 25}


def lines_of(text: str) -> int:
    """Count the sessions or messages that a text is about."""
    return sum(line.startswith(("2024-", "user  #", "hello 0  ")) for line in text.splitlines())


@needs_terminal
@pytest.mark.parametrize("name", LISTED)
def test_a_terminal_gets_a_screenful_and_learns_that_there_is_more(name: str, db: Path) -> None:
    told = on_a_terminal("--db", db, *LISTED[name], columns=100, NO_COLOR="1")[1]
    assert lines_of(told) == 20
    rest = {
        "list": "… 10 more: -n 0 shows all",
        "show": "… 5 earlier messages: -n 0",
        "search": "… more: -n 0 shows all",
    }
    assert rest[name] in told
    for limit, count in (("0", TOTALS[name]), ("2", 2)):
        told = on_a_terminal("--db", db, *LISTED[name], "-n", limit, columns=100, NO_COLOR="1")[1]
        assert lines_of(told) == count
        assert ("-n 0 shows all" in told) == (limit == "2")


@pytest.mark.every_case
@pytest.mark.parametrize("name", LISTED)
def test_programs_get_everything(name: str, db: Path) -> None:
    told = run(*LISTED[name], db=db).out
    assert lines_of(told) == TOTALS[name]
    assert "-n 0" not in told
    assert len(run(*LISTED[name], "--json", db=db).out.splitlines()) == TOTALS[name]
    assert run(*LISTED[name], "-n", "0", db=db).out == told


@needs_terminal
def test_json_is_complete_on_a_terminal_as_well(db: Path) -> None:
    told = on_a_terminal("--db", db, "list", "--json", PAGER="false")[1]
    assert len([json.loads(line) for line in told.splitlines()]) == 30


# -- the pager --


@needs_terminal
@pytest.mark.every_case
@pytest.mark.parametrize(
    ("arguments", "variables", "is_paged"),
    [
        (("show", "session-00"), {}, True),
        (("list",), {}, False),  # 22 lines on a terminal of 25
        (("list", "-n", "0"), {}, True),
        (("show", "session-00", "--no-pager"), {}, False),
        (("--no-pager", "show", "session-00"), {}, False),
        (("show", "session-00"), {"TERM": "dumb"}, False),
        (("delete", "session-00", "--dry-run"), {}, False),
    ],
    ids=str,
)
def test_what_is_longer_than_the_screen_goes_to_the_pager(
    arguments: tuple[str, ...], variables: dict[str, str], is_paged: bool, db: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    code, told = on_a_terminal("--db", db, *arguments, columns=100, PAGER=f"tee {shown}", **variables)
    assert code == 0
    assert shown.exists() == is_paged
    assert not is_paged or shown.read_text() == told
    assert "2024-05-06" in told or "hello 24" in told


@needs_terminal
@pytest.mark.parametrize("pager", ["", "no-such-program --at-all", "'", "head -n 1", "false"])
def test_without_a_pager_that_works_the_text_is_printed_and_one_that_quits_is_not_an_error(
    pager: str, db: Path
) -> None:
    code, told = on_a_terminal("--db", db, "show", "session-00", columns=100, PAGER=pager)
    assert code == 0
    assert "Traceback" not in told
    assert ("hello 24" in told) == (pager not in ("head -n 1", "false"))


@needs_terminal
def test_an_error_is_printed_after_the_output(db: Path) -> None:
    code, told = on_a_terminal("--db", db, "show", "nobody", PAGER="cat")
    assert (code, told) == (1, f"strands-sqlite: {db} | Session nobody does not exist\n")


# -- short names --


@pytest.fixture
def named(path: Path) -> Path:
    """A file with the sessions `abc`, `abcdefgh1`, `abcdefgh2`, `x%y` and `other`, the newest."""
    with SQLiteSessionRepository(path) as repository:
        for number, session_id in enumerate(("abc", "abcdefgh1", "abcdefgh2", "x%y", "other")):
            add_session(repository, session_id, number)
            add_message(repository, session_id, number, f"in {session_id}")
    return path


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("given", "found"),
    [("abc", "abc"), ("abcdefgh2", "abcdefgh2"), ("o", "other"), ("oth…", "other"), ("x", "x%y"), ("x%", "x%y")],
)
def test_the_beginning_of_an_id_is_enough_to_read_a_session(given: str, found: str, named: Path) -> None:
    assert f"in {found}" in run("show", given, db=named).out
    assert [
        json.loads(line)["session_id"]
        for line in run("search", "in", "--session", given, "--json", db=named).out.splitlines()
    ] == [found]
    assert json.loads(run("export", given, db=named).out.splitlines()[0])["session_id"] == found
    assert run("forks", given, db=named).out == f"{found}\n"
    assert run("fork", given, "copy", db=named).out == f"forked {found} to copy\n"


@pytest.mark.parametrize("command", [("show",), ("export",), ("forks",), ("search", "in", "--session")], ids=" ".join)
def test_a_beginning_of_several_ids_is_an_error_that_names_them(command: tuple[str, ...], named: Path) -> None:
    ended = run(*command, "abcd", db=named)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "strands-sqlite: abcd | several ids begin like this: abcdefgh1, abcdefgh2\n"
    assert run(*command, "%", db=named).code in (0, 1)


@pytest.mark.parametrize(
    "command",
    [
        ("delete", "oth", "--yes"),
        ("rewind", "oth", "--through", "0", "--yes"),
        ("tag", "oth", "a=b"),
    ],
    ids=" ".join,
)
def test_nothing_is_changed_by_a_short_name(command: tuple[str, ...], named: Path) -> None:
    ended = run(*command, db=named)
    assert (ended.code, ended.err) == (1, f"strands-sqlite: {named} | Session oth does not exist\n")


def test_last_is_the_session_with_the_newest_activity(named: Path, tmp_path: Path) -> None:
    assert "in other" in run("show", "--last", db=named).out
    assert json.loads(run("export", "--last", db=named).out.splitlines()[0])["session_id"] == "other"
    for arguments in (("show", "abc", "--last"), ("show",), ("export", "abc", "--last"), ("export", "--all", "--last")):
        assert run(*arguments, db=named).code == 2
    with SQLiteSessionRepository(tmp_path / "empty.db"):
        pass
    ended = run("show", "--last", db=tmp_path / "empty.db")
    assert (ended.code, ended.err.partition(" | ")[2]) == (1, "there are no sessions\n")


def test_ls_is_list(named: Path) -> None:
    assert run("ls", "-n", "2", db=named) == run("list", "--limit", "2", db=named)


# -- times --


@pytest.fixture
def aged(path: Path) -> Path:
    """A file with a session of 1 hour ago, one of 3 days ago, and one of 2024, each of which says hello."""
    now = datetime.now(timezone.utc)
    with SQLiteSessionRepository(path) as repository:
        for session_id, age in (("hour", timedelta(hours=1)), ("days", timedelta(days=3))):
            then = (now - age).isoformat()
            repository.create_session(Session(session_id, SessionType.AGENT, then, then))
        add_session(repository, "old", 0)
        add_message(repository, "old", 0, "hello once")
        add_message(repository, "old", 24 * 60, "hello again", message_id=1)
    return path


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (("--since", "2h"), ["hour"]),
        (("--since", "7d"), ["hour", "days"]),
        (("--before", "2d"), ["days", "old"]),
        (("--since", "2024-05-01", "--before", "2024-05-10"), ["old"]),
    ],
    ids=" ".join,
)
def test_sessions_can_be_listed_by_their_last_activity(options: tuple[str, ...], listed: list[str], aged: Path) -> None:
    told = run("list", *options, "--json", db=aged).out
    assert [json.loads(line)["session_id"] for line in told.splitlines()] == listed


@pytest.mark.parametrize("command", [("show", "old"), ("search", "hello")], ids=" ".join)
def test_messages_can_be_shown_and_searched_by_their_time(command: tuple[str, ...], aged: Path) -> None:
    def said(*options: str) -> str:
        return run(*command, *options, db=aged).out

    assert "\n  hello once" not in said("--since", "2024-05-06T12:00Z")
    assert "\n  hello again" in said("--since", "2024-05-06T12:00Z")
    assert "\n  hello again" not in said("--before", "2024-05-06T12:00Z")
    assert "\n  hello once" in said("--before", "2024-05-06T12:00Z")


@pytest.mark.long
@pytest.mark.parametrize("count", [100_000])
def test_the_last_of_many_messages_are_shown(count: int, path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "long")
        add_message(repository, "long", 0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT ? - 1)"
            " INSERT INTO messages (session_id, agent_id, message_id, created_at, updated_at, message)"
            " SELECT session_id, agent_id, number, created_at, updated_at, message FROM messages CROSS JOIN numbers",
            (count,),
        )
    told = on_a_terminal("--db", path, "show", "--last", columns=80)[1]
    assert f"{count - 20:,} earlier messages" in told
    assert in_a_process("--db", path, "show", "--last").out.count("hello") == count
