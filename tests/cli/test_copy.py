"""`strands-sqlite copy FROM TO`: which sessions it copies, what it prints, and what it never prints."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.transfer.stores import FileSessionRepository

from ..support.command_line import on_a_terminal, run
from ..support.conversations import build
from ..support.stores import (
    BUCKET,
    MESSAGES,
    Store,
    described,
    file_store,
    objects_in,
    rows_of,
    s3_server,
    sqlite_store,
    write_everything,
)

IDS = ("a", "b", "c")
PASSWORD = "hunter2"


@pytest.fixture(scope="module", autouse=True)
def s3_url() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def files(tmp_path: Path) -> Store:
    """A folder of files with the sessions of `IDS`."""
    store = file_store(tmp_path / "files")
    for session_id in IDS:
        write_everything(store.whole(), session_id)
    return store


@pytest.fixture
def source(files: Store, tmp_path: Path) -> str:
    """The same, by its name on the command line."""
    return f"file:{tmp_path / 'files'}"


def session_ids(path: Path) -> set[str]:
    """The sessions of a SQLite file."""
    with SQLiteSessionRepository(path) as repository:
        return {summary.session_id for summary in repository.list_sessions()}


def break_session(folder: Path, session_id: str) -> None:
    """Damage a message of a session of files."""
    path = folder / f"session_{session_id}" / "agents" / "agent_ada" / "messages" / "message_2.json"
    path.write_text('{"message": {"role": "us')


# -- which sessions --


def test_all_sessions_are_copied_whole(files: Store, source: str, tmp_path: Path) -> None:
    ended = run("copy", source, tmp_path / "to.db", "--all")
    assert ended.code == 0, ended.err
    target = sqlite_store(tmp_path / "to.db")
    assert session_ids(tmp_path / "to.db") == set(IDS)
    for session_id in IDS:
        assert described(target.whole(), session_id) == described(files.whole(), session_id)


def test_only_the_named_sessions_are_copied_each_of_them_once(source: str, tmp_path: Path) -> None:
    ended = run("copy", source, tmp_path / "to.db", "c", "a", "c")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("2 of 2 sessions copied")
    assert session_ids(tmp_path / "to.db") == {"a", "c"}


@pytest.mark.parametrize("arguments", [(), ("a", "--all")], ids=["neither", "both"])
def test_copy_needs_session_ids_or_all(arguments: tuple[str, ...], source: str, tmp_path: Path) -> None:
    ended = run("copy", source, tmp_path / "to.db", *arguments)
    assert ended.code == 2
    assert "--all" in ended.err
    assert not (tmp_path / "to.db").exists()


# -- between all kinds of stores --


@pytest.mark.long
def test_sessions_copied_through_every_store_come_back_byte_for_byte(
    s3_url: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("s3")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    bucket = f"s3://{BUCKET}/{tmp_path.name}/deep/"
    at = ("--endpoint-url", s3_url, "--region", "eu-central-1")
    places = [source, bucket, tmp_path / "one.db", tmp_path / "two.db", f"file:{tmp_path / 'back'}"]
    for here, there in pairwise(places):
        ended = run("copy", here, there, "--all", *at)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"3 of 3 sessions copied; {3 * MESSAGES} messages, ")
    whole = {path: file_store(tmp_path / path) for path in ("files", "back")}
    for session_id in IDS:
        assert whole["back"].content(session_id) == whole["files"].content(session_id)
        there = objects_in(client, f"{tmp_path.name}/deep/session_{session_id}/")
        assert there == whole["files"].content(session_id)


def test_a_bucket_without_a_prefix_is_a_store_as_well(s3_url: str, source: str, tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="bare")
    for here, there in ((source, "s3://bare"), ("s3://bare", tmp_path / "to.db")):
        ended = run("copy", here, there, IDS[0], "--endpoint-url", s3_url)
        assert (ended.code, ended.err) == (0, "")
    assert session_ids(tmp_path / "to.db") == {IDS[0]}


def test_a_folder_may_be_relative_and_in_the_home_directory(
    files: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert run("copy", "file:files", "relative.db", "--all").code == 0
    assert run("copy", "file:~/files", "home.db", "--all").code == 0
    assert session_ids(tmp_path / "relative.db") == session_ids(tmp_path / "home.db") == set(IDS)


def test_a_sqlite_source_keeps_metadata_and_is_not_changed(tmp_path: Path) -> None:
    path, copied = tmp_path / "from.db", tmp_path / "to.db"
    with SQLiteSessionManager("home", path, metadata={"user_id": "42"}) as manager:
        agent = build(manager)
        agent("hello")
        agent.messages.clear()
        agent("again")
    before = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    ended = run("copy", path, copied, "home")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("1 of 1 sessions copied; 4 messages, ")
    assert rows_of(copied, "home") == rows_of(path, "home")
    after = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    assert {name: digest for name, digest in after.items() if not name.startswith("to.db")} == before


def test_sessions_are_copied_while_an_agent_is_live_on_the_source(tmp_path: Path) -> None:
    path = tmp_path / "from.db"
    with SQLiteSessionManager("home", path) as manager:
        agent = build(manager)
        agent("hello")
        assert run("copy", path, tmp_path / "to.db", "--all").code == 0
        agent("and on")
    assert [len(rows_of(at, "home")["messages"]) for at in (tmp_path / "to.db", path)] == [2, 4]


# -- again, and failures --


def test_skip_existing_resumes_an_interrupted_copy(source: str, files: Store, tmp_path: Path) -> None:
    assert run("copy", source, tmp_path / "to.db", "b").code == 0
    before = rows_of(tmp_path / "to.db", "b")
    again = run("copy", source, tmp_path / "to.db", "--all")
    assert again.code == 1
    assert "failed: b: Session b already exists" in again.err
    write_everything(files.whole(), "d")
    resumed = run("copy", source, tmp_path / "to.db", "--all", "--skip-existing")
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.out.startswith(f"1 of 4 sessions copied, 3 skipped; {MESSAGES} messages, ")
    assert session_ids(tmp_path / "to.db") == {*IDS, "d"}
    assert rows_of(tmp_path / "to.db", "b") == before


@pytest.mark.parametrize("target", ["to.db", "file"])
def test_a_session_that_fails_is_named_with_the_reason_and_the_others_are_copied(
    target: str, source: str, tmp_path: Path
) -> None:
    break_session(tmp_path / "files", "b")
    ended = run("copy", source, tmp_path / "to.db" if target == "to.db" else f"file:{tmp_path / 'to'}", "--all")
    assert ended.code == 1
    (failed,) = (line for line in ended.err.splitlines() if line.startswith("failed: "))
    assert failed.startswith("failed: b: ")
    assert "message_2.json" in failed
    assert "1 of 3 sessions were not copied" in ended.err
    assert ended.out.startswith(f"2 of 3 sessions copied; {2 * MESSAGES} messages, ")
    copied = (
        session_ids(tmp_path / "to.db")
        if target == "to.db"
        else set(FileSessionRepository(tmp_path / "to").list_session_ids())
    )
    assert copied == {"a", "c"}


# What a message can hold that our file cannot, besides what is not JSON at all.
ODD: dict[str, dict[str, Any]] = {
    "a time that is a list": {"created_at": ["2024"]},
    "no time": {"updated_at": None},
    "a time that is an object": {"updated_at": {}},
    "an id that is text": {"message_id": "2"},
    "an id that is too large": {"message_id": 2**70},
    "the id of another message": {"message_id": 1},
    "a lone surrogate in a time": {"created_at": "\ud800"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_session_with_an_odd_message_fails_alone(odd: dict[str, Any], source: str, tmp_path: Path) -> None:
    path = tmp_path / "files" / "session_b" / "agents" / "agent_ada" / "messages" / "message_2.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **odd}))
    ended = run("copy", source, tmp_path / "to.db", "--all")
    assert ended.code == 1
    assert [line.split(": ")[1] for line in ended.err.splitlines() if line.startswith("failed: ")] == ["b"]
    assert session_ids(tmp_path / "to.db") == {"a", "c"}


def test_a_missing_session_fails_alone(source: str, tmp_path: Path) -> None:
    ended = run("copy", source, tmp_path / "to.db", "a", "nowhere", "../c", "b")
    assert ended.code == 1
    assert "failed: nowhere: Session nowhere does not exist" in ended.err
    assert "failed: ../c: " in ended.err
    assert session_ids(tmp_path / "to.db") == {"a", "b"}


def test_the_id_of_a_failed_session_cannot_control_the_terminal(tmp_path: Path) -> None:
    ended = run("copy", f"file:{tmp_path}", tmp_path / "to.db", "\x1b[31mred\u202e")
    assert ended.code == 1
    assert "\x1b" not in ended.err
    assert "\u202e" not in ended.err
    assert r"\x1b[31mred" in ended.err


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("file:{}/nowhere", "nowhere"),
        ("{}/nowhere.db", "nowhere.db"),
        ("s3://no-such-bucket/p", "no-such-bucket"),
        ("gopher://{}/x", "file:DIR"),
    ],
)
def test_a_missing_source_is_named_in_one_line(missing: str, told: str, tmp_path: Path) -> None:
    ended = run("copy", missing.format(tmp_path), tmp_path / "to.db", "--all")
    assert ended.code in (1, 2)
    assert ended.out == ""
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert not any(path.name.startswith("nowhere") for path in tmp_path.iterdir())


def test_a_file_that_is_not_a_database_is_refused_untouched_as_source_and_target(source: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are my notes, " * 100)
    for here, there in ((text, tmp_path / "to.db"), (source, text)):
        ended = run("copy", here, there, "--all")
        assert ended.code == 1
        assert "notes.txt" in ended.err
        assert ended.err.count("\n") == 1
    assert text.read_text() == "these are my notes, " * 100


# -- progress --


def test_a_terminal_shows_counts_and_a_rate(source: str, tmp_path: Path) -> None:
    if not hasattr(os, "openpty"):
        pytest.skip("there are no terminals like that here")
    code, told = on_a_terminal("copy", source, tmp_path / "to.db", "--all")
    assert code == 0
    assert "3 of 3 sessions, 24 messages, " in told
    assert " a second" in told


def test_without_a_terminal_no_progress_is_printed(source: str, tmp_path: Path) -> None:
    ended = run("copy", source, tmp_path / "to.db", "--all")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.splitlines()) == 1


# -- PostgreSQL, as far as it needs no server --


def without_the_package(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Make the package for PostgreSQL appear missing, or of a certain version."""
    original = importlib.metadata.version

    def told(name: str) -> str:
        if name != "strands-postgresql-session-manager":
            return original(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", told)


@pytest.mark.parametrize(
    ("scheme", "version"),
    [
        *((scheme, None) for scheme in ("postgresql", "postgres", "postgresql+psycopg2", "PostgreSQL")),
        *(("postgresql", version) for version in ("0.1.9", "0.1", "0", "0.1rc1", "unknown")),
    ],
)
@pytest.mark.parametrize("is_source", [True, False], ids=["from", "to"])
def test_without_the_package_for_postgresql_it_says_how_to_install_it(
    is_source: bool, scheme: str, version: str | None, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_package(monkeypatch, version)
    url = f"{scheme}://me:{PASSWORD}@localhost/agents"
    ended = run("copy", *((url, tmp_path / "to.db") if is_source else (source, url)), "--all")
    assert ended.code == 1
    assert "pip install 'strands-postgresql-session-manager>=0.2'" in ended.err
    assert ended.err.count("\n") == 1
    assert PASSWORD not in ended.err + ended.out
    assert not (tmp_path / "to.db").exists()


SECRET_URLS = [
    "postgresql://me:{}@127.0.0.1:1/agents",
    "postgresql://me:{}@127.0.0.1:port/agents",
    "postgresql://me:{}@/agents",
    "postgresql://me:{}[@127.0.0.1:1/agents",
    "postgresql://me:[{}]@127.0.0.1:1/agents",
    "postgresql://me:{}\uff1a\u2100@127.0.0.1:1/agents",
    "postgresql://me:{}/x@127.0.0.1:1/agents",
    "postgresql://me:{}#x@127.0.0.1:1/agents",
    "postgresql://me@127.0.0.1:1/agents?password={}",
    "postgresql://me@127.0.0.1:1/agents?password={}&nonsense=1",
    "postgresql+nonsense://me:{}@127.0.0.1:1/agents",
    "mysql://me:{}@127.0.0.1:1/agents",
    "s3://me:{}@bucket/prefix",
]


@pytest.mark.parametrize("is_installed", [True, False])
@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_password_is_never_printed(
    url: str, is_installed: bool, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_installed:
        without_the_package(monkeypatch, None)
    elif url.startswith("postgres"):
        pytest.importorskip("strands_postgresql_session_manager")
    secret = url.format(PASSWORD)
    for here, there in ((secret, tmp_path / "to.db"), (source, secret)):
        ended = run("copy", here, there, "a")
        assert ended.code in (1, 2)
        assert PASSWORD not in ended.err + ended.out
        assert "Traceback" not in ended.err


# -- what is missing --


def test_copy_says_what_another_store_cannot_hold_and_for_how_many_sessions(tmp_path: Path) -> None:
    path = tmp_path / "from.db"
    for session_id, metadata in (("a", {"user_id": "1"}), ("b", {"user_id": "2"}), ("c", None)):
        with SQLiteSessionManager(session_id, path, metadata=metadata) as manager:
            agent = build(manager)
            agent("hello")
            if session_id == "a":
                agent.state.set("mood", "good")
                agent("hello again")
    ended = run("copy", path, f"file:{tmp_path / 'files'}", "--all")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1:] == [
        "left behind, since the target cannot hold it: the metadata of 2 sessions",
        "left behind, since the target cannot hold it: the checkpoints of 1 session",
    ]
    assert len(run("copy", path, tmp_path / "to.db", "--all").out.splitlines()) == 1


def test_a_source_without_sessions_is_an_error_that_says_where_it_looked(s3_url: str, tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="empty")
    (tmp_path / "files").mkdir()
    with SQLiteSessionRepository(tmp_path / "from.db"):
        pass
    for place, looked_in in (
        ("s3://empty/prodcution/", "s3://empty/prodcution/session_*"),
        ("s3://empty", "s3://empty/session_*"),
        (f"file:{tmp_path / 'files'}", str(tmp_path / "files" / "session_*")),
        (tmp_path / "from.db", str(tmp_path / "from.db")),
    ):
        ended = run("copy", place, tmp_path / "to.db", "--all", "--endpoint-url", s3_url)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err == f"strands-sqlite: {looked_in} | there are no sessions\n"
    assert not (tmp_path / "to.db").exists()
