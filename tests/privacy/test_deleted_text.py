"""`vacuum()` leaves nothing of what was deleted or redacted, and the write-ahead log loses it before that.

Deletion overwrites what it removes and empties the write-ahead log if no reader needs it. SQLite can still leave a
fragment of a row that it moved between pages; `vacuum()` rewrites the file without any. These tests read raw bytes.
"""

import itertools
import random
import re
import sqlite3
import string
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.conversations import build
from ..support.records import Orchestrator, agent, message, session
from ..support.scripted_model import REDACT_INPUT

LENGTHS = (50, 200, 600, 1000, 3000, 9000)  # characters: rows that share a page, fill one, and need several
WORD = re.compile(rb"~[A-Z]{7}")
"""What every text here is made of; no word is used twice."""


def unique_words() -> Iterator[str]:
    """Yield words that differ from each other in most letters."""
    for number in itertools.count(1):
        letters = (number * 1_234_567_891 // 26**position % 26 for position in range(7))  # prime to 26
        yield f"~{''.join(string.ascii_uppercase[letter] for letter in letters)}"


def words_in(*texts: str) -> set[bytes]:
    """Return the words that texts are made of."""
    return set(WORD.findall("".join(texts).encode()))


def words_on_disk(path: Path, *suffixes: str) -> set[bytes]:
    """Return the words in a database and its write-ahead log, or in one of the two."""
    files = [path.with_name(f"{path.name}{suffix}") for suffix in suffixes or ("", "-wal")]
    return set(WORD.findall(b"".join(file.read_bytes() for file in files if file.exists())))


def assert_holds_only(path: Path, *texts: str) -> None:
    """Expect the words of some texts on the disk, and no others; a page can end in the middle of a word."""
    found, expected = words_on_disk(path), words_in(*texts)
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)


