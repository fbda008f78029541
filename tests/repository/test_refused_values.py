"""A value that JSON cannot hold exactly is refused with its place, and nothing is stored.

A row whose JSON is broken is an error that names the row and repeats nothing of its content.
"""

import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.records import Orchestrator, dump, message, query
from ..support.scripted_model import ScriptedModel
from ..support.value_places import PLACES, Place, prepared

Point = namedtuple("Point", "x y")

UNSTORABLE: dict[str, Any] = {
    "set": {1, 2},
    "object": object(),
    "complex": 1j,
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "datetime": datetime(2026, 1, 31, tzinfo=timezone.utc),
    "Decimal": Decimal("1.5"),
    "tuple": (1, 2),
    "namedtuple": Point(1, 2),
    "empty tuple": (),
    "int key": {1: "one"},
    "bool key": {True: "yes"},
    "None key": {None: 0},
    "bytes key": {b"key": 0},
    "tuple key": {(1, 2): 0},
    "surrogate pair": "\ud83d\ude00",
    "surrogate pair in a key": {"\ud83d\ude00": 0},
}
if getattr(sys, "get_int_max_str_digits", lambda: 0)():
    UNSTORABLE["integer of 5,000 digits"] = 10**4999
MALFORMED = {
    "cut off": '{"x": "the secret',
    "no JSON": "the secret",
    "empty": "",
    "more after it": '{"x": 1} the secret',
    "bytes that are no base64": '{"x": {"__bytes_encoded__": MARK, "data": "the secret!"}, "secret": "the secret"}',
    "bytes that are not text": '{"x": {"__bytes_encoded__": MARK, "data": 5}, "secret": "the secret"}',
    "nested without end": "[" * 100_000 + '"the secret"',
}

each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


@pytest.fixture
def repository(path: Path) -> Iterator[SQLiteSessionManager]:
    with prepared(path) as manager:
        yield manager


# -- values --


@each_place
@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_json_cannot_hold_is_refused_with_its_place_and_stores_nothing(
    repository: SQLiteSessionManager, path: Path, place: Place, value: Any
) -> None:
    place.store(repository, "before")
    before = dump(path)
    for wrapped, where in ((value, ""), ({"list": ["fine", {"deep": value}]}, "['list'][1]['deep']")):
        with pytest.raises(SessionException) as refusal:
            place.store(repository, wrapped)
        assert str(refusal.value).startswith(f"{place.name}{place.where}{where} cannot be stored as JSON: ")
    assert dump(path) == before
    assert place.read(repository) == "before"


@each_place
def test_what_contains_itself_is_refused_and_stores_nothing(
    repository: SQLiteSessionManager, path: Path, place: Place
) -> None:
    circle: list[Any] = []
    circle.append({"again": circle})
    before = dump(path)
    with pytest.raises(SessionException, match=rf"^{place.name}.* cannot be stored as JSON: it contains itself"):
        place.store(repository, circle)
    assert dump(path) == before


# In a message and an agent, upstream's mark turns a dict into bytes; an orchestrator may hold that mark, but not ours.
@each_place
def test_a_dict_that_would_come_back_as_bytes_is_refused(
    repository: SQLiteSessionManager, path: Path, place: Place
) -> None:
    mark: Any = "raw" if place.table == "multi_agents" else True
    before = dump(path)
    with pytest.raises(SessionException) as refusal:
        place.store(repository, [{"__bytes_encoded__": mark, "data": "AAAA"}])
    assert str(refusal.value).startswith(f"{place.name}{place.where}[0] cannot be stored as JSON: ")
    assert dump(path) == before


def test_an_agent_is_not_created_with_a_value_that_json_cannot_hold(
    repository: SQLiteSessionManager, path: Path
) -> None:
    before = dump(path)
    unstorable = [{"role": "user", "content": [{"text": "fine"}]}, {"role": "assistant", "content": [{"x": {1}}]}]
    with pytest.raises(SessionException, match=r"^messages\[1\]\['content'\]\[0\]\['x'\] cannot be stored as JSON: "):
        _resume(repository, agent_id="bob", messages=unstorable)
    assert dump(path) == before


@pytest.mark.parametrize(
    "metadata", [{"name": "\ud83d\ude00"}, {"name": "a\ud800"}, {"\udfff": "a"}], ids=["pair", "lone", "key"]
)
def test_metadata_with_surrogates_is_refused_and_creates_no_session(
    repository: SQLiteSessionManager, path: Path, metadata: dict[str, str]
) -> None:
    before = dump(path)
    with pytest.raises(ValueError, match=r"^metadata\['.*'\] \| cannot contain lone surrogates$"):
        SQLiteSessionManager("new", path, metadata=metadata)
    with pytest.raises(ValueError, match=r"^metadata\['.*'\] \| cannot contain lone surrogates$"):
        repository.update_session_metadata("home", metadata)
    assert dump(path) == before


