"""Messages and states.

JSON comes out equal, types included; everything else is refused with its place and stores nothing.
"""

import functools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.value_places import PLACES, Place, prepared
from .target import Target

DEEPEST = 250  # levels that are stored in any case
texts = st.text(st.characters(), max_size=20) | st.sampled_from(["__bytes_encoded__", "data", "\ud83d\ude00", "\ud83d"])
leaves = (
    *(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=20)),
    st.sampled_from([2**64, -(10**300), 1j, Decimal("1.5"), (), object(), {1, 2}, bytearray(b"x"), "raw"]),
    st.sampled_from([4200, 4999]).map(lambda digits: 10**digits),
)
keys = texts | st.integers() | st.none() | st.booleans() | st.binary(max_size=3) | st.tuples(st.integers())


def _marked(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    flags = st.sampled_from([True, 1, "raw", False, None])
    return st.fixed_dictionaries({"__bytes_encoded__": flags}, optional={"data": inner | texts, "text": inner})


def _deep(drawn: tuple[Any, int, bool]) -> Any:
    value, levels, in_lists = drawn
    return functools.reduce(lambda inner, _: [inner] if in_lists else {"a": inner}, range(levels), value)


values = st.recursive(
    st.one_of(*leaves),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=2)
        | st.tuples(inner)
        | _marked(inner)
        | st.tuples(inner, st.sampled_from([10, 240, 400, 5000]), st.booleans()).map(_deep)
    ),
    max_leaves=12,
)


@functools.cache
def _manager() -> SQLiteSessionManager:
    return prepared(Path(":memory:"))


def check(drawn: tuple[str, Any]) -> None:
    """Store a value in a place."""
    name, value = drawn
    place, manager = PLACES[name], _manager()
    place.store(manager, "before")
    faults = list(_faults(value, place))
    refusal = _refusal(manager, place, value)
    if refusal is None:
        assert not faults or faults[0] == "depth", f"stored in spite of {faults}"
        assert repr(place.read(manager)) == repr(value)
    else:
        assert faults, f"refused: {refusal}"
        assert refusal.startswith(f"{place.name}{place.where}")
        assert " cannot be stored as JSON: " in refusal
        assert place.read(manager) == "before"
        if faults[0] != "depth":
            assert any(refusal.startswith(f"{place.name}{place.where}{fault} cannot") for fault in faults)


def _refusal(manager: SQLiteSessionManager, place: Place, value: Any) -> str | None:
    try:
        place.store(manager, value)
    except SessionException as error:
        return str(error)
    return None


def _faults(value: Any, place: Place) -> Iterator[str]:
    """Return the places in a value that JSON cannot hold; at first `depth` if it is nested deeply."""
    stack: list[tuple[Any, tuple[Any, ...], int]] = [(value, (), 0)]
    found: list[str] = []
    deepest = 0
    while stack:
        item, path, depth = stack.pop()
        deepest = max(deepest, depth)
        if _is_fault(item, "raw" if place.table == "multi_agents" else True):
            found.append("".join(f"[{key!r}]" for key in path))
        if isinstance(item, dict):
            stack += [(inner, (*path, key), depth + 1) for key, inner in item.items()]
        elif isinstance(item, list):
            stack += [(inner, (*path, index), depth + 1) for index, inner in enumerate(item)]
    if deepest > DEEPEST:
        yield "depth"
    yield from found


def _is_fault(item: Any, mark: Any) -> bool:
    if isinstance(item, dict):
        flag = item.get("__bytes_encoded__")
        return any(not isinstance(key, str) or _joins(key) for key in item) or (
            "data" in item and type(flag) is type(mark) and flag == mark
        )
    if isinstance(item, str):
        return _joins(item)
    if isinstance(item, int):
        try:
            return not str(item)
        except ValueError:  # more digits than Python writes
            return True
    return not isinstance(item, (list, float, bytes, type(None)))


def _joins(text: str) -> bool:
    """Return whether JSON would join two characters of a text."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") != text


TARGET = Target(st.tuples(st.sampled_from(list(PLACES)), values), check, examples=80)
