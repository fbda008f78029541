"""Which messages an agent holds, in terms of its history.

What an agent holds is often the end of its history. Sometimes it is not: messages may have been trimmed, summarized,
pinned, edited or replaced. The column `context` of `agents` describes it as a JSON array of

- `[first, last]`: the messages of the history from one id through another;
- an object: a message that is not in the history, such as a summary;
- `[first, null]`, always last: every message from this id on, including those yet to come.

If the agent no longer holds a message as it was said (truncated, offloaded), its present form is the `edited_message`
of the message's row.
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..database.values import UnreadableError, decode, exact_copy, exactly, is_same, to_json

if TYPE_CHECKING:
    from strands.types.content import Message

Source = int | str
"""Where a message is stored: its id in the history, or its JSON inside `context`."""
Encode = Callable[["Message", str], str]
"""A function of a message and its name in errors; returns the message's JSON."""


@dataclass
class Held:
    """The messages that an agent held when the file was last written, position by position.

    Attributes:
        objects: The messages themselves.
        copies: What they were then.
        sources: Where they are stored.
    """

    objects: list["Message"] = field(default_factory=list)
    copies: list["Message"] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    _exact: list[Any] = field(default_factory=list)  # `exactly` of the leading copies, as far as needed yet

    def __len__(self) -> int:
        return len(self.sources)

    def add(self, message: "Message", copy: "Message", source: Source, *, position: int | None = None) -> None:
        """Add a message after the others.

        Args:
            message: The message.
            copy: A copy of it as it is now.
            source: Where it is stored.
            position: How many messages come before it; with it, an interrupted call may be repeated.
        """
        position = len(self) if position is None else position
        del self._exact[position:]
        self.objects[position:] = [message]
        self.copies[position:] = [copy]
        self.sources[position:] = [source]

    def overwritten(self, rows: Container[Source], copy: "Message") -> "Held":
        """Return the same messages, with another copy of those that are stored in some rows of the history."""
        held = Held()
        for message, old, source in zip(self.objects, self.copies, self.sources, strict=True):
            held.add(message, copy if source in rows else old, source)
        return held

    def places(self) -> Iterator[tuple["Message", Source]]:
        """Return each message with where it is stored."""
        return zip(self.objects, self.sources, strict=True)

    def is_followed_by(self, messages: list["Message"], added: int = 0) -> bool:
        """Return whether a list is these messages, unchanged, followed by `added` others.

        This is most of what an event costs an agent that holds thousands of messages. Any dict or list may have been
        changed in place, so each is compared, by C code that skips strings that are the same objects. Comparing the
        encoded messages takes 1.5 to 3 times as long (`python -m tests.benchmarks conversations`).
        """
        if len(messages) != len(self) + added:
            return False
        self._exact += map(exactly, self.copies[len(self._exact) :])
        return (messages[: len(self)] if added else messages) == self._exact


class Finder:
    """Finds messages among those held before: by identity, else by tracking id, else by content."""

    def __init__(self, held: Held) -> None:
        self._copies = held.copies
        self._by_object: dict[int, list[int]] = {}
        for index, message in enumerate(held.objects):
            self._by_object.setdefault(id(message), []).append(index)
        self._by_tracking_id = {
            copy["tracking_id"]: index
            for index, copy in enumerate(held.copies)
            if isinstance(copy.get("tracking_id"), str)
        }
        self._by_content: dict[str, int] | None = None

    def find(self, message: "Message") -> int | None:
        """Return the position that the message had, or None if it is new.

        An object that was held several times is found at each of its positions in turn.
        """
        index = None
        if positions := self._by_object.get(id(message)):
            index = positions.pop(0) if len(positions) > 1 else positions[0]
        tracking_id = message.get("tracking_id")
        if index is None and isinstance(tracking_id, str):
            index = self._by_tracking_id.get(tracking_id)
        if index is None:
            if self._by_content is None:
                self._by_content = {to_json(copy, "message"): index for index, copy in enumerate(self._copies)}
            index = self._by_content.get(to_json(exact_copy(message, "message"), "message"))
        return index


