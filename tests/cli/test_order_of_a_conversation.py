"""A conversation is in the order of its message ids, whatever the clock said."""

import json
from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.command_line import run
from ..support.dated_records import add_message, add_session, said

WORDS = ["question one", "answer one", "question two", "answer two"]


@pytest.fixture
def conversation(path: Path) -> Path:
    """A conversation during which the clock was set back by an hour."""
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "session")
        for number, words in enumerate(WORDS):
            minute = number if number < 1 else number - 60
            add_message(
                repository, "session", minute, said(words, ("user", "assistant")[number % 2]), message_id=number
            )
    return path


@pytest.mark.parametrize("format_", ["text", "markdown", "json"])
def test_show_keeps_the_order_of_a_conversation_when_the_clock_was_set_back(format_: str, conversation: Path) -> None:
    options = {"text": [], "markdown": ["--format", "markdown"], "json": ["--json"]}[format_]
    ended = run("show", "session", *options, db=conversation)
    assert ended.code == 0, ended.err
    places = [ended.out.index(words) for words in WORDS]
    assert places == sorted(places)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_show_with_a_limit_shows_the_last_messages_by_their_ids(limit: int, conversation: Path) -> None:
    ended = run("show", "session", "--limit", limit, db=conversation)
    assert [words for words in WORDS if words in ended.out] == WORDS[-limit:]


def test_show_keeps_the_order_of_each_agent(path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "session", agent_ids=["ada", "bob"])
        for number in range(4):
            for agent_id, minute in (("ada", -number), ("bob", number)):
                words = f"{agent_id} {number}"
                add_message(repository, "session", minute, words, agent_id=agent_id, message_id=number)
    shown = run("show", "session", db=path).out
    for agent_id in ("ada", "bob"):
        places = [shown.index(f"{agent_id} {number}") for number in range(4)]
        assert places == sorted(places)


def test_the_other_readers_keep_the_order_too(conversation: Path) -> None:
    exported = [json.loads(line) for line in run("export", "session", db=conversation).out.splitlines()]
    said_in_order = [words for line in exported for words in WORDS if words in json.dumps(line)]
    assert said_in_order == WORDS
    with SQLiteSessionRepository(conversation) as repository:
        found = repository.list_messages("session", "ada")
        assert [message.message["content"][0]["text"] for message in found] == WORDS
        (summary,) = repository.list_sessions()
        assert WORDS[0] in str(summary.preview)
