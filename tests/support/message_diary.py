"""A session manager that notes in a diary beside the database what it is about to store and what it has stored."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strands.types.content import Message

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .recording_manager import written

Key = tuple[str, str]
"""The ids of a session and of an agent in it."""


@dataclass
class Group:
    """Messages that are stored as one: a new one, or all those that an agent has when it is created.

    Attributes:
        messages: The messages, written down.
        returned: Whether the call that stores them returned.
    """

    messages: list[str]
    returned: bool = False


class Diary:
    """A text file to which any number of threads and processes write lines, without SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups: defaultdict[Key, list[Group]] = defaultdict(list)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._read_up_to = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    @contextmanager
    def storing(self, key: Key, messages: Sequence[Message]) -> Iterator[None]:
        """Write down that messages are about to be stored, and then that they are."""
        self._write("begun", *key, [written(message) for message in messages])
        yield
        self._write("returned", *key)

    def _write(self, *entry: Any) -> None:
        # A line that a kill has cut off does not spoil the next one.
        os.write(self._descriptor, b"\n" + json.dumps(entry).encode() + b"\n")

    def read(self) -> None:
        """Bring `groups` up to date."""
        new = os.pread(self._descriptor, self.size() - self._read_up_to, self._read_up_to)
        self._read_up_to += len(new)
        for line in new.splitlines():
            try:
                kind, session_id, agent_id, *messages = json.loads(line)
            except ValueError:  # empty, or cut off
                continue
            groups = self.groups[session_id, agent_id]
            if kind == "begun":
                groups.append(Group(*messages))
            else:
                groups[-1].returned = True


class Witnessed(SQLiteSessionManager):
    """A manager whose every stored message is in a diary."""

    def __init__(self, session_id: str, path: Path, diary: Diary, **settings: Any) -> None:
        super().__init__(session_id, path, **settings)
        self._diary = diary

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        is_new = self.read_agent(self.session_id, agent.agent_id) is None
        with self._diary.storing((self.session_id, agent.agent_id), agent.messages if is_new else []):
            super().initialize(agent, **kwargs)

    def append_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        with self._diary.storing((self.session_id, agent.agent_id), [message]):
            super().append_message(message, agent, **kwargs)


def assert_as_witnessed(repository: SQLiteSessionRepository, diary: Diary) -> None:
    """Assert that every message whose write returned is there, whole and in its place, and no other one.

    A message that was being stored when a process died is there completely or not at all.
    """
    diary.read()
    known = set()
    for (session_id, agent_id), groups in diary.groups.items():
        stored = repository.list_messages(session_id, agent_id)
        assert [message.message_id for message in stored] == list(range(len(stored))), (session_id, agent_id)
        texts = [written(message.to_message()) for message in stored]
        ends = {0}  # how far in the history the diary's entries may reach: two lives can try the same one
        for group in groups:
            length = len(group.messages)
            stored_up_to = {end + length for end in ends if texts[end : end + length] == group.messages}
            assert stored_up_to or not group.returned, f"{session_id}, {agent_id}: lost after {ends}"
            ends = stored_up_to if group.returned else ends | stored_up_to
        assert len(texts) in ends, f"{session_id}, {agent_id}: nobody has stored what follows {ends}"
        if repository.read_agent(session_id, agent_id) is not None:
            known.add((session_id, agent_id))
        else:
            assert not any(group.returned for group in groups), f"{session_id}, {agent_id} is lost"
    found = {(summary.session_id, agent_id) for summary in repository.list_sessions() for agent_id in summary.agent_ids}
    assert found == known
