"""Which messages an agent holds, told in terms of the log.

What the agent holds is often the end of its log, and sometimes not: it may have been trimmed, summarised,
pinned, edited or replaced. The column `live_messages` of `agents` tells it as a JSON array of

- `[first, last]`: the messages of the log with these ids and those between them;
- an object: a message that is not in the log, such as a summary;
- `[first, null]`, always last: every message from this id on, those yet to come included.

Where the agent holds a message of the log otherwise than it was said (truncated, offloaded), its row has
that in `live_message`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codec import decode, exact_copy, to_json
from .errors import UnreadableError

if TYPE_CHECKING:
    from strands.types.content import Message

Source = int | str
"""Where a message is stored: the id of its row in the log, or its JSON inside `live_messages`."""


@dataclass
class Held:
    """The messages that the agent held when the database was last written, position by position."""

    objects: list["Message"] = field(default_factory=list)
    copies: list["Message"] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    def add(self, message: "Message", copy: "Message", source: Source) -> None:
        """Add a message behind the others."""
        self.objects.append(message)
        self.copies.append(copy)
        self.sources.append(source)

    def places(self) -> Iterator[tuple["Message", Source]]:
        """Return each message with where it is stored."""
        return zip(self.objects, self.sources, strict=True)


class Finder:
    """Finds a message among those held before: by identity, else by its tracking id, else by its content."""

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
    before: Held, messages: list["Message"], added: tuple["Message", "Message"] | None, added_id: int
) -> tuple[Held, dict[int, str]]:
    """Find out where each message that the agent holds now is stored.

    Args:
        before: What it held before.
        messages: What it holds now.
        added: The message that goes to the log with this write, if one does, and its copy.
        added_id: The id that it has there.

    Returns:
        What it holds now, and the JSON of those messages of the log that it holds otherwise than before.
    """
    finder = Finder(before)
    now = Held()
    edited: dict[int, str] = {}
    claimed: dict[int, Message] = {}
    added_at = max((at for at, message in enumerate(messages) if added and message is added[0]), default=None)
    for position, message in enumerate(messages):
        if added is not None and position == added_at:
            now.add(message, added[1], added_id)
            continue
        index = finder.find(message)
        source = None if index is None else before.sources[index]
        unchanged = index is not None and before.copies[index] == message
        name = f"messages[{position}]"
        copy = before.copies[index] if index is not None and unchanged else exact_copy(message, name)
        # A row can stand for one content only: of two messages with one tracking id, the second goes inside.
        if isinstance(source, int) and claimed.setdefault(source, copy) == copy:
            if not unchanged:
                edited[source] = to_json(copy, name)
        elif not (isinstance(source, str) and unchanged):
            source = to_json(copy, name)
        now.add(message, copy, source)
    return now, edited


def write_window(sources: Iterable[Source], next_id: int) -> str:
    """Return the JSON of `live_messages` for messages stored in these places; `next_id` is the log's next one."""
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


def read_window(text: str, *where: object) -> list["Message | list[int | None]"]:
    """Return the parts of `live_messages`: ranges of the log, and messages that are not in it.

    Args:
        text: What `write_window` returned.
        where: Words that name the row it came from, for an error.

    Raises:
        UnreadableError: If the text is something else.
    """
    parts: Any = decode(text, *where)
    if not is_window(parts):
        raise UnreadableError(f"{' '.join(map(str, where))} cannot be read: it is not made of ranges and messages")
    return list(parts)


def is_window(parts: Any) -> bool:
    """Tell whether this is made of what `live_messages` is made of."""
    return isinstance(parts, list) and all(isinstance(part, dict) or _is_range(part) for part in parts)


def _is_range(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and _is_id(part[0]) and (part[1] is None or _is_id(part[1]))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63
