"""The operations to interrupt: every public one of the repository and the manager, and whole turns of an agent."""

import asyncio
import functools
import gc
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool
from strands.types import exceptions
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from .interrupt_sweep import TIMEOUT, Trial
from .recording_manager import held
from .records import Orchestrator
from .scripted_model import ScriptedModel, tool_use

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)

_CONCURRENCY: Any = getattr(exceptions, "ConcurrencyException", ())  # which older versions of Strands do not have


@tool(context=True)
def remember(key: str, value: Any, tool_context: ToolContext) -> str:
    """Put something into the agent's state."""
    tool_context.agent.state.set(key, value)
    return f"I remember {key}"


def said(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}]}


def begin(path: Path, synchronous: str) -> SQLiteSessionRepository:
    """Create a file with a session `probe`, for the writes that show whether anything is locked, and a `template`."""
    repository = SQLiteSessionRepository(path, synchronous=synchronous, timeout=TIMEOUT)  # type: ignore[arg-type]
    repository.create_session(Session("probe", SessionType.AGENT))
    repository.create_session(Session("template", SessionType.AGENT))
    repository.create_agent("template", SessionAgent("ada", {"mood": "calm"}, {}))
    for number in range(3):
        repository.create_message("template", "ada", SessionMessage(said(f"sail {number}"), number))
    repository.create_multi_agent("template", Orchestrator("graph", {"node": "a"}))
    return repository


class RepositoryTrial:
    """One call of the repository, on a new session each time: everything that it stores is there, or nothing."""

    def __init__(self, call: "Call", folder: Path, synchronous: str) -> None:
        self.path = folder / "sessions.db"
        self.folder = folder
        self.synchronous = synchronous
        self.repository = begin(self.path, synchronous)
        self._call = call
        self._outcomes: list[Any] = []

    def prepare(self, number: int) -> None:
        self.session_id, self.other_id = f"session {number}", f"other {number}"
        if self._call.copies:
            self.repository.fork_session("template", self.session_id)
        self._before = self._stored()

    def act(self) -> Any:
        return self._call.act(self)

    def whole(self) -> str | None:
        found = self._stored()
        if not self._outcomes:  # nothing has interrupted it
            self._outcomes = [self._before, found]
        return None if found in self._outcomes else f"half of it is stored: {found}, not {self._outcomes}"

    def _stored(self) -> Any:
        """Return what this number's sessions and files hold; it is the same for every number."""
        name = self.session_id.split()[-1]
        return [
            [self._read(session_id) for session_id in (self.session_id, self.other_id)],
            sorted(
                found.name.replace(name, "N")
                for found in self.folder.iterdir()
                if name in found.name.split() and not found.name.endswith(("-wal", "-shm"))
            ),
        ]

    def _read(self, session_id: str) -> Any:
        repository = self.repository
        if repository.read_session(session_id) is None:
            return repository.read_agent(session_id, "ada"), repository.list_messages(session_id, "ada")
        ada = repository.read_agent(session_id, "ada")
        newest = {summary.session_id: summary.metadata for summary in repository.list_sessions(limit=9)}
        return (
            ada and ada.state,
            [message.to_message()["content"] for message in repository.list_messages(session_id, "ada")],
            repository.read_multi_agent(session_id, "graph"),
            {key: value for key, value in newest.get(session_id, {}).items() if key != "written"},
        )


@dataclass(frozen=True)
class Call:
    """A call of the repository.

    Attributes:
        act: Makes it.
        copies: Whether it needs a session that is there.
        needs: The method that it calls, if some versions lack it.
    """

    act: Callable[[Any], Any]
    copies: bool = True
    needs: str | None = None


def _open(trial: Any, path: Path) -> SQLiteSessionRepository:
    return SQLiteSessionRepository(path, synchronous=trial.synchronous, timeout=TIMEOUT)


def _manager(trial: Any, session_id: str, **settings: Any) -> SQLiteSessionManager:
    return SQLiteSessionManager(session_id, trial.path, synchronous=trial.synchronous, timeout=TIMEOUT, **settings)


def _close(trial: Any) -> None:
    # One of several users of a file closes; the only user of another file stays open, to be examined.
    _open(trial, trial.path).close()
    _open(trial, trial.folder / "other.db").close()


def _import(trial: Any) -> None:
    stream = io.StringIO()
    trial.repository.export_sessions(stream, ["template"])
    lines = stream.getvalue().replace("template", trial.session_id)
    trial.repository.import_sessions(io.StringIO(lines))


