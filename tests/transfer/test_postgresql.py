"""Sessions move to PostgreSQL, continue there with `strands-postgresql-session-manager`, and come back.

These tests need a server: `DATABASE_URL` names it and a user who may create schemas there.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SessionExistsException, copy_session

from ..support.command_line import in_a_process, run
from ..support.fresh_processes import held_by
from ..support.histories import HISTORIES
from ..support.orchestrators import build_team, ran
from ..support.recording_manager import written
from ..support.records import agent, message, session
from ..support.stores import (
    AGENT_IDS,
    IDS,
    MESSAGES,
    MULTI_AGENT_IDS,
    Store,
    conversation,
    described,
    file_store,
    finished_in_place,
    memory_store,
    sqlite_store,
    write_everything,
)

SERVER = os.environ.get("DATABASE_URL", "")
if not SERVER.startswith(("postgres://", "postgresql://", "postgresql+")):
    pytest.skip("DATABASE_URL names no PostgreSQL server", allow_module_level=True)
pytest.importorskip("strands_postgresql_session_manager", reason="strands-postgresql-session-manager is not installed")

from sqlalchemy import create_engine, make_url, text  # noqa: E402
from strands_postgresql_session_manager import PostgresSessionManager  # noqa: E402

from strands_sqlite_session_manager.transfer.postgres import PostgresSessionRepository  # noqa: E402

SESSION = "session"
SECRET = "4111-1111"
HISTORY_NAMES = (
    "plain turns",
    "bytes in a prompt and in a tool result",
    "state set by tools and between turns",
    "guardrail redaction",
    "a sliding window",
    "a truncated tool result",
    "a summary of a summary",
    "a program that removes all",
    "the first two deleted and another turn",
)


ADDRESS = make_url(SERVER.replace("postgres://", "postgresql://", 1))


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an empty schema, which is dropped afterwards."""
    schema = f"test_{uuid.uuid4().hex}"
    # The driver that the package brings along; which one is the default depends on SQLAlchemy.
    engine = create_engine(ADDRESS.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        own = ADDRESS.update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@pytest.fixture
def postgres(url: str) -> Iterator[Store]:
    """PostgreSQL, with no sessions."""
    whole = PostgresSessionRepository(url)
    yield Store(
        "postgresql",
        lambda: whole,
        lambda session_id: PostgresSessionManager(session_id, whole.engine),
        lambda session_id: None,
    )
    whole.engine.dispose()


@pytest.mark.parametrize("first", ["files", "sqlite", "memory"])
def test_a_session_comes_back_from_postgresql_whole(first: str, postgres: Store, tmp_path: Path) -> None:
    source = {
        "files": lambda: file_store(tmp_path / "files"),
        "sqlite": lambda: sqlite_store(tmp_path / "first.db"),
        "memory": memory_store,
    }[first]()
    back = sqlite_store(tmp_path / "back.db")
    write_everything(source.whole(), "home", strict=True)
    copy_session(source.whole(), postgres.whole(), "home", **source.ids(**IDS))
    copy_session(postgres.whole(), back.whole(), "home")
    assert described(back.whole(), "home", sort_keys=True) == described(source.whole(), "home", sort_keys=True)


def test_a_session_of_postgresql_goes_to_files_whole(postgres: Store, tmp_path: Path) -> None:
    files, back = file_store(tmp_path / "files"), sqlite_store(tmp_path / "back.db")
    write_everything(postgres.whole(), "home", strict=True)
    copy_session(postgres.whole(), files.whole(), "home", new_session_id="ü 🦜")
    copy_session(postgres.whole(), back.whole(), "home")
    assert described(files.whole(), "ü 🦜", sort_keys=True) == described(back.whole(), "home", sort_keys=True)


def test_times_come_back_as_the_same_moments_in_utc(postgres: Store, tmp_path: Path) -> None:
    source, back = sqlite_store(tmp_path / "source.db").whole(), sqlite_store(tmp_path / "back.db").whole()
    source.create_session(session("home"))
    source.create_agent("home", agent("ada"))
    for message_id, time in enumerate(("2024-05-06T07:08:09.000123+00:00", "2024-05-06T07:08:09+02:00")):
        source.create_message("home", "ada", SessionMessage(message(0).message, message_id, None, time, time))
    copy_session(source, postgres.whole(), "home")
    copy_session(postgres.whole(), back, "home")
    times = [(found.created_at, found.updated_at) for found in back.list_messages("home", "ada")]
    assert times == [("2024-05-06T07:08:09.000123+00:00",) * 2, ("2024-05-06T05:08:09+00:00",) * 2]


@pytest.mark.parametrize("name", HISTORY_NAMES)
def test_an_agent_resumes_and_continues_in_postgresql_and_back_here(name: str, postgres: Store, tmp_path: Path) -> None:
    history = HISTORIES[name]
    sqlite, back = sqlite_store(tmp_path / "a.db"), sqlite_store(tmp_path / "b.db")
    live = history.build(sqlite.open(SESSION))
    history.drive(live)
    copy_session(sqlite.whole(), postgres.whole(), SESSION)
    there = history.build(postgres.open(SESSION))
    assert conversation(there) == conversation(live)
    there("and on")
    copy_session(postgres.whole(), back.whole(), SESSION)
    expected = history.build(postgres.open(SESSION))
    assert written(held_by(history.build(back.open(SESSION)))) == written(held_by(expected))
    assert conversation(expected) == conversation(there)


def test_a_graph_that_was_stopped_half_way_continues_in_postgresql(postgres: Store, tmp_path: Path) -> None:
    sqlite = sqlite_store(tmp_path / "a.db")
    stopped = build_team("graph", sqlite.open(SESSION), tmp_path, "raises")
    with pytest.raises(RuntimeError):
        stopped("the task")
    copy_session(sqlite.whole(), postgres.whole(), SESSION)
    result = build_team("graph", postgres.open(SESSION), tmp_path)("the task")
    reached = result.status.value, ran(tmp_path)
    assert reached == finished_in_place("graph", sqlite, tmp_path)
    assert reached[1] == ["a", "b", "b", "c"]


# -- what is found, and what is refused --


def test_listing_a_postgresql_database_creates_no_session(postgres: Store) -> None:
    assert postgres.whole().list_session_ids() == []
    for session_id in ("b", "a"):
        write_everything(postgres.whole(), session_id, strict=True)
    assert postgres.whole().list_session_ids() == ["a", "b"]
    assert sorted(postgres.whole().list_multi_agent_ids("a")) == list(MULTI_AGENT_IDS)
    assert postgres.whole().list_multi_agent_ids("nobody") == []


def test_a_session_that_postgresql_has_is_refused_and_stays_as_it_is(postgres: Store, tmp_path: Path) -> None:
    source, back = file_store(tmp_path / "files"), sqlite_store(tmp_path / "back.db")
    write_everything(source.whole(), "home", strict=True)
    postgres.whole().create_session(session("home"))
    with pytest.raises(SessionExistsException, match=r"^Session home already exists"):
        copy_session(source.whole(), postgres.whole(), "home")
    copy_session(postgres.whole(), back.whole(), "home")
    assert back.whole().list_agents("home") == []


def test_a_postgresql_manager_as_source_needs_the_ids_of_its_orchestrators(postgres: Store, tmp_path: Path) -> None:
    write_everything(postgres.whole(), "home", strict=True)
    target = sqlite_store(tmp_path / "a.db").whole()
    with pytest.raises(ValueError, match=r"^multi_agent_ids .*PostgresSessionManager"):
        copy_session(postgres.open("another"), target, "home")
    copy_session(postgres.open("another"), target, "home", multi_agent_ids=MULTI_AGENT_IDS)
    assert {found.agent_id for found in target.list_agents("home")} == set(AGENT_IDS)
    assert set(target.list_multi_agents("home")) == set(MULTI_AGENT_IDS)


@pytest.mark.parametrize("refused", ["\0", "\ud800"], ids=["NUL", "a lone surrogate"])
def test_an_error_names_a_character_that_postgresql_cannot_hold_and_not_the_text_around_it(
    refused: str, postgres: Store, tmp_path: Path
) -> None:
    source = sqlite_store(tmp_path / "a.db").whole()
    source.create_session(session("home"))
    source.create_agent("home", agent("ada"))
    source.create_message("home", "ada", message(0))
    source.create_message("home", "ada", message(1, f"{SECRET} {refused}"))
    with pytest.raises(SessionException, match=r"Session home was not copied: .*(Unicode|\\u0000|json)") as failure:
        copy_session(source, postgres.whole(), "home")
    assert str(failure.value).endswith("the session itself; agent ada with 1 of its 2 messages")
    assert SECRET not in str(failure.value)
    assert len(postgres.whole().list_messages("home", "ada")) == 1


# -- on the command line --


def test_the_command_copies_to_postgresql_and_back(url: str, tmp_path: Path) -> None:
    source, target = sqlite_store(tmp_path / "a.db"), sqlite_store(tmp_path / "b.db")
    for session_id in ("one", "two"):
        write_everything(source.whole(), session_id, strict=True)
    for here, there in ((tmp_path / "a.db", url), (url, tmp_path / "b.db")):
        ended = run("copy", here, there, "--all")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"2 of 2 sessions copied; {2 * MESSAGES} messages, ")
        again = run("copy", here, there, "--all", "--skip-existing")
        assert (again.code, again.err) == (0, "")
        assert again.out.startswith("0 of 2 sessions copied, 2 skipped; ")
    for session_id in ("one", "two"):
        assert described(target.whole(), session_id, sort_keys=True) == described(
            source.whole(), session_id, sort_keys=True
        )


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_a_url_means_the_same_with_and_without_a_driver(scheme: str, url: str, tmp_path: Path) -> None:
    sqlite_store(tmp_path / "a.db").whole().create_session(session("home"))
    ended = run("copy", tmp_path / "a.db", f"{scheme}://{url.partition('://')[2]}", "--all")
    assert (ended.code, ended.err) == (0, "")


