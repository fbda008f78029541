"""What goes in comes out equal, whatever it is and wherever it is, and is stored in upstream's form.

"Equal" means an equal `repr`: unlike `==`, it takes one NaN for another, and tells 1 from 1.0 and True, 0.0 from -0.0,
and one order of keys from another.
"""

import base64
import json
import sys
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, IntEnum
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands import Agent
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.records import Orchestrator, query
from ..support.scripted_model import ScriptedModel
from ..support.value_places import AGENT_PLACES, MESSAGE_PLACES, PLACES, Place, prepared

UPSTREAM_STORES_BYTES_IN_AGENTS = SessionAgent("ada", {"x": b""}, {}).to_dict()["state"]["x"] != b""


def _join_surrogate_pairs(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


# Every character, lone surrogates included; a pair of them is refused, see test_refused_values.py.
texts = st.text(st.characters()).map(_join_surrogate_pairs)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**300), 10**300)
    | st.floats()
    | texts
    | st.binary(max_size=20)
)
looking_like_bytes = st.fixed_dictionaries(
    {"__bytes_encoded__": st.sampled_from([1, 1.0, False, None, "true", [True]]), "data": texts}
) | st.fixed_dictionaries({"__bytes_encoded__": st.just(True), "text": texts})
values = st.recursive(
    leaves | looking_like_bytes,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
value_property = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)

NAMED_VALUES: dict[str, Any] = {
    "nested": {"a": [{"b": [{"c": [None, True, {"d": "e"}]}]}]},
    "empty containers": [{}, [], "", b"", [[], {}], {"": {}}],
    "bytes at any depth": [b"\x00\xff", {"a": {"b": [b"", [bytes(range(256))]]}}],
    "NUL": {"a\x00b": "\x00", "\x00": "\x00\x00end"},
    "lone surrogates": {"\ud800": ["\udfff", "a\udc00b", "\udc00\ud800"]},
    "escapes that are text": ['\\ud83d"\\', "\\u0000", "\\\ud83d", '"quoted"', "line\u2028end\u2029", "\x7f\x1f\b"],
    "NaN and infinities": [float("nan"), float("inf"), {"low": -float("inf")}],
    "floats": [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 123456789.123456789, 1e-7],
    "integers past 64 bits": [2**63, -(2**63) - 1, 2**64, 10**4000],
    "numbers and booleans apart": [0, 0.0, False, 1, 1.0, True, "1", None, "None"],
    "keys in their order": {"z": 1, "a": 2, "m": 3, "A": 4, "": 5},
    "keys upstream knows": {"message": {"message_id": 3}, "redact_message": None, "created_at": 0, "role": []},
    "like bytes without data": {"__bytes_encoded__": True},
    "like bytes of another type": [{"__bytes_encoded__": flag, "data": "AAAA"} for flag in (1, 1.0, "True", False)],
    "data alone": {"data": "AAAA"},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values") / "sessions.db"


@pytest.fixture(scope="module")
def repository(path: Path) -> Iterator[SQLiteSessionManager]:
    with prepared(path) as manager:
        yield manager


# -- in and out --


@each_place
@value_property
@given(value=values)
def test_any_value_comes_out_equal(repository: SQLiteSessionManager, place: Place, value: Any) -> None:
    place.store(repository, value)
    assert repr(place.read(repository)) == repr(value)


@each_place
@pytest.mark.parametrize("value", NAMED_VALUES.values(), ids=NAMED_VALUES)
def test_a_hostile_value_comes_out_equal(repository: SQLiteSessionManager, place: Place, value: Any) -> None:
    place.store(repository, value)
    assert repr(place.read(repository)) == repr(value)


@each_place
def test_every_character_comes_out_equal(repository: SQLiteSessionManager, place: Place) -> None:
    characters = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))
    surrogates = " ".join(map(chr, range(0xD800, 0xE000)))
    place.store(repository, [characters, surrogates])
    assert place.read(repository) == [characters, surrogates]


@each_place
def test_a_subclass_of_a_plain_type_comes_out_as_the_plain_value(
    repository: SQLiteSessionManager, place: Place
) -> None:
    class Color(str, Enum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 3

    class Text(str):
        __slots__ = ()

    class Number(float):
        __slots__ = ()

    class Data(bytes):
        __slots__ = ()

    class Items(list[Any]):
        pass

    place.store(
        repository, OrderedDict({Text("key"): Items([Color.RED, Level.HIGH, Text("é"), Number(0.1), Data(b"\xff")])})
    )
    assert repr(place.read(repository)) == repr({"key": ["red", 3, "é", 0.1, b"\xff"]})


@each_place
def test_stored_values_do_not_follow_changes_to_the_original(repository: SQLiteSessionManager, place: Place) -> None:
    value = {"list": [1, {"deep": 2}]}
    place.store(repository, value)
    value["list"].append(3)
    read = place.read(repository)
    read["list"].append(4)
    assert place.read(repository) == {"list": [1, {"deep": 2}]}


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}], ids=["lists", "dicts"])
@each_place
def test_a_value_nested_as_deeply_as_is_accepted_can_be_read_from_a_deeper_stack(
    repository: SQLiteSessionManager, place: Place, wrap: Callable[[Any], Any]
) -> None:
    def nested(depth: int) -> Any:
        return reduce(lambda value, _: wrap(value), range(depth), b"\xff")

    def is_refused(depth: int) -> bool:
        try:
            place.store(repository, nested(depth))
        except SessionException:
            return True
        return False

    def store_deepest() -> int:
        depth = bisect_left(range(5000), True, key=is_refused) - 1
        place.store(repository, nested(depth))
        return depth

    with ThreadPoolExecutor(1) as shallow_stack:
        depth = shallow_stack.submit(store_deepest).result()
    assert depth >= 100
    read = place.read(repository)
    for _ in range(depth):
        ((read,),) = [read.values() if isinstance(read, dict) else read]
    assert read == b"\xff"