CALLS: dict[str, Call] = {
    "create_session": Call(
        lambda trial: trial.repository.create_session(Session(trial.session_id, SessionType.AGENT)), copies=False
    ),
    "read_session": Call(lambda trial: trial.repository.read_session("template"), copies=False),
    "delete_session": Call(lambda trial: trial.repository.delete_session(trial.session_id)),
    "create_agent": Call(
        lambda trial: trial.repository.create_agent(trial.session_id, SessionAgent("bob", {"mood": "new"}, {}))
    ),
    "read_agent": Call(lambda trial: trial.repository.read_agent("template", "ada"), copies=False),
    "update_agent": Call(
        lambda trial: trial.repository.update_agent(trial.session_id, SessionAgent("ada", {"mood": "wild"}, {}))
    ),
    "create_message": Call(
        lambda trial: trial.repository.create_message(trial.session_id, "ada", SessionMessage(said("new"), 3))
    ),
    "read_message": Call(lambda trial: trial.repository.read_message("template", "ada", 1), copies=False),
    "update_message": Call(
        lambda trial: trial.repository.update_message(trial.session_id, "ada", SessionMessage(said("edited"), 1))
    ),
    "list_messages": Call(lambda trial: trial.repository.list_messages("template", "ada", 2, 1), copies=False),
    "create_multi_agent": Call(
        lambda trial: trial.repository.create_multi_agent(trial.session_id, Orchestrator("graph", {"node": "b"}))
    ),
    "read_multi_agent": Call(lambda trial: trial.repository.read_multi_agent("template", "graph"), copies=False),
    "update_multi_agent": Call(
        lambda trial: trial.repository.update_multi_agent(trial.session_id, Orchestrator("graph", {"node": "c"}))
    ),
    "list_sessions": Call(lambda trial: trial.repository.list_sessions(metadata={"user": "7"}, limit=5), copies=False),
    "update_session_metadata": Call(
        lambda trial: trial.repository.update_session_metadata(trial.session_id, {"user": "7", "app": "web"})
    ),
    "fork_session": Call(lambda trial: trial.repository.fork_session(trial.session_id, trial.other_id)),
    "fork_session through a message": Call(
        lambda trial: trial.repository.fork_session(trial.session_id, trial.other_id, through_message=1)
    ),
    "search_messages": Call(
        lambda trial: trial.repository.search_messages("sail", session_id="template"), copies=False
    ),
    "delete_sessions": Call(
        lambda trial: trial.repository.delete_sessions(metadata={"user": "no"}, updated_before=LONG_AGO), copies=False
    ),
    "backup": Call(lambda trial: trial.repository.backup(trial.folder / f"{trial.session_id} .db"), copies=False),
    "check": Call(lambda trial: trial.repository.check(), copies=False),
    "vacuum": Call(lambda trial: trial.repository.vacuum(), copies=False),
    "close": Call(_close, copies=False),
    "a repository on a new file": Call(lambda trial: _open(trial, trial.folder / f"new {trial.session_id}.db")),
    "a repository on a file": Call(lambda trial: _open(trial, trial.path), copies=False),
    "a read-only repository": Call(
        lambda trial: SQLiteSessionRepository(trial.path, read_only=True).list_sessions(limit=1),
        copies=False,
        needs="rewind_session",
    ),
    "a manager of a new session": Call(
        lambda trial: _manager(trial, trial.session_id, metadata={"user": "7"}), copies=False
    ),
    "a manager of a session": Call(lambda trial: _manager(trial, trial.session_id)),
    # What is not in every version.
    "read_session_summary": Call(
        lambda trial: trial.repository.read_session_summary("template"), copies=False, needs="read_session_summary"
    ),
    "update_agent_state": Call(
        lambda trial: trial.repository.update_agent_state(trial.session_id, "ada", {"mood": "wild"}),
        needs="update_agent_state",
    ),
    "list_agents": Call(lambda trial: trial.repository.list_agents("template"), copies=False, needs="list_agents"),
    "rewind_session": Call(
        lambda trial: trial.repository.rewind_session(trial.session_id, through_message=0), needs="rewind_session"
    ),
    "read_context": Call(
        lambda trial: trial.repository.read_context("template", "ada"), copies=False, needs="read_context"
    ),
    "usage": Call(lambda trial: trial.repository.usage(), copies=False, needs="usage"),
    "export_sessions": Call(
        lambda trial: trial.repository.export_sessions(io.StringIO(), ["template"]),
        copies=False,
        needs="export_sessions",
    ),
    "import_sessions": Call(_import, copies=False, needs="import_sessions"),
}