def test_a_session_that_postgresql_refuses_is_named_in_one_line_and_the_others_are_copied(
    url: str, postgres: Store, tmp_path: Path
) -> None:
    source = sqlite_store(tmp_path / "a.db").whole()
    for session_id, said in (("good", "hello"), ("bad", f"{SECRET} \0"), ("fine", "hello")):
        source.create_session(session(session_id))
        source.create_agent(session_id, agent("ada"))
        source.create_message(session_id, "ada", message(0, said))
    ended = in_a_process("copy", tmp_path / "a.db", url, "--all")
    assert ended.code == 1
    first, *others = ended.err.splitlines()
    assert first.startswith("failed: bad: Session bad was not copied: ")
    assert others == ["strands-sqlite: 1 of 3 sessions were not copied"]
    assert SECRET not in ended.err
    assert {"good", "fine"} <= set(postgres.whole().list_session_ids())


def test_a_missing_database_is_named_without_the_password(tmp_path: Path) -> None:
    nowhere = ADDRESS.set(database=f"no_{uuid.uuid4().hex}", password="hunter2")
    sqlite_store(tmp_path / "a.db").whole().create_session(session("home"))
    ended = run("copy", tmp_path / "a.db", nowhere.render_as_string(hide_password=False), "--all")
    assert ended.code == 1
    assert "does not exist" in ended.err or "authentication failed" in ended.err
    assert ended.err.count("\n") == 1
    assert "hunter2" not in ended.err
