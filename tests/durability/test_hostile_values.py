"""SQL in every string, messages of 50 MB, ids of 10,000 characters, all of Unicode: stored, found, shown, and moved.

`repository/test_values.py` and `repository/test_refused_values.py` say which values are accepted at all;
`cli/test_terminal_safety.py` says that a terminal gets nothing but text.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..cli.test_terminal_safety import OBEYED
from ..support.command_line import in_a_process, run
from ..support.conversations import build
from ..support.records import Orchestrator, query
from ..support.scripted_model import tool_use
from ..support.tiers import tier

SQL = (
    "'; DROP TABLE messages; --",
    '"; DELETE FROM sessions; --',
    "' OR '1'='1",
    "') OR 1=1 --",
    "x' UNION SELECT message, 1, 1, 1 FROM messages --",
    "`; UPDATE messages SET message = '{}'; --",
    "]; DROP VIEW transcript; --",
    '$."x"\') IS NOT NULL; DROP TABLE agents; --',
    "%' ESCAPE '%' OR 1 LIKE '",
    "?1 :a @a $a",
    "NULL",
    "1; PRAGMA writable_schema = ON",
    "* --",
    "_%_%",
    "\\' OR 1=1 --",
)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def store(path: Path, text: str) -> list[dict[str, Any]]:
    """Let an agent converse with this text as every string; return the messages that it holds in the end."""
    with SQLiteSessionManager(text, path, metadata={text: text}) as manager:
        agent = build(manager, [tool_use("shout", text, text=text)], text, agent_id=text, state={text: [text]})
        agent(text)
        manager.create_multi_agent(text, Orchestrator(text, {text: text}))
        return list(agent.messages)


def assert_is_stored(path: Path, text: str, messages: list[dict[str, Any]]) -> None:
    """Assert that everything that `store` stored is there, by every way of reading it."""
    with SQLiteSessionManager(text, path) as manager:
        agent = build(manager, agent_id=text)
        assert agent.messages == messages
        assert agent.state.get() == {text: [text]}
        assert [item.to_message() for item in manager.list_messages(text, text)] == messages
        assert manager.read_multi_agent(text, text) == {text: text}
        assert manager.list_multi_agents(text) == [text]
        (summary,) = manager.list_sessions(metadata={text: text})
        assert (summary.session_id, summary.metadata, summary.agent_ids) == (text, {text: text}, [text])
        assert summary.preview == " ".join(text.split())[:100].rstrip()
        found = manager.search_messages(text, session_id=text, agent_id=text, limit=None)
        assert sorted(match.message_id for match in found) == list(range(len(messages)))
        assert manager.check() == []


def schema(path: Path) -> list[Any]:
    """Return the whole schema of a file; nothing is added to it after the file is created."""
    return query(path, "SELECT type, name, sql FROM sqlite_master ORDER BY name")


# -- SQL --


@pytest.mark.parametrize("text", SQL)
def test_sql_in_every_string_is_a_string(db: Path, text: str) -> None:
    untouched = store(db, "untouched")
    before = schema(db)
    messages = store(db, text)
    assert_is_stored(db, text, messages)
    with SQLiteSessionRepository(db) as repository:
        repository.fork_session(text, f"{text} 2", agent_id=text, through_message=1)
        repository.update_session_metadata(text, {text: None})
        assert repository.list_sessions(metadata={text: text})[0].session_id == f"{text} 2"
        repository.delete_session(text)
        assert repository.delete_sessions(metadata={text: text}) == 1
    assert schema(db) == before
    assert_is_stored(db, "untouched", untouched)


@pytest.mark.parametrize("text", SQL)
def test_sql_in_every_argument_is_a_string(db: Path, text: str) -> None:
    untouched = store(db, "untouched")
    store(db, text)
    before = schema(db)
    found = run("search", "--session", text, "--agent", text, "--json", "--", text, db=db)
    assert {json.loads(line)["session_id"] for line in found.out.splitlines()} == {text}
    assert len(run("list", "--metadata", f"x={text}", db=db).out.splitlines()) == 1
    for arguments in (
        ("show", "--agent", text, "--", text),
        ("fork", "--agent", text, "--through", "1", "--", text, f"{text} 2"),
        ("tag", "--", f"{text} 2", f"x={text}", f"{text.replace('=', '')}=x"),
        ("export", "-o", str(db.with_suffix(".jsonl")), "--", text),
        ("delete", "--yes", "--", text),
        ("import", str(db.with_suffix(".jsonl"))),
        ("prune", "--older-than", "0m", "--metadata", f"x={text}", "--yes"),
    ):
        ended = run(*arguments, db=db)
        assert (ended.code, ended.err) == (0, ""), arguments
    assert sorted(json.loads(line)["session_id"] for line in run("list", "--json", db=db).out.splitlines()) == sorted(
        ["untouched", text]
    )
    assert schema(db) == before
    assert_is_stored(db, "untouched", untouched)


# -- ids of 10,000 characters --


@pytest.mark.long
@pytest.mark.parametrize("character", tier(["x", "é", "\U0001f9ed", "'", "\u202e"], quick=["\u202e"]), ids=ascii)
def test_ids_and_names_of_10_000_characters_are_like_any_other(db: Path, character: str) -> None:
    long = character * 10_000
    assert_is_stored(db, long, store(db, long))
    for arguments in (
        ("list",),
        ("list", "--json", "--metadata", f"{long}={long}"),
        ("show", long, "--agent", long),
        ("show", long, "--format", "markdown"),
        ("search", long, "--session", long, "--agent", long),
        ("fork", long, f"{long}2", "--through", "1", "--agent", long),
        ("tag", f"{long}2", f"{long}=", "a=b"),
        ("export", long, "-o", str(db.with_suffix(".jsonl"))),
        ("delete", long, f"{long}2", "--yes"),
        ("import", str(db.with_suffix(".jsonl"))),
        ("check",),
    ):
        ended = run(*arguments, db=db)
        assert (ended.code, ended.err) == (0, ""), arguments[0]
    assert [json.loads(line)["session_id"] for line in run("list", "--json", db=db).out.splitlines()] == [long]
    ended = run("show", f"{long}no", db=db)
    assert (ended.code, ended.err.count("\n")) == (1, 1)


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="there, a command line has 32,767 characters")
def test_a_separate_process_takes_ids_of_10_000_characters(db: Path) -> None:
    long = "é" * 10_000
    store(db, long)
    ended = in_a_process("--db", db, "show", long, "--agent", long)
    assert (ended.code, ended.err) == (0, "")
    assert long in ended.out


# -- messages of 50 MB --


def sized(megabytes: int) -> str:
    """Return a text of this many MB, with something to find at its end."""
    return "All work and no play. " * (megabytes * 1024 * 1024 // 22) + "needle in the haystack"


def assert_large_messages_are_like_any_other(db: Path, megabytes: int) -> None:
    text = sized(megabytes)
    picture = {"image": {"format": "png", "source": {"bytes": os.urandom(megabytes * 1024 * 1024)}}}
    with SQLiteSessionManager("large", db) as manager:
        agent = build(manager, [tool_use("shout", "t1", text=text)], "heard")
        agent([{"text": text}, picture])
        messages = agent.messages
    with SQLiteSessionManager("large", db) as manager:
        assert build(manager).messages == messages
        assert [item.to_message() for item in manager.list_messages("large", "default")] == messages
        found = manager.search_messages("needle in the haystack")
        assert sorted(match.message_id for match in found) == [0, 1, 2]
        assert all(match.snippet.lower().endswith("needle in the haystack") for match in found)
        assert manager.list_sessions()[0].preview == text[:100]
        manager.fork_session("large", "fork", through_message=0)
        assert manager.check() == []
    shown = run("show", "large", db=db)
    assert shown.code == 0
    assert len(shown.out) > 3 * len(text)
    for line, message in zip(run("show", "large", "--json", db=db).out.splitlines(), messages, strict=True):
        assert json.loads(line)["message"]["role"] == message["role"]
    assert run("export", "large", "-o", db.with_suffix(".jsonl"), db=db).code == 0
    copy = db.with_name("copy.db")
    ended = run("import", "--create", db.with_suffix(".jsonl"), db=copy)
    assert (ended.code, ended.err) == (0, "")
    with SQLiteSessionManager("large", copy) as manager:
        agent = build(manager)
        assert agent.messages == messages
        agent("go on")
        manager.delete_session("large")
    assert b"no play" not in copy.read_bytes()


@pytest.mark.long
def test_messages_of_a_megabyte_are_like_any_other(db: Path) -> None:
    assert_large_messages_are_like_any_other(db, 1)


@pytest.mark.long
def test_messages_of_50_megabytes_are_like_any_other(db: Path, scaled: Callable[[int], int]) -> None:
    """A text, a tool's input, its result and a picture of 50 MB each."""
    assert_large_messages_are_like_any_other(db, scaled(50))


