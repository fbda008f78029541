"""Converts values to JSON text and back, so that what goes in comes out equal.

The form is upstream's (`strands.types.session`): plain JSON, with bytes as `{"__bytes_encoded__": true, "data":
"<base64>"}`. What JSON would silently change (a tuple, a key that is not a string) is refused, and the error says where
it is.

An orchestrator's state arrives with some bytes already in that form, and must be returned that way. Other bytes in it
are marked with "raw" instead of true.
"""

import base64
import json
import marshal
import re
from collections.abc import Callable
from datetime import datetime, timezone
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from .. import errors

_BYTES = "__bytes_encoded__"
_UPSTREAM: Any = True
_RAW: Any = "raw"
_MAX_DEPTH = 300  # levels; Python reads, compares and writes at most 1,000, minus the depth of the call stack
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class UnreadableError(Exception):
    """A row holds something other than what was stored; the message names the row and says what is wrong."""


class _UnstorableError(Exception):
    """A value that JSON cannot hold exactly; `path` leads to it, innermost part first."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str | int] = []

    def inside(self, key: str | int) -> "_UnstorableError":
        """Record that the value is inside another one, under this key."""
        self.path.append(key)
        return self


def timestamp() -> str:
    """Return the current time as Strands writes it: ISO 8601 in UTC, so that text order is time order."""
    return datetime.now(timezone.utc).isoformat()


def exact_copy(value: Any, name: str, marker: Any = _UPSTREAM) -> Any:
    """Return a deep copy of a value that JSON can hold exactly.

    Strings, numbers and bytes are shared with the original: they cannot change.

    Args:
        value: What is to be stored.
        name: What to call it in an error, e.g. `message`.
        marker: What marks bytes, and so cannot be part of the value.

    Raises:
        SessionException: If JSON would not return it equal; it says where the bad value is.
    """
    try:
        return _copy(value, marker, _MAX_DEPTH)
    except _UnstorableError as problem:
        raise _refusal(name, problem.path, problem.reason) from None
    except RecursionError as error:
        raise _refusal(name, [], "the call stack is too deep to look into it") from error


def to_json(value: Any, name: str) -> str:
    """Return the JSON text of what `exact_copy` returned.

    Raises:
        SessionException: If JSON has no form for it after all, as for an integer of thousands of digits or a surrogate
            pair written as two characters.
    """
    return _to_json(_encode, value, name)


def encode(value: Any, name: str) -> str:
    """Return the JSON text of any value: `to_json` of its `exact_copy`."""
    return _to_json(_encode, exact_copy(value, name), name)


def encode_state(value: Any, name: str) -> str:
    """Return the JSON text of an orchestrator's state; otherwise as `encode`."""
    return _to_json(_encode_raw, exact_copy(value, name, _RAW), name)


def is_same(value: Any, copy: Any) -> bool:
    """Return whether a value still equals its copy, as JSON: to Python, 1, 1.0 and True are equal."""
    if value != copy:
        return False
    try:
        return marshal.dumps(value, 2) == marshal.dumps(copy, 2)  # version 2 depends on nothing but the values
    except ValueError:  # it holds what only `exact_copy` takes, such as an enumeration that is a string
        return encode(value, "value") == encode(copy, "value")


class _Number:
    """Equals only numbers that are the same in JSON, too; see `is_same`."""

    __slots__ = ("_number",)

    def __init__(self, number: float) -> None:
        self._number = number

    def __eq__(self, other: object) -> bool:
        return other is self._number or is_same(other, self._number)


def exactly(value: Any) -> Any:
    """Return an object that equals only values that are the same as this one in JSON.

    C code compares all of it except numbers. It shares parts without numbers with the value.
    """
    if isinstance(value, (int, float)):
        return _Number(value)
    exact = value
    if isinstance(value, dict):
        for key, item in value.items():
            if type(item) is not str and (exact_item := exactly(item)) is not item:
                exact = dict(value) if exact is value else exact
                exact[key] = exact_item
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if type(item) is not str and (exact_item := exactly(item)) is not item:
                exact = list(value) if exact is value else exact
                exact[index] = exact_item
    return exact


def decode(text: str, *where: object) -> Any:
    """Return the value that `encode` made the text from.

    Args:
        text: JSON text, laid out in any way.
        where: Words that name the row it came from, for errors.

    Raises:
        UnreadableError: If it is not JSON.
    """
    if isinstance(text, str) and _BYTES not in text:
        try:
            value, end = _read(text, 0)  # faster than loads(), and enough for what `encode` writes
            if end == len(text):
                return value
        except (StopIteration, ValueError, RecursionError):
            pass  # `_load` reads it, or raises the error that names the row
    return _load(text, _revive, where)


