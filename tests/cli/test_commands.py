"""What each command prints for people and for programs, its exit codes, and which file it uses."""

import argparse
import json
import re
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.cli.parser import build_parser

from ..support.command_line import READING, WRITING, fill, in_a_new_process, in_a_process, run
from ..support.conversations import build

_CHOICES: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
)
SUBPARSERS = {parser.prog.split()[-1]: parser for parser in _CHOICES.values()}  # without their aliases
EVERY = {
    **READING,
    **WRITING,
    "backup": ("backup", "backup.db"),
    "export -o": ("export", "--all", "-o", "export.jsonl"),
    "import": ("import", "export.jsonl"),
    "import --replace": ("import", "export.jsonl", "--replace"),
    "delete --dry-run": ("delete", "ship", "--dry-run"),
    "prune --dry-run": ("prune", "--older-than", "1d", "--dry-run"),
}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    fill(path)
    return path


def objects(text: str) -> list[Any]:
    """Parse JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def session_ids(db: Path) -> set[str]:
    with closing(sqlite3.connect(db)) as connection:
        return {session_id for (session_id,) in connection.execute("SELECT session_id FROM sessions").fetchall()}


# -- what is printed --


def test_a_list_has_aligned_columns_and_the_newest_session_first(db: Path) -> None:
    heading, first, second = run("list", db=db).out.splitlines()
    assert first.startswith("just now")
    assert first.endswith("  island")
    assert second.endswith("  ship")
    assert first.index("what is there?") == second.index("set the sails") == heading.index("title")
    assert first.index("island") == second.index("ship") == heading.index("session")


def test_a_list_as_json_says_what_the_python_interface_says(db: Path) -> None:
    with SQLiteSessionRepository(db) as repository:
        assert objects(run("list", "--json", db=db).out) == [vars(summary) for summary in repository.list_sessions()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--metadata", "user_id=42"), ["ship"]),
        (("--metadata", "user_id=42", "--metadata", "app=web"), ["ship"]),
        (("--metadata", "user_id=42", "--metadata", "app=tv"), []),
        (("--limit", "1"), ["island"]),
        (("--limit", "0"), ["island", "ship"]),
    ],
)
def test_a_list_holds_only_what_was_asked_for(db: Path, arguments: tuple[str, ...], expected: list[str]) -> None:
    ended = run("list", "--json", *arguments, db=db)
    assert ended.code == 0
    assert [summary["session_id"] for summary in objects(ended.out)] == expected


def test_a_shown_session_reads_like_a_conversation(db: Path) -> None:
    out = run("show", "ship", db=db).out
    assert [line.split()[0] for line in out.splitlines() if re.match(r"\w", line)] == [
        *("user", "assistant", "assistant"),
        *("user", "assistant") * 2,
    ]
    in_order = ["set the sails", "aye", 'shout {"text": "sail"}', "SAIL", "we sail", "look", "[image: png, 6 bytes]"]
    places = [out.index(text) for text in in_order]
    assert places == sorted(places)


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_what_was_redacted_is_marked_and_not_shown(db: Path, form: str) -> None:
    out = run("show", "ship", "--format", form, db=db).out
    assert "a secret to forget" not in out
    if form == "json":
        assert [shown["message_id"] for shown in objects(out) if shown["redacted"]] == [6]
    else:
        assert re.search(r"^(### )?user .*\[redacted\]", out, re.MULTILINE)


@pytest.mark.parametrize("choice", [("--json",), ("--format", "json")])
def test_a_shown_session_as_json_has_an_object_for_every_message(db: Path, choice: tuple[str, ...]) -> None:
    shown = objects(run("show", "island", *choice, db=db).out)
    assert [(message["agent_id"], message["message_id"]) for message in shown] == [
        *(("ada", 0), ("ada", 1)),
        *(("bob", 0), ("bob", 1)),
    ]
    assert shown[1]["message"]["content"] == [{"text": "sand"}]


def test_one_of_several_agents_and_the_last_of_many_messages_can_be_shown(db: Path) -> None:
    out = run("show", "island", db=db).out
    assert "(ada)" in out
    assert "(bob)" in out
    assert [shown["agent_id"] for shown in objects(run("show", "island", "--agent", "bob", "--json", db=db).out)] == [
        "bob",
        "bob",
    ]
    last = objects(run("show", "ship", "--limit", "2", "--json", db=db).out)
    assert [shown["message_id"] for shown in last] == [6, 7]


def test_markdown_keeps_tabs(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("session", path) as manager:
        build(manager, "all:\n\tcc x.c")("a Makefile?")
    assert "\n\tcc x.c\n" in run("show", "session", "--format", "markdown", db=path).out


def test_times_are_local_for_people(db: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE messages SET created_at = '2024-05-06T23:30:00.123456+00:00'")
    out = in_a_process("--db", db, "show", "ship", "--times", TZ="XYZ-2").out
    assert "2024-05-07 01:30" in out
    assert "2024-05-06" not in out


def test_a_search_finds_the_newest_first_and_keeps_to_its_session_and_agent(db: Path) -> None:
    found = objects(run("search", "SAIL", "--json", db=db).out)
    assert [match["message_id"] for match in found] == [3, 2, 1, 0]
    assert objects(run("search", "SAIL", "--session", "island", "--json", db=db).out) == []
    assert objects(run("search", "SAIL", "--agent", "bob", "--json", db=db).out) == []
    assert len(objects(run("search", "SAIL", "--limit", "2", "--json", db=db).out)) == 2
    assert "we sail" in run("search", "we SAIL", db=db).out


def test_stats_count_what_the_file_holds(db: Path) -> None:
    (stats,) = objects(run("stats", "--json", db=db).out)
    assert {name: stats[name] for name in ("sessions", "agents", "messages", "orchestrators", "file")} == {
        "sessions": 2,
        "agents": 3,
        "messages": 12,
        "orchestrators": 0,
        "file": str(db),
    }
    assert stats["bytes"] == db.stat().st_size
    lines = run("stats", db=db).out.splitlines()
    assert [line.split() for line in lines if line.startswith(("sessions", "messages"))] == [
        ["sessions", "2"],
        ["messages", "12"],
    ]


@pytest.mark.parametrize(("arguments", "messages"), [((), 8), (("--through", "3"), 4)])
def test_a_fork_copies_a_session_as_far_as_asked(db: Path, arguments: tuple[str, ...], messages: int) -> None:
    assert run("fork", "ship", "copy", *arguments, db=db).code == 0
    with SQLiteSessionRepository(db) as repository:
        assert len(repository.list_messages("copy", "default")) == messages
        assert len(repository.list_messages("ship", "default")) == 8


def test_a_fork_of_several_agents_needs_the_name_of_one(db: Path) -> None:
    refused = run("fork", "island", "copy", "--through", "0", db=db)
    assert refused.code == 2
    assert "ada, bob" in refused.err
    assert run("fork", "island", "copy", "--through", "0", "--agent", "bob", db=db).code == 0
    with SQLiteSessionRepository(db) as repository:
        assert [len(repository.list_messages("copy", agent_id)) for agent_id in ("ada", "bob")] == [2, 1]


def test_a_tag_changes_and_removes_metadata(db: Path) -> None:
    assert run("tag", "ship", "app=", "user_id=43", "title=a = b", db=db).code == 0
    with SQLiteSessionRepository(db) as repository:
        (summary,) = [summary for summary in repository.list_sessions() if summary.session_id == "ship"]
    assert summary.metadata == {"user_id": "43", "title": "a = b"}


def test_delete_deletes_the_named_sessions_and_no_others(db: Path) -> None:
    assert run("delete", "ship", "ship", "--yes", db=db).code == 0
    assert session_ids(db) == {"island"}


def test_delete_deletes_nothing_if_one_of_the_sessions_is_missing(db: Path) -> None:
    ended = run("delete", "ship", "nobody", "--yes", db=db)
    assert (ended.code, session_ids(db)) == (1, {"ship", "island"})
    assert "nobody" in ended.err


def test_delete_deletes_nothing_if_one_of_the_sessions_cannot_be_deleted(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON sessions WHEN old.session_id = 'island'"
            " BEGIN SELECT RAISE(ABORT, 'is to be kept'); END"
        )
    ended = run("delete", "ship", "island", "--yes", db=db)
    assert (ended.code, session_ids(db)) == (1, {"ship", "island"})
    assert "is to be kept" in ended.err


def test_prune_deletes_only_old_sessions_with_the_metadata(db: Path) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        for table in ("messages", "agents", "sessions"):
            connection.execute(f"UPDATE {table} SET created_at = '2020-01-01', updated_at = '2020-01-01'")
        connection.execute("UPDATE sessions SET active_at = '2020-01-01'")
    with SQLiteSessionManager("young", db) as manager:
        build(manager)("hello")
    assert run("prune", "--older-than", "30d", "--metadata", "user_id=7", "--yes", db=db).code == 0
    assert session_ids(db) == {"ship", "young"}
    assert run("prune", "--older-than", "30d", "--yes", db=db).code == 0
    assert session_ids(db) == {"young"}


def test_check_prints_ok_or_names_the_damage_and_fails(db: Path) -> None:
    assert run("check", db=db).out == "ok\n"
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("DELETE FROM messages WHERE session_id = 'ship' AND message_id = 3")
    ended = run("check", db=db)
    assert ended.code == 1
    assert "Message 3 of agent 'default' in session 'ship' is missing." in ended.out
    (problem,) = objects(run("check", "--json", db=db).out)
    assert problem["problem"] in ended.out


# -- which sessions --


def test_metadata_selects_the_sessions_to_delete(db: Path) -> None:
    assert run("delete", "--metadata", "user_id=42", "--yes", db=db).out == "deleted 1 session\n"
    assert session_ids(db) == {"island"}
    assert run("delete", "--metadata", "user_id=42", "--yes", db=db).out == "no session has this metadata\n"


def test_metadata_selects_the_sessions_to_delete_in_a_dry_run(db: Path) -> None:
    told = run("delete", "--metadata", "user_id=42", "--dry-run", db=db).out
    assert "ship" in told
    assert "1 session with 8 messages would be deleted" in told
    assert session_ids(db) == {"ship", "island"}


def test_metadata_selects_the_sessions_to_export_and_to_copy(db: Path, tmp_path: Path) -> None:
    exported = objects(run("export", "--metadata", "user_id=7", db=db).out)
    assert {line["session_id"] for line in exported} == {"island"}
    assert run("export", "--metadata", "user_id=1", db=db).out == ""  # a user without sessions
    assert run("copy", db, tmp_path / "new.db", "--metadata", "user_id=7").code == 0
    assert session_ids(tmp_path / "new.db") == {"island"}


def test_another_store_has_no_metadata_to_select_by(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    ended = run("copy", f"file:{tmp_path / 'files'}", tmp_path / "new.db", "--metadata", "user_id=7")
    assert ended.code == 2
    assert "other stores hold no metadata" in ended.err


def test_metadata_selects_the_sessions_to_search(db: Path) -> None:
    assert objects(run("search", "sail", "--metadata", "user_id=7", "--json", db=db).out) == []
    found = objects(run("search", "sail", "--metadata", "user_id=42", "--json", db=db).out)
    assert {match["session_id"] for match in found} == {"ship"}


# -- exit codes --


@pytest.mark.every_case
@pytest.mark.parametrize("name", EVERY)
def test_every_command_exits_with_0_when_it_succeeds(name: str, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(db.parent)
    if name.startswith("import"):
        run("export", "ship", "-o", "export.jsonl", db=db)
        if name == "import":
            run("delete", "ship", "--yes", db=db)
    ended = run(*EVERY[name], db=db)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.every_case
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nobody"),
        ("show", "ship", "--agent", "nobody"),
        ("fork", "nobody", "copy"),
        ("fork", "ship", "island"),
        ("fork", "ship", "copy", "--through", "99"),
        ("fork", "ship", "copy", "--through", "-2"),
        ("delete", "nobody", "--yes"),
        ("delete", "ship"),
        ("prune", "--older-than", "0m"),
        ("tag", "nobody", "a=b"),
        ("export", "nobody"),
        ("export", "--all", "-o", "sessions.db"),
        ("export", "--all", "-o", "missing/export.jsonl"),
        ("import", "missing.jsonl"),
        ("import", "."),
        ("backup", "sessions.db"),
        ("backup", "missing/backup.db"),
    ],
    ids=" ".join,
)
def test_a_failing_command_prints_one_line(
    arguments: tuple[str, ...], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(db.parent)
    before = db.read_bytes()
    ended = run(*arguments, db=db)
    assert ended.code == 1
    assert re.fullmatch(r"strands-sqlite: .+\n", ended.err)
    assert db.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "a/b"),
        ("show", "ship", "--agent", "a/b"),
        ("search", "sail", "--session", " "),
        ("search", "sail", "--agent", "a/b"),
        ("fork", "a/b", "copy"),
        ("fork", "ship", "a/b"),
        ("fork", "ship", "copy", "--through", "0", "--agent", ""),
        ("fork", "ship", "copy", "--through", str(2**63 - 1)),
        ("fork", "ship", "copy", "--through", str(-(2**70))),
        ("delete", "ship", "a/b", "--yes"),
        ("tag", "a/b", "a=b"),
        ("tag", "ship", "\udcff=b"),
        ("export", "a/b"),
        ("backup", "\0"),
    ],
    ids=lambda arguments: ascii(" ".join(arguments)),
)
def test_what_python_refuses_as_a_value_is_wrong_usage_in_one_line(arguments: tuple[str, ...], db: Path) -> None:
    before = db.read_bytes()
    ended = run(*arguments, db=db)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"strands-sqlite: .+\n", ended.err)
    assert db.read_bytes() == before


@pytest.mark.every_case
@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("storage",),
        ("list", "extra"),
        ("list", "--limit", "-1"),
        ("list", "--limit", "x"),
        ("list", "--metadata", "novalue"),
        ("list", "--metadata", "=novalue"),
        ("show",),
        ("show", "ship", "--format", "html"),
        ("search",),
        ("search", ""),
        ("fork", "ship"),
        ("fork", "ship", "copy", "--through", "x"),
        ("fork", "ship", "copy", "--agent", "default"),
        ("delete",),
        ("delete", "--yes"),
        ("delete", "ship", "--metadata", "app=web", "--yes"),
        ("export",),
        ("export", "-o", "new.jsonl"),
        ("export", "ship", "--all"),
        ("export", "ship", "--metadata", "app=web"),
        ("export", "--all", "--metadata", "app=web"),
        ("copy", "sessions.db", "new.db"),
        ("copy", "sessions.db", "new.db", "ship", "--all"),
        ("copy", "sessions.db", "new.db", "ship", "--metadata", "app=web"),
        ("prune",),
        ("prune", "--older-than", "30"),
        ("prune", "--older-than", "-1d"),
        ("tag", "ship"),
        ("tag", "ship", "novalue"),
        ("backup",),
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], db: Path) -> None:
    ended = run(*arguments, db=db)
    assert (ended.code, ended.out) == (2, "")
    assert "strands-sqlite" in ended.err


@pytest.mark.parametrize("limit", [2**62, 2**63, 10**30])
@pytest.mark.parametrize("command", [("list",), ("show", "ship"), ("search", "sail")], ids=" ".join)
def test_a_limit_that_is_too_large_for_sqlite_limits_nothing_or_is_refused(
    command: tuple[str, ...], limit: int, db: Path
) -> None:
    ended = run(*command, "--limit", limit, db=db)
    assert ended.code in (0, 1, 2)
    assert ended.code != 0 or ended.out == run(*command, db=db).out


# -- which file --


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_file_is_an_error_and_is_not_created(
    name: str, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("export", "--all", "-o", tmp_path / "export.jsonl", db=db)
    (tmp_path / "empty").mkdir()
    shutil.move(tmp_path / "export.jsonl", tmp_path / "empty" / "export.jsonl")
    monkeypatch.chdir(tmp_path / "empty")
    arguments = [
        "other.jsonl" if argument == "export.jsonl" and name == "export -o" else argument for argument in EVERY[name]
    ]
    ended = run(*arguments, db=tmp_path / "empty" / "missing.db")
    assert ended.code == 1
    assert "missing.db | no such file" in ended.err
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["export.jsonl"]


@pytest.mark.parametrize(("path", "code"), [(":memory:", 1), ("", 2), (".", 2), ("missing/", 2), ("\0", 2)])
def test_a_path_that_cannot_be_a_file_is_an_error(
    path: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("--db", path, "list")
    assert ended.code == code
    assert re.fullmatch(r"strands-sqlite: .+\n", ended.err)
    assert list(tmp_path.iterdir()) == []


def test_the_option_beats_the_environment_which_beats_the_default_path(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("option", "variable"):
        with SQLiteSessionManager(name, tmp_path / f"{name}.db"):
            pass
    monkeypatch.delenv("STRANDS_SQLITE_DB_PATH", raising=False)
    assert "ship" in run("list").out
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "variable.db"))
    assert "variable" in run("list").out
    assert "option" in run("--db", "option.db", "list").out
    assert "option" in run("list", "--db", "option.db").out
    assert "option" in run("--db", "variable.db", "list", "--db", "option.db").out


# -- the help --


@pytest.mark.every_case
@pytest.mark.parametrize("name", SUBPARSERS)
def test_the_help_of_every_command_has_examples_that_can_be_typed(name: str) -> None:
    ended = run(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    _, _, examples = ended.out.partition("example")
    lines = [line.strip() for line in examples.splitlines() if line.startswith("  ")]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line.partition(">")[0])
        assert program == "strands-sqlite"
        assert name in arguments
        build_parser().parse_args(arguments)


def test_the_bare_command_prints_a_short_help(db: Path) -> None:
    for arguments in ((), ("--db", db)):
        ended = run(*arguments)
        assert (ended.code, ended.err) == (0, "")
        assert re.findall(r"^  (\w+)   +\w", ended.out, re.MULTILINE) == ["list", "show", "search", "usage", "backup"]
        assert len(ended.out.splitlines()) < 20
    (example,) = re.findall(r"^  strands-sqlite (.*)", ended.out, re.MULTILINE)
    assert run(*example.split(), db=db).code == 0


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("lst",), "unknown command 'lst': did you mean 'list'?"),
        (("serach", "x"), "unknown command 'serach': did you mean 'search'?"),
        (("storage", "lits"), "unknown command 'lits': did you mean 'list'?"),
        (("qqqq",), "unknown command 'qqqq': strands-sqlite --help lists all"),
    ],
    ids=str,
)
def test_an_unknown_command_is_refused_with_the_nearest(typed: tuple[str, ...], told: str) -> None:
    ended = run(*typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].endswith(f"error: {told}")


def test_every_help_says_that_json_is_json_lines() -> None:
    helps = [run(name, "--help").out for name in SUBPARSERS]
    with_json = [text for text in helps if "--json" in text]
    assert len(with_json) > 5
    assert all("print JSON Lines" in text for text in with_json)


def test_the_help_names_every_command() -> None:
    out = run("--help").out
    assert all(re.search(rf"^ +{name} ", out, re.MULTILINE) for name in SUBPARSERS)
    assert {arguments[0] for arguments in EVERY.values()} <= SUBPARSERS.keys()


def test_the_installed_command_is_a_process_with_an_exit_code(db: Path) -> None:
    done = in_a_new_process("--db", db, "list", "--json")
    assert (done.code, len(objects(done.out)), done.err) == (0, 2, "")
    failed = in_a_new_process("--db", db, "show", "nobody")
    assert (failed.code, failed.out, failed.err) == (1, "", f"strands-sqlite: {db} | Session nobody does not exist\n")
