"""A search finds what was said, in any script, and nothing that nobody said; what was stored last comes first."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import MessageMatch, SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import CONFESSION, IMAGE, SECRET, build
from ..support.dated_records import add_message, add_session, at, said
from ..support.records import Orchestrator, dump
from ..support.scripted_model import REDACT_INPUT, tool_use


@pytest.fixture
def repository() -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(":memory:") as repository:
        add_session(repository, "a")
        yield repository


def found(repository: SQLiteSessionRepository, text: str, **filters: Any) -> list[int]:
    """Return the ids of the messages that a search finds, in its order."""
    return [match.message_id for match in repository.search_messages(text, **filters)]


# -- any script, any characters --

SAME = {
    "ascii": ("Hello World", "LO wO"),
    "Latin": ("Crème BRÛLÉE", "brûlée"),
    "Cyrillic": ("Привет, МИР", "привет, мир"),
    "Greek with a final sigma": ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    "Greek with a sigma inside": ("οδυσσευς", "ΔΥΣΣΕΥΣ"),
    "German ß by SS": ("Straße", "STRASSE"),
    "German SS by ß": ("STRASSE", "straße"),
    "German capital ß": ("GROẞ", "groß"),
    "German ß by its first half": ("Straße", "stras"),
    "German ß by its second half": ("heißen", "SEN"),
    "the old long s": ("Wa\u017f\u017fer", "wasser"),
    "ligatures": ("oﬃce ﬁle", "OFFICE FI"),
    "the sign of kelvin": ("300 \u212a", "300 k"),
    "Armenian": ("Եւրոպա", "ԵՒՐՈՊԱ"),
    "Georgian": ("საქართველო", "საქართველო"),
    "Chinese": ("我们去北京吧", "北京"),
    "Japanese": ("東京タワー", "タワ"),
    "Hindi": ("नमस्ते दुनिया", "दुनिया"),
    "Arabic": ("مرحبا بالعالم", "بالعالم"),
    "emoji": ("fine 👩‍👩‍👧 family", "👩‍👩‍👧"),
    "combining characters": ("Cafe\u0301 au lait", "FE\u0301"),
    "a combining character alone": ("Cafe\u0301", "\u0301"),
    "a mark that folding brings out": ("\u0390", "\u0301"),
    "outside the basic plane": ("𐐀𐐁 deseret", "𐐨𐐩"),
    "a quote": ('he said "no" to it', '"NO"'),
    "a single quote": ("it's", "T'S"),
    "a backslash": ("C:\\temp\\new", "\\TEMP\\n"),
    "a backslash alone": ("a\\b", "\\"),
    "a newline": ("one\ntwo", "E\nT"),
    "a carriage return and a tab": ("a\r\n\tb", "\r\n\t"),
    "a percent sign": ("100% sure", "0% S"),
    "an underscore": ("snake_case", "E_C"),
    "a tilde": ("~home", "~H"),
    "a NUL": ("a\0b", "A\0B"),
    "another control character": ("a\x1b[31m", "\x1b["),
    "a lone surrogate": ("bad \udcff end", "\udcff E"),
    "a slash": ("a/b", "/B"),
    "a delete character": ("a\x7fb", "\x7f"),
    "a line separator": ("a\u2028b", "\u2028"),
    "a space": ("a b", " "),
    "JSON that was said": ('{"role": "user"}', '"role": "US'),
    "a long text": ("x" * 20000 + "y", "X" * 15000 + "Y"),
    "many wildcards": ("%_" * 9000, "%_" * 8000),
    "a long text of umlauts": ("ä" * 30000, "Ä" * 20000),
    "a long text without case": ("中" * 60000, "中" * 50000),
}


@pytest.mark.every_case
@pytest.mark.parametrize(("text", "wanted"), SAME.values(), ids=SAME)
def test_a_text_is_found_in_any_script_and_case(repository: SQLiteSessionRepository, text: str, wanted: str) -> None:
    add_message(repository, "a", 1, "unrelated")
    add_message(repository, "a", 2, text, message_id=1)
    assert found(repository, wanted) == [1]
    assert found(repository, wanted.upper() if wanted.upper().casefold() == wanted.casefold() else wanted) == [1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("100 sure", "0% s"),
        ("abc", "a_c"),
        ("abc", "a%c"),
        ("abc", "a*c"),
        ("abc", "[abc]"),
        ("abc", "a.c"),
        ("a\nb", "\\n"),
        ("a\nb", "nb"),
        ('say "a"', '\\"'),
        ("a\0b", "u0000"),
        ("naïve", "naive"),
        ("a b", "a  b"),
        ("ab", "abc"),
        ("e\u0301", "é"),
        ("😀", "\ud83d"),
    ],
)
def test_what_was_not_said_is_not_found(repository: SQLiteSessionRepository, text: str, wanted: str) -> None:
    add_message(repository, "a", 1, text)
    assert found(repository, wanted) == []


# -- what counts as said --

TALK: dict[str, Any] = {
    "role": "assistant",
    "content": [
        {"text": "first block"},
        {"reasoningContent": {"reasoningText": {"text": "a hidden thought", "signature": "c2lnbmF0dXJl"}}},
        {"toolUse": {"toolUseId": "tooluse_7Xq", "name": "book_flight", "input": {"to": "Köln", "seats": [17, True]}}},
        {"guardContent": {"text": {"text": "guarded words", "qualifiers": ["grounding_source"]}}},
        {"citationsContent": {"content": [{"text": "cited words"}], "citations": []}},
        {"text": "last block"},
    ],
}
RESULT: dict[str, Any] = {
    "role": "user",
    "content": [
        {
            "toolResult": {
                "toolUseId": "tooluse_7Xq",
                "status": "error",
                "content": [
                    {"text": "no seats left"},
                    {"json": {"price": 99.5, "nested": {"deep": ["Zürich", None]}}},
                    {"image": {"format": "png", "source": {"bytes": b"hello picture"}}},
                ],
            }
        },
        IMAGE,
        {"cachePoint": {"type": "default"}},
    ],
}


@pytest.mark.parametrize(
    "wanted",
    ["first BLOCK", "last block", "hidden thought", "BOOK_flight", "KÖLN", "seats", "17", "guarded", "cited w"],
)
def test_texts_thoughts_and_calls_of_tools_are_searched(repository: SQLiteSessionRepository, wanted: str) -> None:
    add_message(repository, "a", 1, TALK, message_id=5)
    (match,) = repository.search_messages(wanted)
    assert (match.message_id, match.role) == (5, "assistant")


@pytest.mark.parametrize("wanted", ["NO seats", "zürich", "deep", "price", "99.5"])
def test_results_of_tools_are_searched(repository: SQLiteSessionRepository, wanted: str) -> None:
    add_message(repository, "a", 1, RESULT, message_id=6)
    (match,) = repository.search_messages(wanted)
    assert (match.message_id, match.role) == (6, "user")


@pytest.mark.parametrize(
    "wanted",
    [
        *("role", "assistant", "content", "toolUse", "toolUseId", "tooluse_7Xq", "input", "reasoning", "signature"),
        *("c2lnbmF0dXJl", "qualifiers", "status", "error", "toolResult", "image", "png", "bytes", "base64", "default"),
        *("__bytes_encoded__", "aGVsbG8", "hello picture", "cachePoint", '"', "{", "[", ":", "},{"),
        *("tracking", "block\nlast", "first block last", "a1", "ada", "inputTokens"),
    ],
)
def test_what_nobody_said_is_not_found(repository: SQLiteSessionRepository, wanted: str) -> None:
    tracked = {"tracking_id": "tracking-a1", "metadata": {"usage": {"inputTokens": 7}}}
    add_message(repository, "a", 1, {**TALK, **tracked})
    add_message(repository, "a", 2, {**RESULT, **tracked}, message_id=1)
    assert found(repository, wanted) == []


def test_what_a_live_agent_and_its_tools_say_is_found(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as manager:
        build(manager, [tool_use("shout", "t1", text="straße")], "so LOUD")("shout, please")
        assert found(manager, "STRASSE") == [2, 1]
        assert found(manager, "so loud") == [3]
        assert found(manager, "t1") == []
        (match,) = manager.search_messages("please")
        stored = manager.read_message("session", "default", 0)
        assert stored is not None
        assert match == MessageMatch("session", "default", 0, "user", stored.created_at, "shout, please")


def test_messages_that_the_agent_no_longer_holds_are_found(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as manager:
        agent = build(manager, conversation_manager=SlidingWindowConversationManager(window_size=2))
        for number in range(5):
            agent(f"prompt {number}")
        assert "prompt 0" not in str(agent.messages)
        assert found(manager, "prompt 0") == [0]


def test_a_redacted_text_is_not_found_and_its_replacement_is(tmp_path: Path) -> None:
    with SQLiteSessionManager("session", tmp_path / "sessions.db") as manager:
        agent = build(manager, REDACT_INPUT, [tool_use("look_up", "t1")], REDACT_INPUT)
        agent(CONFESSION)
        agent("look it up")
        assert manager.search_messages(SECRET) == []
        assert 0 in found(manager, "[REDACTED]")


def test_a_redaction_by_the_repository_counts_as_well(repository: SQLiteSessionRepository) -> None:
    add_message(repository, "a", 1, SECRET, redacted=said("[gone]"))
    add_message(repository, "a", 2, SECRET, message_id=1)
    assert found(repository, SECRET) == [1]
    repository.update_message("a", "ada", SessionMessage(said(SECRET), 1, said("[left]")))
    assert found(repository, SECRET) == []
    assert (found(repository, "GONE"), found(repository, "left")) == ([0], [1])


def test_a_deleted_session_is_not_found(repository: SQLiteSessionRepository) -> None:
    add_message(repository, "a", 1, "hello")
    repository.delete_session("a")
    assert repository.search_messages("hello") == []


# -- order, limits, filters --


def test_what_was_stored_last_comes_first_whatever_the_clock_said(repository: SQLiteSessionRepository) -> None:
    for message_id, minute in enumerate([5, 1, 9, 3, 7]):
        add_message(repository, "a", minute, "hello", message_id=message_id)
    add_session(repository, "b")
    add_message(repository, "b", 4, "hello", message_id=9)
    assert found(repository, "hello") == [9, 4, 3, 2, 1, 0]
    assert [match.created_at for match in repository.search_messages("hello", limit=2)] == [at(4), at(7)]


def test_the_copies_of_a_fork_come_first_since_they_were_stored_last(repository: SQLiteSessionRepository) -> None:
    add_message(repository, "a", 1, "hello")
    add_session(repository, "b")
    add_message(repository, "b", 2, "hello")
    repository.fork_session("a", "c")
    assert [match.session_id for match in repository.search_messages("hello")] == ["c", "b", "a"]
    assert [match.session_id for match in repository.search_messages("hello", limit=1)] == ["c"]


def test_a_changed_message_keeps_its_place(repository: SQLiteSessionRepository) -> None:
    for message_id in range(3):
        add_message(repository, "a", message_id, "hello", message_id=message_id)
    repository.update_message("a", "ada", SessionMessage(said("hello again"), 0))
    repository.update_message("a", "ada", SessionMessage(said("a secret"), 1, said("hello, redacted")))
    assert found(repository, "hello") == [2, 1, 0]


def test_a_search_can_be_limited_to_the_sessions_with_some_metadata(repository: SQLiteSessionRepository) -> None:
    add_session(repository, "b")
    add_session(repository, "c")
    for session_id, metadata in (("a", {"user": "1", "app": "x"}), ("b", {"user": "1"}), ("c", {"user": "2"})):
        repository.update_session_metadata(session_id, metadata)
        add_message(repository, session_id, 1, "hello")
    for metadata, expected in [
        ({"user": "1"}, ["b", "a"]),
        ({"user": "1", "app": "x"}, ["a"]),
        ({"user": "2", "app": "x"}, []),
        ({"nobody": "1"}, []),
        ({}, ["c", "b", "a"]),
        (None, ["c", "b", "a"]),
    ]:
        assert [match.session_id for match in repository.search_messages("hello", metadata=metadata)] == expected
    assert [match.session_id for match in repository.search_messages("hello", metadata={"user": "1"}, limit=1)] == ["b"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"a/ada", "a/bob", "b/ada", "b/bob"}),
        ({"session_id": "a"}, {"a/ada", "a/bob"}),
        ({"agent_id": "bob"}, {"a/bob", "b/bob"}),
        ({"session_id": "b", "agent_id": "ada"}, {"b/ada"}),
        ({"session_id": "nobody"}, set()),
        ({"agent_id": "nobody"}, set()),
    ],
)
def test_a_search_can_be_limited_to_a_session_or_an_agent(
    repository: SQLiteSessionRepository, filters: dict[str, Any], expected: set[str]
) -> None:
    repository.create_agent("a", SessionAgent("bob", {}, {}))
    add_session(repository, "b", 0, ["ada", "bob"])
    for session_id in "ab":
        for agent_id in ("ada", "bob"):
            add_message(repository, session_id, 1, "hello", agent_id=agent_id)
    matches = repository.search_messages("HELLO", **filters)
    assert {f"{match.session_id}/{match.agent_id}" for match in matches} == expected
    assert len(matches) == len(expected)


def test_a_search_returns_at_most_the_limit_and_fifty_by_default(repository: SQLiteSessionRepository) -> None:
    for number in range(70):
        add_message(repository, "a", number, "hello", message_id=number)
    newest_first = list(range(69, -1, -1))
    assert found(repository, "hello") == newest_first[:50]
    assert found(repository, "hello", limit=None) == newest_first
    for limit in (0, 1, 17, 69, 70, 71, 1000):
        assert found(repository, "hello", limit=limit) == newest_first[:limit]


@pytest.mark.parametrize("limit", [sys.maxsize, 2**63, 2**100])
def test_any_limit_is_accepted(repository: SQLiteSessionRepository, limit: int) -> None:
    add_message(repository, "a", 1, "hello")
    assert found(repository, "hello", limit=limit) == [0]


@pytest.mark.parametrize("wanted", ["text", "user", "ROLE"])
def test_rare_matches_are_found_behind_many_rows_that_only_look_like_matches(
    repository: SQLiteSessionRepository, wanted: str
) -> None:
    for number in range(100):
        add_message(repository, "a", number, f"a {wanted}" if number in (3, 50) else "hello", message_id=number)
    assert found(repository, wanted, limit=1) == [50]
    assert found(repository, wanted, limit=2) == [50, 3]
    assert found(repository, wanted) == [50, 3]


# -- the snippet --


def test_a_snippet_shows_the_first_place_with_some_words_around_it(repository: SQLiteSessionRepository) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    add_message(repository, "a", 1, f"{words} NEEDLE\n\tin the hay {words} needle")
    (match,) = repository.search_messages("needle")
    assert match.snippet.startswith("…")
    assert match.snippet.endswith("…")
    assert "word199 NEEDLE in the hay word0" in match.snippet
    assert len(match.snippet) < 200


@pytest.mark.parametrize(
    ("text", "wanted", "snippet"),
    [
        ("needle", "NEEDLE", "needle"),
        ("  a\n\nneedle\tb ", "needle", "a needle b"),
        ("ß" * 40 + "needle", "needle", "ß" * 40 + "needle"),
        ("Straße", "STRASSE", "Straße"),
    ],
)
def test_a_short_text_is_its_own_snippet_on_one_line(
    repository: SQLiteSessionRepository, text: str, wanted: str, snippet: str
) -> None:
    add_message(repository, "a", 1, text)
    assert repository.search_messages(wanted)[0].snippet == snippet


@pytest.mark.parametrize("filler", ["ß", "ΐ", "İ", "ﬃ", "x"])
def test_a_snippet_holds_the_match_behind_letters_that_folding_makes_longer(
    repository: SQLiteSessionRepository, filler: str
) -> None:
    add_message(repository, "a", 1, filler * 500 + "Needle" + filler * 500)
    (match,) = repository.search_messages("NEEDLE")
    assert "Needle" in match.snippet


# -- refused --


@pytest.mark.parametrize(
    ("text", "arguments", "error", "told"),
    [
        ("", {}, ValueError, "text"),
        (None, {}, TypeError, "text"),
        (b"hello", {}, TypeError, "text"),
        (7, {}, TypeError, "text"),
        ("a", {"limit": -1}, ValueError, "limit"),
        ("a", {"limit": 1.5}, TypeError, "int"),
        ("a", {"limit": "1"}, TypeError, "int"),
        ("a", {"session_id": ""}, ValueError, "session_id"),
        ("a", {"session_id": "a/b"}, ValueError, "session_id"),
        ("a", {"agent_id": " "}, ValueError, "agent_id"),
        ("a", {"agent_id": "../b"}, ValueError, "agent_id"),
        ("a", {"metadata": {"user": 1}}, TypeError, "metadata"),
        ("a", {"metadata": "user=1"}, TypeError, "metadata"),
        ("a", {"offset": 1}, TypeError, "offset"),
    ],
)
def test_what_makes_no_sense_is_refused(
    repository: SQLiteSessionRepository, text: Any, arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        repository.search_messages(text, **arguments)


def test_a_search_writes_nothing(tmp_path: Path) -> None:
    with SQLiteSessionRepository(tmp_path / "sessions.db") as repository:
        add_session(repository, "a")
        add_message(repository, "a", 1, "größe")
        before = dump(tmp_path / "sessions.db")
        assert found(repository, "GROSSE") == found(repository, "sß") == []
        assert found(repository, "GRÖẞE") == found(repository, "SS") == found(repository, "R") == [0]
        assert dump(tmp_path / "sessions.db") == before
        repository.close()
        with pytest.raises(SessionException, match="closed"):
            repository.search_messages("a")


@pytest.mark.every_case
@pytest.mark.parametrize("table", ["messages", "multi_agents"])
def test_what_belongs_to_an_id_that_is_not_text_is_reported_as_damage(path: Path, table: str) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "damaged")
        add_message(repository, "damaged", 1, "sunken")
        repository.create_multi_agent("damaged", Orchestrator("graph", {"type": "graph", "current_task": "sunken"}))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE {table} SET session_id = CAST(session_id AS BLOB)")
        with pytest.raises(SessionException, match="an id that is not text"):
            repository.search_messages("sunken")