def decode_state(text: str, *where: object) -> Any:
    """Return the value that `encode_state` made the text from; otherwise as `decode`."""
    return _load(text, _revive_raw, where)


def _copy(value: Any, marker: Any, levels: int) -> Any:
    """Copy a value or raise `_UnstorableError`; runs for every message, so the cheapest checks come first."""
    if type(value) in _LEAVES:
        return value
    if levels == 0:
        raise _UnstorableError(f"it contains itself, or is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        if _BYTES in value and _is_marked(value, marker):
            raise _UnstorableError(f"a dict with the key {_BYTES!r} would come back as bytes")
        copied = dict(value)  # at once: another thread may change it meanwhile
        for key, item in copied.items():
            if not isinstance(key, str):
                raise _UnstorableError(f"JSON turns a key of type {type(key).__name__} into a string")
            if type(item) not in _LEAVES:
                try:
                    copied[key] = _copy(item, marker, levels - 1)
                except _UnstorableError as problem:
                    raise problem.inside(key) from None
        return copied
    if isinstance(value, list):
        items = list(value)
        for index, item in enumerate(items):
            if type(item) not in _LEAVES:
                try:
                    items[index] = _copy(item, marker, levels - 1)
                except _UnstorableError as problem:
                    raise problem.inside(index) from None
        return items
    if isinstance(value, (str, int, float, bytes)):
        return value
    if isinstance(value, tuple):
        raise _UnstorableError("JSON turns a tuple into a list")
    raise _UnstorableError(f"JSON has no form for the type {type(value).__name__}")


def _to_json(encoder: Callable[[Any], str], value: Any, name: str) -> str:
    try:
        text = encoder(value)
    except (ValueError, RecursionError) as error:  # such as an integer of more than 4,300 digits
        raise _refusal(name, _path_to(value, _is_unwritable) or [], str(error)) from error
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError as error:
        errors.without_content(error)
        # UTF-8, and so SQLite, cannot hold surrogates; JSON has an escape for lone ones.
        path = _path_to(value, lambda leaf: isinstance(leaf, str) and bool(_SURROGATE_PAIR.search(leaf)))
        if path is not None:
            reason = "JSON joins a surrogate pair that is written as two characters"
            raise _refusal(name, path, reason) from None
        return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _is_unwritable(value: Any) -> bool:
    try:
        return isinstance(value, int) and not str(value)
    except ValueError:
        return True


def _path_to(value: Any, is_culprit: Callable[[Any], bool]) -> list[str | int] | None:
    """Return the path to the first value, or dict with a key, that is a culprit, innermost part first."""
    if is_culprit(value):
        return []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        if is_culprit(key):
            return []
        path = _path_to(item, is_culprit)
        if path is not None:
            return [*path, key]
    return None


def _refusal(name: str, path: list[str | int], reason: str) -> Exception:
    place = name + "".join(f"[{key!r}]" for key in reversed(path))
    return errors.SessionException(f"{place} cannot be stored as JSON: {reason}")


def _load(text: str, hook: Callable[[dict[str, Any]], Any], where: tuple[object, ...]) -> Any:
    try:
        return json.loads(text, object_hook=hook)
    except (TypeError, ValueError, RecursionError) as error:
        errors.without_content(error)
        raise UnreadableError(f"{' '.join(map(str, where))} cannot be read: it is not JSON") from error


def _is_marked(value: dict[str, Any], marker: Any) -> bool:
    found = value.get(_BYTES)
    return "data" in value and type(found) is type(marker) and found == marker


def _revive(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["data"]) if _is_marked(value, _UPSTREAM) else value


def _revive_raw(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["data"]) if _is_marked(value, _RAW) else value


def _encoder(marker: Any) -> Callable[[Any], str]:
    def encode_bytes(value: Any) -> dict[str, Any]:
        return {_BYTES: marker, "data": base64.b64encode(value).decode("ascii")}

    encoder = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), default=encode_bytes)
    if c_make_encoder is None:
        return encoder.encode
    # `encode` would set this up for every call, which takes longer than encoding a short message.
    encode_parts = c_make_encoder(None, encode_bytes, encode_basestring, None, ":", ",", False, False, True)
    return lambda value: "".join(encode_parts(value, 0))


_encode = _encoder(_UPSTREAM)
_encode_raw = _encoder(_RAW)
_read = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
