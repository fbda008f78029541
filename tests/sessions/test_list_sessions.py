"""A listing has everything that a sidebar shows, page by page, of exactly the sessions that were asked for."""

import dataclasses
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage, SessionType

from strands_sqlite_session_manager import SessionSummary, SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import IMAGE, SECRET, build
from ..support.dated_records import add_message, add_session, at, listed, moment, said
from ..support.records import Orchestrator, dump
from ..support.scripted_model import REDACT_INPUT, tool_use


@pytest.fixture
def repository(tmp_path: Path) -> SQLiteSessionRepository:
    return SQLiteSessionRepository(tmp_path / "sessions.db", synchronous="NORMAL")


# -- what a summary says --


def test_a_summary_tells_what_a_sidebar_shows(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a", 0, ["ada"])
    add_session(repository, "b", 1, ["bob", "ada"])
    repository.update_session_metadata("b", {"user_id": "42", "title": "größer"})
    add_message(repository, "b", 3, said("hello there", "assistant"), agent_id="ada")
    add_message(repository, "b", 4, "what is this?", agent_id="bob")
    add_message(repository, "b", 5, "and that?", agent_id="ada", message_id=1)
    assert repository.list_sessions() == [
        SessionSummary(
            session_id="b",
            session_type="AGENT",
            created_at=at(1),
            updated_at=at(5),
            metadata={"user_id": "42", "title": "größer"},
            agent_ids=["ada", "bob"],
            multi_agent_ids=[],
            message_count=3,
            preview="what is this?",
        ),
        SessionSummary("a", SessionType.AGENT.value, at(0), at(0), {}, ["ada"], [], 0, ""),
    ]


def test_agents_are_named_in_the_order_of_their_creation(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as manager:
        for agent_id in ("zoe", "ada", "mia"):
            build(manager, agent_id=agent_id)
        (summary,) = manager.list_sessions()
        assert summary.agent_ids == ["zoe", "ada", "mia"]


def test_a_live_conversation_has_a_summary(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db", metadata={"app_name": "x"}) as manager:
        (empty,) = manager.list_sessions()
        assert (empty.agent_ids, empty.message_count, empty.preview) == ([], 0, "")
        build(manager, [tool_use("shout", "t1", text="hi")], "it says HI")("shout\n  hi")
        (summary,) = manager.list_sessions()
        assert (summary.message_count, summary.preview, summary.metadata) == (4, "shout hi", {"app_name": "x"})
        assert summary.created_at == empty.created_at
        assert empty.updated_at < summary.updated_at <= datetime.now(timezone.utc).isoformat()


def test_a_summary_cannot_be_changed(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a")
    (summary,) = repository.list_sessions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary.preview = "other"  # type: ignore[misc]


def test_listing_writes_nothing(repository: SQLiteSessionRepository, tmp_path: Path) -> None:
    add_session(repository, "a")
    add_message(repository, "a", 1)
    before = dump(tmp_path / "sessions.db")
    assert listed(repository, metadata={"user_id": "42"}) == []
    assert listed(repository, updated_after=moment(0), limit=1, offset=0) == ["a"]
    assert dump(tmp_path / "sessions.db") == before


def test_a_session_of_an_orchestrator_alone_is_listed(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "team", agent_ids=[])
    for multi_agent_id in ("swarm", "graph"):
        repository.create_multi_agent("team", Orchestrator(multi_agent_id))
    (summary,) = repository.list_sessions()
    assert (summary.session_id, summary.agent_ids, summary.message_count, summary.preview) == ("team", [], 0, "")
    assert summary.multi_agent_ids == ["swarm", "graph"]  # in the order of their creation


def test_an_empty_file_has_no_sessions(repository: SQLiteSessionRepository) -> None:
    assert repository.list_sessions() == []
    assert repository.list_sessions(metadata={"a": "b"}, updated_after=moment(0), limit=3, offset=2) == []


def test_a_manager_lists_the_whole_file_and_a_memory_database_only_its_own(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("a", path), SQLiteSessionManager("b", path) as manager:
        assert sorted(listed(manager)) == ["a", "b"]
    with SQLiteSessionManager("a", ":memory:"), SQLiteSessionManager("b", ":memory:") as manager:
        assert listed(manager) == ["b"]


# -- previews --

RESULT = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "a result"}, {"json": {"a": 1}}]}}
GUARDED: dict[str, Any] = {"guardContent": {"text": {"text": "under guard"}}}
PREVIEWS: dict[str, tuple[list[Any], str]] = {
    "a text": ([said("hello")], "hello"),
    "no message": ([], ""),
    "an assistant alone": ([said("hello", "assistant")], ""),
    "an assistant first": ([said("welcome", "assistant"), said("hello")], "hello"),
    "the first of several": ([said("one"), said("two")], "one"),
    "several lines": ([said("  one\n\n\ttwo \r\n three ")], "one two three"),
    "exactly as long as it may be": ([said("x" * 100)], "x" * 100),
    "a long text": ([said("€" * 5000)], "€" * 100),
    "behind much space": ([said(" \n" * 5000 + "hello"), said("later")], "hello"),
    "nothing but space": ([said(" \n\t "), said("later")], "later"),
    "an empty text": ([said(""), said("later")], "later"),
    "no content": ([{"role": "user", "content": []}, said("later")], "later"),
    "an image alone": ([{"role": "user", "content": [IMAGE]}], ""),
    "an image, then a text": ([{"role": "user", "content": [IMAGE]}, said("what is it?")], "what is it?"),
    "an image with a text": ([{"role": "user", "content": [IMAGE, {"text": "look"}]}], "look"),
    "several blocks": ([{"role": "user", "content": [{"text": "a"}, IMAGE, {"text": "b"}]}], "a b"),
    "a tool result alone": ([{"role": "user", "content": [RESULT]}], ""),
    "a tool result, then a text": ([{"role": "user", "content": [RESULT]}, said("thanks")], "thanks"),
    "a guarded text": ([{"role": "user", "content": [GUARDED]}], "under guard"),
    "an emoji and a NUL": ([said("👩‍👩‍👧 \x00 ok")], "👩‍👩‍👧 \x00 ok"),
    "a lone surrogate": ([said("\udcff!")], "\udcff!"),
    "escape sequences as they are": ([said("\x1b[31mred")], "\x1b[31mred"),
}


@pytest.mark.parametrize(("messages", "preview"), PREVIEWS.values(), ids=PREVIEWS)
def test_a_preview_is_the_start_of_the_first_text_that_the_user_said(
    repository: SQLiteSessionRepository, messages: list[Any], preview: str
) -> None:
    add_session(repository, "a")
    for number, message in enumerate(messages):
        add_message(repository, "a", number, message, message_id=number)
    (summary,) = repository.list_sessions()
    assert summary.preview == preview


def test_the_preview_is_of_the_agent_that_was_addressed_first(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a", 0, ["ada", "bob", "eve"])
    add_message(repository, "a", 3, "to ada", agent_id="ada")
    add_message(repository, "a", 2, "to bob", agent_id="bob")
    add_message(repository, "a", 1, {"role": "user", "content": [IMAGE]}, agent_id="eve")
    (summary,) = repository.list_sessions()
    assert summary.preview == "to bob"


def test_the_preview_is_of_the_lowest_id_whenever_it_was_stored(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a")
    add_message(repository, "a", 1, "later", message_id=1)
    add_message(repository, "a", 1, "first", message_id=0)
    assert repository.list_sessions()[0].preview == "first"


def test_a_preview_shows_nothing_that_was_redacted(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "a")
    add_message(repository, "a", 1, f"my card is {SECRET}", redacted=said("[gone]"))
    assert repository.list_sessions()[0].preview == "[gone]"
    nothing_left: Any = {"role": "user", "content": []}
    repository.update_message("a", "ada", SessionMessage(said(SECRET), 0, nothing_left, at(1), at(2)))
    add_message(repository, "a", 3, "next", message_id=1)
    assert repository.list_sessions()[0].preview == "next"


def test_a_preview_shows_nothing_that_a_guardrail_took_back(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as manager:
        build(manager, REDACT_INPUT)(SECRET)
        assert manager.list_sessions()[0].preview == "[redacted]"


# -- which sessions, and how many --


def test_ranges_of_activity_exclude_their_ends(repository: SQLiteSessionRepository) -> None:
    for minute in range(5):
        add_session(repository, str(minute), minute)
    add_message(repository, "0", 2.5)
    assert listed(repository, updated_after=moment(2)) == ["4", "3", "0"]
    assert listed(repository, updated_before=moment(2.5)) == ["2", "1"]
    assert listed(repository, updated_after=moment(1), updated_before=moment(4)) == ["3", "0", "2"]
    assert listed(repository, updated_after=moment(3), updated_before=moment(2)) == []


def test_a_moment_may_be_given_in_any_time_zone(repository: SQLiteSessionRepository) -> None:
    for minute in range(3):
        add_session(repository, str(minute), minute)
    zone = timezone(timedelta(hours=-9, minutes=-30))
    assert listed(repository, updated_after=moment(1).astimezone(zone)) == ["2"]
    assert listed(repository, updated_before=moment(1).astimezone(zone)) == ["0"]


def test_a_moment_may_be_given_in_the_form_of_a_summary(repository: SQLiteSessionRepository) -> None:
    for minute in range(3):
        add_session(repository, str(minute), minute)
    middle = repository.list_sessions()[1].updated_at
    assert listed(repository, updated_after=middle) == ["2"]
    assert listed(repository, updated_before=middle) == ["0"]
    assert listed(repository, updated_after="2024-05-06T00:01:00Z") == ["2"]
    assert listed(repository, updated_before="2024-05-05T14:31:00-09:30") == ["0"]


def test_ranges_are_exact_to_the_microsecond(repository: SQLiteSessionRepository) -> None:
    tick = timedelta(microseconds=1)
    for name, when in (("before", moment(1) - tick), ("sharp", moment(1)), ("after", moment(1) + tick)):
        add_session(repository, name, (when - moment(0)) / timedelta(minutes=1))
    assert listed(repository) == ["after", "sharp", "before"]
    assert listed(repository, updated_after=moment(1)) == ["after"]
    assert listed(repository, updated_before=moment(1)) == ["before"]
    assert listed(repository, updated_after=moment(1) - tick, updated_before=moment(1) + tick) == ["sharp"]


@pytest.fixture
def crowd(repository: SQLiteSessionRepository) -> tuple[SQLiteSessionRepository, dict[str, Any]]:
    """A file of sessions that share moments and metadata, and what is known of each: minute, user, app."""
    chance = random.Random(4)
    known: dict[str, Any] = {}
    for number in range(90):
        session_id = f"session {number}"
        user, app = chance.choice("abc"), chance.choice(["chat", "mail", None])
        add_session(repository, session_id)
        repository.update_session_metadata(session_id, {"user_id": user, "app_name": app})
        minute = 0
        for message_id in range(chance.randrange(15)):
            minute = chance.randrange(20)
            add_message(repository, session_id, minute, message_id=message_id)
            minute = max(known.get(session_id, (0,))[0], minute)
            known[session_id] = (minute, user, app)
        known.setdefault(session_id, (0, user, app))
    return repository, known


FILTERS: list[dict[str, Any]] = [
    {},
    {"metadata": {"user_id": "a"}},
    {"metadata": {"user_id": "b", "app_name": "mail"}},
    {"metadata": {"app_name": "chat", "user_id": "nobody"}},
    {"updated_after": 5},
    {"updated_before": 12},
    {"metadata": {"app_name": "chat"}, "updated_after": 3, "updated_before": 18},
]


def expected_of(known: dict[str, Any], asked: dict[str, Any]) -> dict[str, str]:
    """Return the sessions that a filter means, with their last activity."""
    wanted = asked.get("metadata", {})
    return {
        session_id: at(minute)
        for session_id, (minute, user, app) in known.items()
        if wanted.get("user_id", user) == user
        and wanted.get("app_name", app) == app
        and asked.get("updated_after", -1) < minute < asked.get("updated_before", 99)
    }


def test_pages_together_are_the_whole_list(crowd: tuple[SQLiteSessionRepository, dict[str, Any]]) -> None:
    repository, known = crowd
    for asked in FILTERS:
        filters = {name: moment(value) if name.startswith("updated") else value for name, value in asked.items()}
        whole = repository.list_sessions(**filters)
        assert {summary.session_id: summary.updated_at for summary in whole} == expected_of(known, asked)
        assert len({summary.session_id for summary in whole}) == len(whole)
        times = [summary.updated_at for summary in whole]
        assert times == sorted(times, reverse=True)
        for size in (1, 7, 40):
            pages = [
                repository.list_sessions(**filters, limit=size, offset=start) for start in range(0, len(whole), size)
            ]
            assert [summary for page in pages for summary in page] == whole
            assert all(len(page) == size for page in pages[:-1])
        assert repository.list_sessions(**filters, offset=3) == whole[3:]
        assert repository.list_sessions(**filters, limit=0) == []
        assert repository.list_sessions(**filters, limit=5, offset=len(whole)) == []


@pytest.mark.parametrize(
    "number", [1000, sys.maxsize, 2**63, 2**100], ids=["1000", "maxsize", "2 to the 63", "2 to the 100"]
)
def test_any_limit_and_offset_are_accepted(repository: SQLiteSessionRepository, number: int) -> None:
    for minute in range(3):
        add_session(repository, str(minute), minute)
    assert listed(repository, limit=number) == ["2", "1", "0"]
    assert listed(repository, limit=number, offset=1) == ["1", "0"]
    assert listed(repository, offset=number) == []


# -- what cannot be asked for --


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"limit": -1}, ValueError, "limit=<-1>.*must be 0 or more"),
        ({"offset": -1}, ValueError, "offset=<-1>.*must be 0 or more"),
        ({"limit": 1.0}, TypeError, "int"),
        ({"offset": "1"}, TypeError, "int"),
        ({"offset": None}, TypeError, "int"),
        ({"updated_after": datetime(2024, 1, 1)}, ValueError, "updated_after.*time zone"),
        ({"updated_before": datetime(2024, 1, 1)}, ValueError, "updated_before.*time zone"),
        ({"updated_after": "2024-01-01T00:00:00"}, ValueError, "updated_after.*time zone"),
        ({"updated_after": "yesterday"}, ValueError, "updated_after=<yesterday>.*ISO 8601"),
        ({"updated_before": ""}, ValueError, "updated_before.*ISO 8601"),
        ({"updated_before": 1714953600}, TypeError, "updated_before"),
        ({"updated_before": datetime(2024, 1, 1).date()}, TypeError, "updated_before"),
        ({"metadata": "user_id=42"}, TypeError, "metadata"),
        ({"metadata": ["user_id"]}, TypeError, "metadata"),
        ({"metadata": {"user_id": 42}}, TypeError, "user_id"),
        ({"metadata": {"user_id": None}}, TypeError, "user_id"),
        ({"metadata": {42: "user_id"}}, TypeError, "42"),
        ({"meta": {"user_id": "42"}}, TypeError, "meta"),
    ],
)
def test_what_makes_no_sense_is_refused(
    repository: SQLiteSessionRepository, arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        repository.list_sessions(**arguments)


@pytest.mark.parametrize("hours", [-14, 14])
def test_the_earliest_and_the_latest_moment_do_not_filter(repository: SQLiteSessionRepository, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    add_session(repository, "a")
    first, last = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
    assert listed(repository, updated_after=first, updated_before=last) == ["a"]


def test_a_closed_repository_says_so(repository: SQLiteSessionRepository) -> None:
    repository.close()
    with pytest.raises(SessionException, match="closed"):
        repository.list_sessions()
