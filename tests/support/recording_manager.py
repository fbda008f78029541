"""A session manager that records, at every event, what its agents hold and what was said."""

import asyncio
import copy
import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from typing import Any

from strands.types.content import Message
from strands.types.session import SessionAgent, encode_bytes_values

from strands_sqlite_session_manager import SQLiteSessionManager


def held(agent: Any) -> str:
    """Return everything that a session keeps of an agent, as text: equal if and only if all of it is equal."""
    described = SessionAgent.from_agent(agent)
    return written(
        {
            "messages": agent.messages,
            "state": described.state,
            "conversation_manager_state": described.conversation_manager_state,
            "internal_state": described._internal_state,
        }
    )


def stashed(agent: Any) -> dict[str, str]:
    """Return what the stash of `context_manager="auto"` holds, by its references, as text; nothing if there is none."""
    stash = getattr(getattr(agent, "context_manager", None), "stash", None)
    if stash is None:
        return {}
    with ThreadPoolExecutor(1) as executor:  # there may be an event loop in this thread
        entries = executor.submit(lambda: asyncio.run(stash.take_snapshot())).result()
    return {reference: written(value) for reference, value in entries.items()}


def written(value: Any) -> str:
    """Return a value as text, so that `1`, `1.0` and `True` differ, and two processes can compare."""
    return json.dumps(encode_bytes_values(value), indent=1, sort_keys=True)


@dataclass
class Said:
    """A message of the recorded history.

    Attributes:
        message: The object that was announced.
        copy: How it is to be read.
        held: Whether the agent has held that object ever since: changes to it change the record.
    """

    message: Message
    copy: Message
    held: bool = True


class Log(defaultdict[str, list[Said]]):
    """What was said to and by each agent, redactions applied, over all managers that share it.

    Attributes:
        moments: What each agent held when a message was the last one, by the message's id; -1 is the empty beginning.
            After a redaction, only what it held since then.
    """

    def __init__(self) -> None:
        super().__init__(list)
        self.moments: defaultdict[str, dict[int, str]] = defaultdict(dict)

    def rewind(self, through_message: int, agent_id: str = "default") -> None:
        """Forget what came after a message."""
        del self[agent_id][through_message + 1 :]
        moments = self.moments[agent_id]
        for number in [number for number in moments if number > through_message]:
            del moments[number]

    def messages(self, agent_id: str = "default") -> list[Message]:
        return [said.copy for said in self[agent_id]]


class Recorder(SQLiteSessionManager):
    """Records what each agent held at its last event; pass `log` on to the next manager of the session."""

    def __init__(self, session_id: str, db_path: str | PathLike[str], log: Log | None = None) -> None:
        super().__init__(session_id, db_path)
        self.log = Log() if log is None else log
        self.held: dict[str, str] = {}

    def initialize(self, agent: Any, **kwargs: Any) -> None:
        is_new = self.read_agent(self.session_id, agent.agent_id) is None
        super().initialize(agent, **kwargs)
        if is_new:
            for message in agent.messages:
                self._say(message, agent)
            self._note(agent)

    def append_message(self, message: Message, agent: Any, **kwargs: Any) -> None:
        super().append_message(message, agent, **kwargs)
        self._say(message, agent)
        self._note(agent)

    def sync_agent(self, agent: Any, **kwargs: Any) -> None:
        super().sync_agent(agent, **kwargs)
        self._note(agent)

    def redact_latest_message(self, redact_message: Message, agent: Any, **kwargs: Any) -> None:
        super().redact_latest_message(redact_message, agent, **kwargs)
        said = self.log[agent.agent_id]
        for entry, found in zip(said, self.listed(agent.agent_id), strict=True):
            # It replaces its former self, or the latest message if that was never said or is lost.
            must = entry.message is redact_message and entry.held
            may = entry is said[-1] or entry.copy.get("tracking_id") == redact_message.get("tracking_id")
            if must or (may and found == redact_message):
                entry.copy = copy.deepcopy(redact_message)
        self.log.moments[agent.agent_id].clear()  # a redaction applies to every moment
        self._note(agent)

    def listed(self, agent_id: str = "default") -> list[Message]:
        """Return the history from the file."""
        return [message.to_message() for message in self.list_messages(self.session_id, agent_id)]

    def _say(self, message: Message, agent: Any) -> None:
        self.log[agent.agent_id].append(Said(message, copy.deepcopy(message)))

    def _note(self, agent: Any) -> None:
        self.held[agent.agent_id] = held(agent)
        self.log.moments[agent.agent_id][len(self.log[agent.agent_id]) - 1] = self.held[agent.agent_id]
        objects = {id(message) for message in agent.messages}
        for said in self.log[agent.agent_id]:
            said.held = said.held and id(said.message) in objects