class Texts:
    """Texts of varying lengths, made of words that occur nowhere else."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = unique_words()

    def __call__(self, *lengths: int) -> str:
        length = self._random.choice(lengths or LENGTHS)
        return "".join(next(self._words) for _ in range(0, length, 8))


def converse(path: Path, text: Texts, turns: int = 8) -> tuple[str, list[str]]:
    """Have a real agent converse in a new session; return its id and every text that the file holds of it."""
    session_id, user, secret = text(20), text(20), text()
    prompts, replies = [text() for _ in range(turns)], [text() for _ in range(turns)]
    state, step = text(600), text(600)
    with SQLiteSessionManager(session_id, path, metadata={"user_id": user}, synchronous="NORMAL") as manager:
        speaker = build(manager, *replies, REDACT_INPUT, state={"kept": state})
        for prompt in prompts:
            speaker(prompt)
        speaker(secret)  # the guardrail takes it back
        manager.create_multi_agent(session_id, Orchestrator("graph", {"step": step}))  # type: ignore[arg-type]
    return session_id, [session_id, user, state, step, *prompts, *replies]


def test_vacuum_leaves_nothing_of_deleted_and_redacted_conversations(path: Path) -> None:
    text = Texts(1)
    stored = dict(converse(path, text) for _ in range(8))
    doomed = list(stored)[::2]
    with SQLiteSessionRepository(path) as repository:
        for session_id in doomed[:-2]:
            repository.delete_session(session_id)
        for session_id in doomed[-2:]:
            user_id = stored[session_id][1]
            assert repository.delete_sessions(metadata={"user_id": user_id}) == 1
        for session_id in doomed:
            del stored[session_id]
        repository.vacuum()
        assert_holds_only(path, *itertools.chain(*stored.values()))  # the prompts that were redacted are gone, too
        assert repository.check() == []
        assert {summary.session_id for summary in repository.list_sessions()} == set(stored)


def test_vacuum_leaves_nothing_of_values_that_were_replaced(path: Path) -> None:
    text = Texts(3)
    replaced: list[str] = []
    with SQLiteSessionManager("home", path, metadata={"title": "x"}, synchronous="NORMAL") as manager:
        manager.create_agent("home", agent("ada"))
        manager.create_message("home", "ada", message(0))
        manager.create_multi_agent("home", Orchestrator("graph"))  # type: ignore[arg-type]
        for number in range(40):
            title, key, state, step, said = text(200), text(20), text(), text(), text()
            replaced += [title, key, state, step, said]
            manager.update_session_metadata("home", {"title": title, key: "x"})
            manager.update_session_metadata("home", {key: None})
            manager.update_agent("home", agent("ada", state={"x": state}))
            manager.update_multi_agent("home", Orchestrator("graph", {"x": step}))  # type: ignore[arg-type]
            manager.update_message("home", "ada", message(0, said))
            manager.create_session(session(f"other {number}"))
        manager.vacuum()
        assert_holds_only(path, title, state, step, said)
        manager.delete_session("home")
        manager.vacuum()
        assert words_on_disk(path) == set()
        manager.backup(path.with_name("backup.db"))
    assert words_on_disk(path.with_name("backup.db")) == set()


def test_vacuum_leaves_nothing_that_another_program_deleted_without_overwriting(path: Path) -> None:
    text = Texts(4)
    said = [text(1000) for _ in range(200)]
    with SQLiteSessionManager("home", path, synchronous="NORMAL") as manager:
        manager.create_agent("home", agent("ada"))
        for number, words in enumerate(said):
            manager.create_message("home", "ada", message(number, words))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA secure_delete = OFF")
        other.execute("DELETE FROM messages WHERE message_id % 10")
    assert not words_on_disk(path) <= words_in(*said[::10])
    with SQLiteSessionRepository(path) as repository:
        repository.vacuum()
        assert_holds_only(path, *said[::10])


def test_a_fork_keeps_what_was_said_until_it_is_deleted_as_well(path: Path) -> None:
    session_id, texts = converse(path, Texts(5))
    with SQLiteSessionRepository(path) as repository:
        repository.fork_session(session_id, "fork")
        repository.delete_session(session_id)
        repository.vacuum()
        assert_holds_only(path, *texts)  # the id as well, as what the fork is of
        repository.delete_session("fork")
        repository.vacuum()
        assert words_on_disk(path) == set()


def test_deleted_text_leaves_the_write_ahead_log_if_nobody_is_reading(path: Path) -> None:
    text = Texts(6)
    with SQLiteSessionRepository(path) as repository:  # as long as it is open, SQLite keeps the WAL
        session_id, texts = converse(path, text)
        assert words_on_disk(path, "-wal") & words_in(*texts)
        repository.delete_session(session_id)
        assert not words_on_disk(path, "-wal") & words_in(*texts)

        session_id, texts = converse(path, text)
        assert repository.delete_sessions(metadata={"user_id": texts[1]}) == 1
        assert not words_on_disk(path, "-wal") & words_in(*texts)


def test_redacted_text_leaves_the_write_ahead_log_if_nobody_is_reading(path: Path) -> None:
    secret = Texts(7)(3000)
    with SQLiteSessionManager("home", path) as manager:
        speaker = build(manager, "hello", REDACT_INPUT)
        speaker("hello")
        speaker(secret)
        assert not words_on_disk(path, "-wal") & words_in(secret)


def test_a_deletion_neither_waits_for_a_reader_nor_fails_and_the_next_one_empties_the_wal(path: Path) -> None:
    text = Texts(8)
    with SQLiteSessionRepository(path) as repository:
        first, texts = converse(path, text)
        second, _ = converse(path, text)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sessions").fetchone()
            begun = time.monotonic()
            repository.delete_session(first)
            assert time.monotonic() - begun < 20  # rather than the 30 that a write may wait
            assert words_on_disk(path) & words_in(*texts)  # the reader still sees it
        repository.delete_session(second)
        assert not words_on_disk(path, "-wal") & words_in(*texts)


def test_vacuum_raises_while_a_reader_keeps_it_from_its_promise(path: Path) -> None:
    with SQLiteSessionRepository(path, timeout=0.3) as repository:
        session_id, texts = converse(path, Texts(9))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sessions").fetchone()
            repository.delete_session(session_id)
            with pytest.raises(SessionException, match=re.escape(str(path))):
                repository.vacuum()
        repository.vacuum()
        assert not words_on_disk(path) & words_in(*texts)
        assert repository.check() == []


def test_deletion_and_vacuum_work_in_memory() -> None:
    with SQLiteSessionRepository(":memory:") as repository:
        repository.create_session(session("session"))
        repository.delete_session("session")
        repository.vacuum()
        assert repository.list_sessions() == []
