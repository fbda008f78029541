"""Records what a run writes and syncs, and derives what a disk could hold if the power failed at any moment.

What was synced survives. What was written since may survive or not: none, all, or any part, down to single sectors. The
name of a file survives once its folder was synced, and may survive before; the changes of one folder survive in order.
The mapped `-shm` is not recorded, because it does not survive.
"""

import os
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .disk_calls import Go, Request

SECTOR = 512
NOTHING, ALL, SOME, TORN = "nothing unsynced", "all", "some", "some, torn"
"""How much unsynced data survives a power loss."""

Image = dict[str, bytes | None]
"""What is in a folder, by name; None is a folder."""


@dataclass
class Recording:
    """What a run did: `(what, ...)` in the order of time.

    Attributes:
        folder: Where it was recorded; names are those below it.
        events: `create NAME FILE`, `folder NAME`, `link NAME FILE`, `remove NAME`, `write FILE OFFSET BYTES`,
            `cut FILE SIZE`, `sync FILE`, `sync folder NAME` and `mark VALUE`. A FILE is a number.
    """

    folder: str
    events: list[tuple[Any, ...]] = field(default_factory=list)
    _files: dict[str, int] = field(default_factory=dict)
    _known: int = 0
    _syncing: str | None = None

    def mark(self, value: Any) -> None:
        """Record that the run has reached a point to be recognized later."""
        self.events.append(("mark", value))

    def found(self, path: Path) -> None:
        """Record that a file existed before, safe on the disk."""
        self._known += 1
        self._files[str(path)] = self._known
        self.events += [
            ("create", self._name(str(path)), self._known),
            ("write", self._known, 0, path.read_bytes()),
            ("sync", self._known),
            ("sync folder", self._name(str(path.parent))),
        ]

    def __call__(self, request: Request, go: Go) -> Any:
        """Record a request, and let the disk answer it; see `Disk`."""
        path = request.path
        if path.endswith("-shm"):
            return go()
        if request.call == "write":
            done = go()
            self.events.append(("write", self._files[path], request.offset, request.data()[:done]))
            return done
        if request.call == "sync":
            return self._sync(path, go)
        if request.call == "open":
            return self._open(path, go)
        result = go()
        if request.call == "truncate":
            self.events.append(("cut", self._files[path], request.offset))
        elif request.call == "sync folder":
            if self._syncing is not None:  # SQLite syncs the folder when it has synced a file
                self.events.append(("sync", self._files[self._syncing]))
            self.events.append(("sync folder", self._name(path)))
        elif request.call == "mkdir":
            self.events.append(("folder", self._name(path)))
        elif request.call == "unlink":
            self._remove(path)
        elif request.call in ("link", "rename"):
            self._files[request.to] = self._files[path]
            self.events.append(("link", self._name(request.to), self._files[path]))
            if request.call == "rename":
                self._remove(path)
        return result

    def _open(self, path: str, go: Go) -> Any:
        is_new = not os.path.lexists(path)
        result = go()
        if is_new and os.path.lexists(path):
            self._known += 1
            self._files[path] = self._known
            self.events.append(("create", self._name(path), self._known))
        return result

    def _sync(self, path: str, go: Go) -> Any:
        file = self._files[path]
        if not any(event[0] == "write" and event[1] == file for event in self.events):
            # Python has written it, which is not intercepted.
            self.events.append(("write", file, 0, Path(path).read_bytes()))
        before, self._syncing = self._syncing, path
        try:
            result = go()
        finally:
            self._syncing = before
        self.events.append(("sync", file))
        return result

    def _remove(self, path: str) -> None:
        del self._files[path]
        self.events.append(("remove", self._name(path)))

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self.folder)


class Loss:
    """A disk that follows a recording, and can lose its power at any moment.

    Attributes:
        honest: The chance that a sync does what it says.
    """

    def __init__(self, chance: random.Random, honest: float = 1.0) -> None:
        self._chance = chance
        self._honest = honest
        self._synced: dict[int, bytearray] = defaultdict(bytearray)
        self._unsynced: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        self._names: dict[str, int | None] = {}
        self._unsynced_names: dict[str, list[tuple[Any, ...]]] = defaultdict(list)

    def follow(self, event: tuple[Any, ...]) -> None:
        """Do what the recording says."""
        what, *values = event
        if what in ("write", "cut"):
            self._unsynced[values[0]].append(event)
        elif what in ("create", "link", "remove", "folder"):
            self._unsynced_names[os.path.dirname(values[0]) or "."].append(event)
        elif what in ("sync", "sync folder") and self._chance.random() < self._honest:
            if what == "sync":
                _write(self._synced[values[0]], self._unsynced.pop(values[0], ()))
            else:
                _name(self._names, self._unsynced_names.pop(values[0], ()))

    def after(self, left: str) -> Image:
        """Return what the disk holds if the power fails now.

        Args:
            left: How much unsynced data survives.
        """
        names = dict(self._names)
        for changes in self._unsynced_names.values():
            _name(names, changes[: self._kept(left, len(changes))])
        image: Image = {}
        for name, file in names.items():
            parent = os.path.dirname(name)
            if parent and parent not in names:
                continue
            if file is None:
                image[name] = None
                continue
            content = bytearray(self._synced[file])
            _write(content, self._survivors(self._unsynced.get(file, []), left))
            image[name] = bytes(content)
        return image

    def _kept(self, left: str, count: int) -> int:
        return {NOTHING: 0, ALL: count}.get(left, self._chance.randint(0, count))

    def _survivors(self, writes: list[tuple[Any, ...]], left: str) -> Iterator[tuple[Any, ...]]:
        for write in writes:
            if left == ALL or (left != NOTHING and self._chance.random() < 0.7):
                yield from self._torn(write) if left == TORN and write[0] == "write" else (write,)

    def _torn(self, write: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """Return a random part of a write: often all sectors, else the first ones or any of them."""
        what, file, offset, data = write
        how = self._chance.choice(("whole", "first", "any"))
        bounds = [offset, *range(offset - offset % SECTOR + SECTOR, offset + len(data), SECTOR), offset + len(data)]
        sectors = list(pairwise(bounds))
        if how == "first":
            sectors = sectors[: self._chance.randint(0, len(sectors))]
        elif how == "any":
            sectors = [sector for sector in sectors if self._chance.random() < 0.5]
        for start, end in sectors:
            yield what, file, start, data[start - offset : end - offset]


def _write(content: bytearray, writes: Any) -> None:
    for what, _, at, *data in writes:
        size = at + len(data[0]) if what == "write" else at
        if len(content) < size:
            content.extend(bytes(size - len(content)))
        if what == "write":
            content[at:size] = data[0]
        else:
            del content[size:]


def _name(names: dict[str, int | None], changes: Any) -> None:
    for what, name, *file in changes:
        if what == "remove":
            names.pop(name, None)
        else:
            names[name] = file[0] if file else None


def restore(image: Image, folder: Path) -> None:
    """Write an image to a new folder."""
    folder.mkdir()
    for name, content in sorted(image.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