# -- rows --


def _resume(manager: SQLiteSessionManager, agent_id: str = "ada", **arguments: Any) -> Agent:
    return Agent(model=ScriptedModel(), session_manager=manager, agent_id=agent_id, callback_handler=None, **arguments)


READERS: dict[str, list[Callable[[SQLiteSessionManager], Any]]] = {
    "messages": [
        lambda manager: manager.read_message("home", "ada", 0),
        lambda manager: manager.list_messages("home", "ada"),
        _resume,
    ],
    "agents": [
        lambda manager: manager.read_agent("home", "ada"),
        lambda manager: manager.list_agents("home"),
        _resume,
    ],
    "multi_agents": [
        lambda manager: manager.read_multi_agent("home", "graph"),
        lambda manager: manager.initialize_multi_agent(Orchestrator("graph")),
    ],
}
ROW_NAMES = {"messages": ("home", "ada", "0"), "agents": ("home", "ada"), "multi_agents": ("home", "graph")}


@each_place
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_json_in_a_row_is_an_error_that_names_the_row_and_repeats_nothing_of_it(
    repository: SQLiteSessionManager, path: Path, place: Place, text: str
) -> None:
    mark = '"raw"' if place.table == "multi_agents" else "true"
    query(path, f"UPDATE {place.table} SET {place.column} = ?", text.replace("MARK", mark))
    for read in READERS[place.table]:
        with pytest.raises(SessionException) as failure:
            read(repository)
        assert set(ROW_NAMES[place.table]) <= set(str(failure.value).split())
        assert "secret" not in str(failure.value)


@each_place
@pytest.mark.parametrize("expression", ["CAST(? AS TEXT)", "?"], ids=["text", "blob"])
def test_a_row_that_is_not_unicode_is_an_error_that_repeats_nothing_of_it(
    repository: SQLiteSessionManager, path: Path, place: Place, expression: str
) -> None:
    query(path, f"UPDATE {place.table} SET {place.column} = {expression}", b'{"x": "the secret \xff"}')
    for read in READERS[place.table]:
        with pytest.raises(SessionException) as failure:
            read(repository)
        assert "secret" not in str(failure.value)


@pytest.mark.parametrize(("table", "column"), [("agents", "context"), ("messages", "edited_message")])
def test_a_malformed_context_is_an_error_that_names_the_row_and_repeats_nothing_of_it(
    repository: SQLiteSessionManager, path: Path, table: str, column: str
) -> None:
    _resume(repository)("hello")
    query(path, f"UPDATE {table} SET {column} = ?", MALFORMED["cut off"])
    with SQLiteSessionManager("home", path) as other, pytest.raises(SessionException) as failure:
        _resume(other)
    assert set(ROW_NAMES[table]) <= set(str(failure.value).split())
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("parts", ["5", '["the secret"]', "[[0]]", "[[0, 1, 2]]", '[["the secret", null]]'])
def test_a_context_of_another_shape_is_an_error_that_names_the_row_and_repeats_nothing_of_it(
    repository: SQLiteSessionManager, path: Path, parts: str
) -> None:
    _resume(repository)("hello")
    query(path, "UPDATE agents SET context = ?", parts)
    with SQLiteSessionManager("home", path) as other, pytest.raises(SessionException) as failure:
        _resume(other)
    assert set(ROW_NAMES["agents"]) <= set(str(failure.value).split())
    assert "secret" not in str(failure.value)


def test_metadata_that_is_not_unicode_is_an_error_that_repeats_nothing_of_it(
    repository: SQLiteSessionManager, path: Path
) -> None:
    repository.update_session_metadata("home", {"user": "42"})
    query(path, "UPDATE session_metadata SET value = CAST(? AS TEXT)", b"the secret \xff")
    with pytest.raises(SessionException, match="not UTF-8") as failure:
        repository.list_sessions()
    assert "secret" not in str(failure.value)
    with SQLiteSessionManager("home", path, metadata={"user": "mended"}) as other:
        assert [found.metadata for found in other.list_sessions()] == [{"user": "mended"}]


def test_one_malformed_row_does_not_hide_the_others(repository: SQLiteSessionManager, path: Path) -> None:
    for message_id in (1, 2):
        repository.create_message("home", "ada", message(message_id, f"text {message_id}"))
    query(path, "UPDATE messages SET message = '{' WHERE message_id = 1")
    assert [found.message_id for found in repository.list_messages("home", "ada", limit=1, offset=2)] == [2]
    assert repository.read_message("home", "ada", 0) is not None
    repository.update_message("home", "ada", message(1, "mended"))
    assert len(repository.list_messages("home", "ada")) == 3
