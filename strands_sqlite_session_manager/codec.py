"""Values to JSON text and back, so that what goes in comes out equal.

The form is upstream's (`strands.types.session`): plain JSON with bytes as
`{"__bytes_encoded__": true, "data": "<base64>"}`. What JSON would change in silence (a tuple, a key
that is not a string) is refused, with the place where it sits.

An orchestrator's state reaches us with some of its bytes in that form already, and must go back so.
Other bytes in it are marked with "raw" in place of true.
"""

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from .errors import UnreadableError, session_exception, without_content

_BYTES = "__bytes_encoded__"
_UPSTREAM: Any = True
_RAW: Any = "raw"
_DEEPEST = 300  # levels; Python reads, compares and writes no more than 1,000, its callers' own included
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class _UnstorableError(Exception):
    """A value that JSON cannot hold exactly; `path` leads to it, innermost part first."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str | int] = []

    def inside(self, key: str | int) -> "_UnstorableError":
        """Say that the value sits inside another one, under this key."""
        self.path.append(key)
        return self


def timestamp() -> str:
    """Return the present moment as Strands writes it: ISO 8601 in UTC, so that text order is time order."""
    return datetime.now(timezone.utc).isoformat()


def exact_copy(value: Any, name: str, marker: Any = _UPSTREAM) -> Any:
    """Return a deep copy of a value that JSON can hold exactly.

    Strings, numbers and bytes are shared with the original: they cannot change.

    Args:
        value: What is to be stored.
        name: What to call it in an error, e.g. `message`.
        marker: What marks bytes, and so cannot be the value's own.

    Raises:
        SessionException: If JSON would not give it back equal; says where the culprit sits.
    """
    try:
        return _copy(value, marker, _DEEPEST)
    except _UnstorableError as problem:
        raise _refusal(name, problem.path, problem.reason) from None
    except RecursionError as error:
        raise _refusal(name, [], "the stack is too deep already to go into it") from error


def to_json(value: Any, name: str) -> str:
    """Return the JSON text of what `exact_copy` returned.

    Raises:
        SessionException: If JSON has no form for it after all: an integer of thousands of digits, or
            a surrogate pair written as two characters.
    """
    return _to_json(_encode, value, name)


def encode(value: Any, name: str) -> str:
    """Return the JSON text of any value: `to_json` of its `exact_copy`."""
    return _to_json(_encode, exact_copy(value, name), name)


def encode_state(value: Any, name: str) -> str:
    """Return the JSON text of an orchestrator's state; otherwise as `encode`."""
    return _to_json(_encode_raw, exact_copy(value, name, _RAW), name)


def decode(text: str, *where: object) -> Any:
    """Return the value that `encode` made the text from.

    Args:
        text: JSON text, laid out in any way.
        where: Words that name the row it came from, for an error.

    Raises:
        UnreadableError: If it is not JSON.
    """
    if isinstance(text, str) and _BYTES not in text:
        try:
            value, end = _read(text)  # faster than loads(), and enough for what `encode` writes
            if end == len(text):
                return value
        except (ValueError, RecursionError):
            pass  # said by `_load`
    return _load(text, _revive, where)


def decode_state(text: str, *where: object) -> Any:
    """Return the value that `encode_state` made the text from; otherwise as `decode`."""
    return _load(text, _revive_raw, where)


def _copy(value: Any, marker: Any, levels: int) -> Any:
    """Copy a value or raise `_UnstorableError`; runs for every message, so it asks the cheapest question first."""
    if type(value) in _LEAVES:
        return value
    if levels == 0:
        raise _UnstorableError(f"it contains itself, or is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        if _BYTES in value and _is_marked(value, marker):
            raise _UnstorableError(f"a dict with the key {_BYTES!r} would come back as bytes")
        copied = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _UnstorableError(f"JSON turns a key of type {type(key).__name__} into a string")
            try:
                copied[key] = item if type(item) in _LEAVES else _copy(item, marker, levels - 1)
            except _UnstorableError as problem:
                raise problem.inside(key) from None
        return copied
    if isinstance(value, list):
        items = []
        for item in value:
            try:
                items.append(item if type(item) in _LEAVES else _copy(item, marker, levels - 1))
            except _UnstorableError as problem:
                raise problem.inside(len(items)) from None
        return items
    if isinstance(value, (str, int, float, bytes)):
        return value
    if isinstance(value, tuple):
        raise _UnstorableError("JSON turns a tuple into a list")
    raise _UnstorableError(f"JSON has no form for the type {type(value).__name__}")


def _to_json(encoder: Callable[[Any], str], value: Any, name: str) -> str:
    try:
        text = encoder(value)
    except (ValueError, RecursionError) as error:  # e.g. Python writes no integer of more than 4,300 digits
        raise _refusal(name, _path_to(value, _is_unwritable) or [], str(error)) from error
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError as error:
        without_content(error)
        # UTF-8, and so SQLite, has no form for surrogates; JSON has one for those that stand alone.
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
    for key, item in items:
        if is_culprit(key):
            return []
        path = _path_to(item, is_culprit)
        if path is not None:
            return [*path, key]
    return None


def _refusal(name: str, path: list[str | int], reason: str) -> Exception:
    place = name + "".join(f"[{key!r}]" for key in reversed(path))
    return session_exception(f"{place} cannot be stored as JSON: {reason}")


def _load(text: str, hook: Callable[[dict[str, Any]], Any], where: tuple[object, ...]) -> Any:
    try:
        return json.loads(text, object_hook=hook)
    except (TypeError, ValueError, RecursionError) as error:
        without_content(error)
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
    # What encode() sets up anew for every call, which takes longer than the encoding of a short message.
    encode_parts = c_make_encoder(None, encode_bytes, encode_basestring, None, ":", ",", False, False, True)
    return lambda value: "".join(encode_parts(value, 0))


_encode = _encoder(_UPSTREAM)
_encode_raw = _encoder(_RAW)
_read = json.JSONDecoder().raw_decode