# -- every plane --


EVERY = [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]  # assigned or not, except the surrogates
PART = 70_000


@pytest.mark.parametrize("part", [EVERY[:PART], EVERY[PART::31]], ids=["the first plane", "of all planes"])
def test_text_of_every_plane_is_stored_found_shown_and_moved(db: Path, part: list[int]) -> None:
    assert_is_stored_found_shown_and_moved(db, "".join(map(chr, part)))


@pytest.mark.long
def test_every_code_point_is_stored_found_shown_and_moved(tmp_path: Path, scaled: Callable[[int], int]) -> None:
    """All 1,112,064 code points."""
    for start in range(0, scaled(len(EVERY)), PART):
        assert_is_stored_found_shown_and_moved(tmp_path / f"{start}.db", "".join(map(chr, EVERY[start : start + PART])))


def assert_is_stored_found_shown_and_moved(db: Path, text: str) -> None:
    with SQLiteSessionManager("planes", db) as manager:
        agent = build(manager, [tool_use("shout", "t1", text=text)], f"heard {text}", state={"text": text})
        agent(f"find me {text}")
        messages = agent.messages
    with SQLiteSessionManager("planes", db, metadata={"text": text}) as manager:
        assert build(manager).messages == messages
        assert manager.list_sessions(metadata={"text": text})[0].preview.startswith("find me")
        for start in range(0, len(text) - 50, 9973):
            assert len(manager.search_messages(text[start : start + 50])) >= 3
        assert manager.check() == []
    for arguments in (
        ("list",),
        ("show", "planes"),
        ("show", "planes", "--json"),
        ("search", "find me"),
        ("export", "--all"),
    ):
        ended = run(*arguments, db=db)
        assert (ended.code, ended.err) == (0, "")
        assert not OBEYED.search(ended.out)
    lines = [json.loads(line) for line in run("show", "planes", "--json", db=db).out.splitlines()]
    assert [line["message"] for line in lines] == messages
    copy = db.with_suffix(".copy")
    assert run("export", "--all", "-o", db.with_suffix(".jsonl"), db=db).code == 0
    assert run("import", "--create", db.with_suffix(".jsonl"), db=copy).code == 0
    with SQLiteSessionManager("planes", copy) as manager:
        agent = build(manager)
        assert agent.messages == messages
        assert agent.state.get("text") == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff",
            "".join(map(chr, range(0x20))),
            "".join(map(chr, range(0x7F, 0xA0))),
        ),
        *(
            "\u202eabc\u2066\u2067\u2068\u2069\u061c\u200e\u200f",
            "\ufeff",
            "a\0b\0",
            "\ud83d alone \ude00",
            "e\u0301\u0302" * 99,
        ),
        *(
            "\U000e0001\U000e0041",
            "\ufe0f\u200d",
            "\u0131 \u0130 \u00df \u017f \u212a \u0149 \u01f0",
            "\u2028\u2029\x85",
        ),
    ],
    ids=ascii,
)
def test_odd_characters_are_found_as_they_were_said(db: Path, text: str) -> None:
    is_unicode = not re.search("[\ud800-\udfff]", text)
    metadata = {"key": text} if is_unicode else {}  # which refuse lone surrogates; messages do not
    with SQLiteSessionManager("odd", db, metadata=metadata) as manager:
        agent = build(manager, f"before {text} behind")
        agent(text)
        assert {match.message_id for match in manager.search_messages(text)} == {0, 1}
        assert [summary.session_id for summary in manager.list_sessions(metadata=metadata)] == ["odd"]
        if not is_unicode:
            with pytest.raises(ValueError, match=r"metadata\['key'\] \| cannot contain lone surrogates"):
                manager.update_session_metadata("odd", {"key": text})
        messages = agent.messages
    with SQLiteSessionManager("odd", db) as manager:
        assert build(manager).messages == messages
    ended = run("search", "--json", "--", text, db=db) if "\0" not in text else run("list", "--json", db=db)
    assert ended.code == 0
    assert not OBEYED.search(ended.out)
    assert re.search("odd", ended.out)
