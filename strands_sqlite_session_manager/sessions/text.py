"""What a message says, as plain text, for previews, searches and `show`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ATTACHMENTS = ("image", "document", "video", "audio")


@dataclass(frozen=True)
class Part:
    """One content block of a message, as text.

    Attributes:
        kind: `text`, `reasoning`, `call` (of a tool), `result` (of a tool) or `attachment`.
        text: What was said; for a call, the JSON of the tool's input; for an attachment, such as `[image: png, 12 KB]`.
        name: For a call, the tool; for a result, its status, `success` or `error`; otherwise empty.
        call_id: For a call and its result, the id that pairs them; otherwise empty.
        words: What a search looks at: the text, or every key and value of a call or a result.
    """

    kind: str
    text: str
    name: str = ""
    call_id: str = ""
    words: tuple[str, ...] = ()


def parts(message: Any) -> Iterator[Part]:
    """Return what each content block of a message says, in order; blocks that say nothing are left out.

    Args:
        message: A message as `values.decode` returns it; one of another shape says nothing.
    """
    blocks = message.get("content") if isinstance(message, dict) else None
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            for key, value in block.items():
                yield from _block(key, value)


def texts(message: Any) -> str:
    """Return the plain text of a message, which may be empty, without tools, attachments and reasoning."""
    return "\n".join(part.text for part in parts(message) if part.kind == "text")


def _block(key: str, value: Any) -> Iterator[Part]:
    if key == "text" and isinstance(value, str):
        yield Part("text", value, words=(value,))
    elif key == "json":
        yield Part("text", _json(value), words=tuple(_words(value)))
    elif not isinstance(value, dict):
        return
    elif key == "toolUse":
        name = str(value.get("name", ""))
        words = (name, *_words(value.get("input")))
        yield Part("call", _json(value.get("input")), name, str(value.get("toolUseId", "")), words)
    elif key == "toolResult":
        inside = list(parts(value))
        words = tuple(word for part in inside for word in part.words)
        text = "\n".join(part.text for part in inside)
        yield Part("result", text, str(value.get("status", "")), str(value.get("toolUseId", "")), words)
    elif key == "reasoningContent":
        for part in _block("text", _inner(value, "reasoningText")):
            yield Part("reasoning", part.text, words=part.words)
    elif key == "guardContent":
        yield from _block("text", _inner(value, "text"))
    elif key == "citationsContent":
        yield from parts(value)
    elif key in ATTACHMENTS:
        yield Part("attachment", _attachment(key, value))


def _inner(value: dict[str, Any], key: str) -> Any:
    inner = value.get(key)
    return inner.get("text") if isinstance(inner, dict) else None


def _attachment(key: str, value: dict[str, Any]) -> str:
    source = value.get("source")
    data = source.get("bytes") if isinstance(source, dict) else None
    details = [str(value[name]) for name in ("name", "format") if value.get(name)]
    if isinstance(data, bytes):
        details.append(size(len(data)))
    return f"[{key}: {', '.join(details)}]" if details else f"[{key}]"


def size(count: int) -> str:
    """Return a number of bytes as text, such as `12 KB`; a KB has 1,024 bytes."""
    amount = float(count)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GB"


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif isinstance(value, str):
        yield value
    elif not isinstance(value, bytes):
        yield _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda data: f"[{size(len(data))}]")
