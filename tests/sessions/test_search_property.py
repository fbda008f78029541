"""A search finds the same messages as reading every one of them does, whatever the letters."""

import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strands_sqlite_session_manager import SQLiteSessionRepository

from ..support.dated_records import add_message, add_session


def found(repository: SQLiteSessionRepository, text: str, limit: int | None = None) -> list[int]:
    """Return the ids of the messages that a search finds, in its order."""
    return [match.message_id for match in repository.search_messages(text, limit=limit)]


characters = st.sampled_from(
    [*'aSskfi"\\\n\0%_~ ,', *"ßẞ\u017f\u212aﬁﬃİ\u0131Σςé中😀", "e\u0301", "\u0390", "\u0301", "\udcff"]
)
texts = st.lists(characters, max_size=8).map("".join)
wanted_texts = st.lists(characters, min_size=1, max_size=3).map("".join)
inputs = st.recursive(
    texts | st.integers(-9, 99) | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
blocks = (
    texts.map(lambda text: {"text": text})
    | inputs.map(lambda value: {"toolUse": {"toolUseId": "t", "name": "f", "input": value}})
    | texts.map(lambda text: {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": text}]}})
)
messages = st.lists(st.lists(blocks, max_size=2), max_size=6)


def strings_in(value: Any) -> Iterator[str]:
    """Return all that a tool's input says: its keys and values one by one."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *strings_in(item))
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
    else:
        yield value if isinstance(value, str) else "null" if value is None else str(value)


def words_of(block: dict[str, Any]) -> Iterator[str]:
    if "text" in block:
        yield block["text"]
    elif "toolUse" in block:
        yield from (block["toolUse"]["name"], *strings_in(block["toolUse"]["input"]))
    else:
        yield block["toolResult"]["content"][0]["text"]


def test_a_search_finds_what_reading_every_message_finds() -> None:
    search_at_random(30)


@pytest.mark.long
def test_thousands_of_searches_find_what_reading_every_message_finds(scaled: Callable[[int], int]) -> None:
    search_at_random(scaled(10_000))


def search_at_random(examples: int) -> None:
    searches = given(contents=messages, wanted=wanted_texts, limit=st.none() | st.integers(0, 3))(compare)
    settings(max_examples=examples, deadline=None, database=None)(searches)()


def compare(contents: list[list[dict[str, Any]]], wanted: str, limit: int | None) -> None:
    with SQLiteSessionRepository(":memory:") as repository:
        add_session(repository, "a")
        for number, content in enumerate(contents):
            add_message(repository, "a", number, {"role": "user", "content": content}, message_id=number)
        expected = [
            number
            for number, content in enumerate(contents)
            if any(wanted.casefold() in words.casefold() for block in content for words in words_of(block))
        ]
        assert found(repository, wanted, limit) == expected[::-1][:limit]


@pytest.mark.long
def test_every_letter_finds_every_other_letter_that_it_folds_to() -> None:
    repository = SQLiteSessionRepository(":memory:")
    add_session(repository, "a")
    letters = [chr(code) for code in range(0x110000) if chr(code).casefold() != chr(code).lower()]
    for number, letter in enumerate(letters):
        add_message(repository, "a", number, letter, message_id=number)
    missed = {
        wanted
        for wanted in {*string.ascii_lowercase, *"".join(letters).casefold()}
        if set(found(repository, wanted))
        != {number for number, letter in enumerate(letters) if wanted in letter.casefold()}
    }
    assert missed == set()