@settings(value_property, max_examples=10)
@given(contents=st.lists(values, max_size=3))
def test_a_resumed_agent_holds_any_messages_equal(
    tmp_path_factory: pytest.TempPathFactory, contents: list[Any]
) -> None:
    file = tmp_path_factory.mktemp("agent") / "sessions.db"
    with SQLiteSessionManager("home", file) as first, SQLiteSessionManager("home", file) as second:
        live = _agent(first, messages=[{"role": "user", "content": [{"text": "hi", "x": item}]} for item in contents])
        live.messages.append({"role": "user", "content": [{"text": "late", "x": contents}]})
        first.append_message(live.messages[-1], live)
        assert repr(_agent(second).messages) == repr(live.messages)


def _agent(manager: SQLiteSessionManager, **arguments: Any) -> Agent:
    return Agent(model=ScriptedModel(), session_manager=manager, agent_id="ada", callback_handler=None, **arguments)


# -- the stored form --


@pytest.mark.parametrize("place", MESSAGE_PLACES.values(), ids=MESSAGE_PLACES)
@value_property
@given(value=values)
def test_a_stored_message_is_what_upstream_writes_and_reads(
    repository: SQLiteSessionManager, path: Path, place: Place, value: Any
) -> None:
    place.store(repository, value)
    stored = json.loads(place.stored_text(path))

    record: Any = {"message": {}, place.name: stored, "message_id": 0}
    upstreams = SessionMessage.from_dict(record)
    assert repr(place.value_in(getattr(upstreams, place.name))) == repr(value)
    assert repr(upstreams.to_dict()[place.name]) == repr(stored)


@pytest.mark.skipif(not UPSTREAM_STORES_BYTES_IN_AGENTS, reason="this Strands cannot store bytes in an agent's state")
@pytest.mark.parametrize("place", AGENT_PLACES.values(), ids=AGENT_PLACES)
@value_property
@given(value=values)
def test_a_stored_agent_is_what_upstream_writes_and_reads(
    repository: SQLiteSessionManager, path: Path, place: Place, value: Any
) -> None:
    place.store(repository, value)
    stored = json.loads(place.stored_text(path))

    record = {"agent_id": "ada", "state": {}, "conversation_manager_state": {}, place.name: stored}
    upstreams = SessionAgent.from_dict(record)
    assert repr(place.value_in(getattr(upstreams, place.name))) == repr(value)
    assert repr(upstreams.to_dict()[place.name]) == repr(stored)


@pytest.mark.parametrize(
    "place", [*MESSAGE_PLACES.values(), *AGENT_PLACES.values()], ids=[*MESSAGE_PLACES, *AGENT_PLACES]
)
def test_bytes_are_stored_as_upstream_marks_them(repository: SQLiteSessionManager, path: Path, place: Place) -> None:
    place.store(repository, {"deep": [b"\x00\xff"]})
    marked = {"__bytes_encoded__": True, "data": base64.b64encode(b"\x00\xff").decode()}
    assert place.value_in(json.loads(place.stored_text(path))) == {"deep": [marked]}


def test_an_orchestrators_state_that_holds_bytes_as_upstream_marks_them_goes_back_as_it_came(
    repository: SQLiteSessionManager, path: Path
) -> None:
    state = {"results": {"a": {"__bytes_encoded__": True, "data": "AP8="}}, "raw": b"\x00\xff"}
    repository.update_multi_agent("home", Orchestrator("graph", state))
    assert repository.read_multi_agent("home", "graph") == state
    assert json.loads(query(path, "SELECT state FROM multi_agents")[0][0])["results"] == state["results"]


@each_place
def test_the_stored_text_is_readable_by_people_and_by_sql(
    repository: SQLiteSessionManager, path: Path, place: Place
) -> None:
    place.store(repository, "Zoë says 日本語")
    assert '"Zoë says 日本語"' in place.stored_text(path)
    found = query(
        path,
        f"SELECT count(*) FROM {place.table} WHERE json_valid({place.column})"
        f" AND (json_extract({place.column}, '$.x') = ? OR json_extract({place.column}, '$.content[0].x') = ?)",
        *["Zoë says 日本語"] * 2,
    )
    assert found == [(1,)]


@each_place
def test_json_in_another_programs_formatting_is_read(
    repository: SQLiteSessionManager, path: Path, place: Place
) -> None:
    place.store(repository, {"a": ["é", b"\xff", 1.5]})
    spread = json.dumps(json.loads(place.stored_text(path)), indent=2, ensure_ascii=True)
    latest = " WHERE message_id = (SELECT max(message_id) FROM messages)" if place.table == "messages" else ""
    query(path, f"UPDATE {place.table} SET {place.column} = ?{latest}", f"\n {spread}\n")
    assert place.read(repository) == {"a": ["é", b"\xff", 1.5]}