def locate(
    before: Held, messages: list["Message"], added: Iterable[tuple["Message", "Message", int]], encode: Encode
) -> tuple[Held, dict[int, str]]:
    """Find out where each message that an agent holds now is stored.

    Args:
        before: What it held before.
        messages: What it holds now.
        added: The messages that become part of the history with this write, their copies, and their ids there.
        encode: Returns the JSON of a message.

    Returns:
        What it holds now, and the JSON of the messages of the history whose form has changed, by their ids.
    """
    finder = Finder(before)
    now = Held()
    edited: dict[int, str] = {}
    claimed: dict[int, Message] = {}
    present = {id(message) for message in messages}
    added_at: dict[int, tuple[Message, int]] = {}
    for message, copy, message_id in added:
        position = max((at for at, held in enumerate(messages) if held is message), default=None)
        if position is not None:
            added_at[position] = (copy, message_id)
    for position, message in enumerate(messages):
        name = f"messages[{position}]"
        if position in added_at:
            copy, message_id = added_at[position]
            claimed[message_id] = copy
            if not is_same(message, copy):  # changed since it was said
                copy = exact_copy(message, name)
                edited[message_id] = encode(copy, name)
            now.add(message, copy, message_id)
            continue
        index = finder.find(message)
        if index is not None and _is_anothers(before.objects[index], message, name, present):
            index = None
        source = None if index is None else before.sources[index]
        is_unchanged = index is not None and is_same(message, before.copies[index])
        copy = before.copies[index] if index is not None and is_unchanged else exact_copy(message, name)
        # A row can hold one form only: of two messages with the same tracking id, the second is stored in `context`.
        if isinstance(source, int) and is_same(claimed.setdefault(source, copy), copy):
            if not is_unchanged:
                edited[source] = encode(copy, name)
        elif not (isinstance(source, str) and is_unchanged):
            source = encode(copy, name)
        now.add(message, copy, source)
    return now, edited


def _is_anothers(owner: "Message", message: "Message", name: str, present: Container[int]) -> bool:
    """Return whether the agent holds the owner of a row beside a message that was copied from it and now differs."""
    return owner is not message and id(owner) in present and not is_same(owner, exact_copy(message, name))


def write_context(sources: Iterable[Source], next_id: int) -> str:
    """Return the JSON of `context` for messages stored in these places; `next_id` is the history's next id."""
    parts: list[list[int | None] | str] = []
    for source in sources:
        last = parts[-1] if parts else None
        if isinstance(source, str):
            parts.append(source)
        elif isinstance(last, list) and last[1] == source - 1:
            last[1] = source
        else:
            parts.append([source, source])
    last = parts[-1] if parts else None
    if isinstance(last, list) and last[1] == next_id - 1:
        last[1] = None
    else:
        parts.append([next_id, None])
    return f"[{','.join(part if isinstance(part, str) else json.dumps(part) for part in parts)}]"


def read_context(text: str, *where: object) -> list["Message | list[int | None]"]:
    """Return the parts of `context`: ranges of the history, and messages that are not in it.

    Args:
        text: What `write_context` returned.
        where: Words that name the row it came from, for errors.

    Raises:
        UnreadableError: If the text is anything else.
    """
    parts: Any = decode(text, *where)
    if not is_context(parts):
        raise UnreadableError(f"{' '.join(map(str, where))} cannot be read: it is not made of ranges and messages")
    return list(parts)


def is_context(parts: Any) -> bool:
    """Return whether this is made of ranges and messages, as `context` is."""
    return isinstance(parts, list) and all(isinstance(part, dict) or _is_range(part) for part in parts)


def _is_range(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and _is_id(part[0]) and (part[1] is None or _is_id(part[1]))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63