class AgentTrial:
    """Something that an agent does in its own session: it can continue, and a resume holds what it holds."""

    def __init__(self, deed: Callable[["AgentTrial"], Any], folder: Path, synchronous: str) -> None:
        self.path = folder / "sessions.db"
        self.synchronous = synchronous
        self.repository = begin(self.path, synchronous)
        self._deed = deed

    def prepare(self, number: int) -> None:
        self.session_id = f"session {number}"
        self.manager = _manager(self, self.session_id)
        self.agent = self.build(self.manager)
        self.turn("one")

    def build(self, manager: SQLiteSessionManager) -> Agent:
        return Agent(
            model=ScriptedModel(),
            tools=[remember],
            session_manager=manager,
            callback_handler=None,
            load_tools_from_directory=False,
        )

    def turn(self, text: str) -> None:
        """Take a turn with a tool, in this thread."""
        calls = [tool_use("remember", f"call {text}", key=text, value=[1, {"two": 2.5}])]
        self.agent.model = ScriptedModel([{"text": f"think of {text}"}, *calls], f"answer to {text}")
        try:
            asyncio.run(self.agent.invoke_async(text))
        except _CONCURRENCY:
            # Strands takes a turn that was interrupted in its last moments for a running one. What the manager stores
            # must be right all the same. When that turn is collected, it still trims the messages, without an event.
            gc.collect()
            content = [{"text": text}]
            results = [  # a resume repairs a call without one
                {"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "status": "error", "content": content}}
                for block in self.agent.messages[-1]["content"]
                if "toolUse" in block
            ]
            message: Any = {"role": "user", "content": results or content}
            self.agent.messages.append(message)
            self.agent._session_manager.append_message(message, self.agent)

    def act(self) -> Any:
        return self._deed(self)

    def whole(self) -> str | None:
        self.turn("last")
        return self.differs() or self.says_twice()

    def differs(self) -> str | None:
        """Return whether a resume differs from what the agent holds."""
        with _manager(self, self.session_id) as manager:
            resumed, live = held(self.build(manager)), held(self.agent)
        return None if resumed == live else f"a resume holds {resumed}, not {live}"

    def says_twice(self) -> str | None:
        """Return what was said once and is stored twice."""
        messages = self.repository.list_messages(self.session_id, self.agent.agent_id)
        stored = [repr(message.to_message()["content"]) for message in messages]
        twice = {content for content in stored if stored.count(content) > 1}
        return f"stored twice: {twice}" if twice else None


def _append(trial: AgentTrial) -> None:
    message = said("two")
    trial.agent.messages.append(message)
    trial.manager.append_message(message, trial.agent)


def _append_with_changes(trial: AgentTrial) -> None:
    del trial.agent.messages[0]
    trial.agent.state.set("mood", "wild")
    _append(trial)


def _sync(trial: AgentTrial) -> None:
    trial.agent.state.set("mood", {"wild": True})
    trial.manager.sync_agent(trial.agent)


def _sync_edits(trial: AgentTrial) -> None:
    trial.agent.messages[0] = said("edited")
    del trial.agent.messages[1:3]
    trial.manager.sync_agent(trial.agent)


def _redact(trial: AgentTrial) -> None:
    trial.agent.messages[-1]["content"] = [{"text": "[redacted]"}]
    trial.manager.redact_latest_message(trial.agent.messages[-1], trial.agent)


DEEDS: dict[str, Callable[[AgentTrial], Any]] = {
    "append": _append,
    "append behind changes": _append_with_changes,
    "sync": _sync,
    "sync of edits": _sync_edits,
    "redact": _redact,
    "a turn": lambda trial: trial.turn("two"),
}


class ResumeTrial(AgentTrial):
    """Builds an agent on a session, new or not: building it again gets all of it."""

    def __init__(self, resumes: bool, folder: Path, synchronous: str) -> None:
        super().__init__(lambda trial: trial.build(trial.manager), folder, synchronous)
        self._resumes = resumes

    def prepare(self, number: int) -> None:
        super().prepare(number)
        self._number = number
        if not self._resumes:
            self.session_id = f"new {number}"
        self.manager = _manager(self, self.session_id)

    def whole(self) -> str | None:
        with _manager(self, self.session_id) as manager:
            before, self.agent = self.agent, self.build(manager)
            if self._resumes and held(before) != held(self.agent):
                return f"a resume holds {held(self.agent)}, not {held(before)}"
            return super().whole()


TRIALS: dict[str, Callable[[Path, str], Trial]] = {
    **{
        name: functools.partial(RepositoryTrial, call)
        for name, call in CALLS.items()
        if call.needs is None or hasattr(SQLiteSessionRepository, call.needs)
    },
    **{name: functools.partial(AgentTrial, deed) for name, deed in DEEDS.items()},
    "a new agent": functools.partial(ResumeTrial, False),
    "an agent that resumes": functools.partial(ResumeTrial, True),
}
