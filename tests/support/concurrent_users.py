"""What each of many processes on one file does, sees, and remembers.

Whatever has a known size says so in its id, such as `room 3.7 of 20`, so every process can check whether it is whole.
No id is reused after it was deleted.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
    copy_session,
)

from .numbered_messages import text
from .records import agent as stored_agent
from .scripted_model import REDACT_INPUT, ScriptedModel

TEMPLATE = "template"
SIZES = {"ada": 12, "bob": 8}  # how many messages the agents of a room have
NEEDLE = "needle"  # every one of them says it
ROOMS = ("room", "fork", "victim")  # kinds of sessions that any process may delete
TALKS = [f"talk {number}" for number in range(4)]  # sessions in which all processes talk, with the same agent
LOGS = ["log a", "log b"]  # sessions to which all processes append; each process with an agent of its own in both
SHARED = "shared"  # and with one for all
REDACTED = "[redacted]"
_SIZE = re.compile(r" of (\d+)$")
_GONE = re.compile(r"does not exist$")


@dataclass
class Memory:
    """The record that a process keeps.

    Attributes:
        appended: The texts of messages whose append returned, by session, agent and message id.
        said: What was said in turns that returned, with the talk.
        created: Sessions whose creation returned.
        deleted: Sessions that were to be deleted, by a call that returned or that met another deletion.
        secrets: What was redacted.
        backups: The files of backups that returned.
        torn: What was seen only in part.
        errors: The errors that the contract does not name.
        deeds: How often each deed was done, or refused as the contract says.
        longest: The seconds that the longest of each took.
    """

    appended: dict[tuple[str, str, int], str] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)
    backups: list[Path] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)


def prepare(folder: Path, processes: int) -> None:
    """Create the file that all processes use, and the template of a room."""
    with SQLiteSessionManager(TEMPLATE, folder / "template.db") as manager:
        for agent_id, size in SIZES.items():
            messages = [text(f"{NEEDLE} {number} of {agent_id}") for number in range(size)]
            real_agent(manager, agent_id, messages=messages)
    for talk in TALKS:
        with SQLiteSessionManager(talk, folder / "sessions.db") as manager:
            real_agent(manager)
    state = NullConversationManager().get_state()
    for log in LOGS:
        with SQLiteSessionManager(log, folder / "sessions.db") as manager:
            for agent_id in (SHARED, *map(str, range(processes))):
                manager.create_agent(log, stored_agent(agent_id, conversation_manager_state=state))


def real_agent(manager: SQLiteSessionManager, agent_id: str = "default", *replies: Any, **options: Any) -> Agent:
    """Build a real agent that holds all that was ever said."""
    return Agent(
        model=ScriptedModel(*replies),
        agent_id=agent_id,
        session_manager=manager,
        conversation_manager=NullConversationManager(),
        callback_handler=None,
        **options,
    )


def torn_turn(agent: Agent) -> str | None:
    """Return what is wrong with an agent of a talk, whose state counts what the user has said, if anything is."""
    prompts = [message["content"][0]["text"] for message in agent.messages if message["role"] == "user"]
    turns, latest = agent.state.get("turns") or 0, agent.state.get("latest")
    if len(prompts) != turns or (prompts and prompts[-1] != REDACTED and not prompts[-1].startswith(latest)):
        return f"{turns} turns, the latest {latest!r}, with {len(prompts)} prompts, the latest {prompts[-1:]}"
    return None


def torn_sessions(repository: SQLiteSessionRepository, **options: Any) -> Iterator[str]:
    """Return which of the listed sessions have another size than their ids say."""
    for summary in repository.list_sessions(**options):
        size = _SIZE.search(summary.session_id)
        if size and (summary.message_count != int(size[1]) or summary.agent_ids != list(SIZES)):
            yield f"{summary.session_id} has {summary.message_count} messages of {summary.agent_ids}"


def join_in(folder: Path, index: int, seed: int, seconds: float) -> Memory:
    """Do everything once, in any order, and then anything until the time is over; return the record."""
    member = Member(folder, index, seed)
    deeds = list(DEEDS)
    member.random.shuffle(deeds)
    end = time.monotonic() + seconds
    while deeds or time.monotonic() < end:
        member.do(deeds.pop() if deeds else member.random.choices(list(DEEDS), [*DEEDS.values()])[0])
    return member.memory


class Member:
    """One of the processes. Half of them keep the file open all the time; the others open it for each deed."""

    def __init__(self, folder: Path, index: int, seed: int) -> None:
        self.memory = Memory()
        self.random = Random(f"{seed} {index}")
        self._folder = folder
        self._path = folder / "sessions.db"
        self._index = index
        self._count = 0  # of names that were given
        self._batches: list[list[str]] = [[]]
        self._logged = 0
        self._open = SQLiteSessionRepository(self._path) if index % 2 else None
        self._template = SQLiteSessionRepository(folder / "template.db")

    def do(self, deed: str) -> None:
        """Do a deed of `DEEDS`, and record whatever is wrong with it."""
        begun = time.monotonic()
        try:
            with SQLiteSessionRepository(self._path) as repository:
                getattr(self, deed)(repository)
        except Exception as error:
            self.memory.errors.append(f"{deed}: {type(error).__name__}: {error}; caused by {error.__cause__!r}")
        self.memory.deeds[deed] += 1
        taken = time.monotonic() - begun
        self.memory.longest[deed] = max(taken, self.memory.longest.get(deed, 0))

    # -- writing --

    def talk(self, _: SQLiteSessionRepository) -> None:
        """Take a turn where all processes do: the later ones are stale."""
        self._take_turns(self.random.choice(TALKS), self._name("prompt"))

    def redact(self, _: SQLiteSessionRepository) -> None:
        """Take a turn that a guardrail redacts."""
        prompt = self._name("prompt")
        secret = f"{self._name('secret')}!"
        if self._take_turns(self.random.choice(TALKS), prompt, f" {secret}", REDACT_INPUT):
            self.memory.secrets.append(secret)

    def _take_turns(self, talk: str, prompt: str, more: str = "", *replies: Any) -> bool:
        with SQLiteSessionManager(talk, self._path) as manager, self._refused("turn", StaleSessionException):
            agent = real_agent(manager, "default", *replies)
            self._see(talk, torn_turn(agent))
            agent.state.set("turns", (agent.state.get("turns") or 0) + 1)
            agent.state.set("latest", prompt)
            agent(prompt + more)
            if not more:
                self.memory.said.append((talk, prompt))
            return True
        return False

    def append(self, repository: SQLiteSessionRepository) -> None:
        """Append where no other process does: to one history, and then to the other."""
        for log in LOGS:
            self._append(repository, log, str(self._index), self._logged)
        self._logged += 1

    def append_to_shared(self, repository: SQLiteSessionRepository) -> None:
        """Append where all processes do: of those that take the same number, all but one are refused."""
        log = self.random.choice(LOGS)
        with self._refused("append", SessionException, re.compile(r"Message \d+ already exists")):
            self._append(repository, log, SHARED, len(repository.list_messages(log, SHARED)))

    def _append(self, repository: SQLiteSessionRepository, log: str, agent_id: str, number: int) -> None:
        said = self._name("entry")
        repository.create_message(log, agent_id, SessionMessage(text(said), number))
        self.memory.appended[log, agent_id, number] = said

    def begin(self, _: SQLiteSessionRepository) -> None:
        """Begin a session that only this process deletes, some later."""
        session_id, batch = self._name("new"), len(self._batches) - 1
        metadata = {"batch": f"{self._index} {batch}", f"key {self.random.randrange(5)}": "value"}
        with SQLiteSessionManager(session_id, self._path, metadata=metadata) as manager:
            real_agent(manager)("hello")
        self.memory.created.add(session_id)
        self._batches[batch].append(session_id)

    def begin_victim(self, _: SQLiteSessionRepository) -> None:
        """Begin a session that others delete while an agent is at work in it."""
        session_id = self._name("victim")
        with SQLiteSessionManager(session_id, self._path) as manager:
            self.memory.created.add(session_id)
            with self._refused("turn of a victim", SessionException, _GONE):
                agent = real_agent(manager)
                for _turn in range(3):
                    agent("hello")

    def copy(self, repository: SQLiteSessionRepository) -> None:
        """Copy a room from another file."""
        session_id = f"{self._name('room')} of {sum(SIZES.values())}"
        copy_session(self._template, repository, TEMPLATE, new_session_id=session_id)
        self.memory.created.add(session_id)

    def fork(self, repository: SQLiteSessionRepository) -> None:
        """Fork a room up to some message."""
        for room in self._some_of(repository, "room"):
            last = self.random.randrange(SIZES["ada"])
            session_id = f"{self._name('fork')} of {last + 1 + SIZES['bob']}"
            with self._refused("fork", SessionException, _GONE):
                repository.fork_session(room, session_id, agent_id="ada", through_message=last)
                self.memory.created.add(session_id)

    def delete(self, repository: SQLiteSessionRepository) -> None:
        """Delete a session of any process."""
        for session_id in self._some_of(repository, *ROOMS):
            self.memory.deleted.add(session_id)
            with self._refused("delete", SessionException, _GONE):
                repository.delete_session(session_id)

    def delete_batch(self, repository: SQLiteSessionRepository) -> None:
        """Delete the sessions that this process has begun since its last deletion."""
        batch = len(self._batches) - 1
        begun = self._batches[batch]
        self._batches.append([])
        count = repository.delete_sessions(metadata={"batch": f"{self._index} {batch}"})
        self.memory.deleted.update(begun)
        self._see("a batch", None if count == len(begun) else f"{count} were deleted instead of {len(begun)}")

    def vacuum(self, repository: SQLiteSessionRepository) -> None:
        """Rewrite the file."""
        repository.vacuum()

    # -- reading --

    def list_newest(self, repository: SQLiteSessionRepository) -> None:
        """List the newest sessions, or those of a value."""
        options: list[dict[str, Any]] = [{}, {"limit": 20}, {"metadata": {f"key {self.random.randrange(5)}": "value"}}]
        for torn in torn_sessions(repository, **self.random.choice(options)):
            self._see("a listing", torn)

    def read(self, repository: SQLiteSessionRepository) -> None:
        """Read a room, and count how often something was said in it."""
        for room in self._some_of(repository, "room"):
            for agent_id, size in SIZES.items():
                found = len(repository.list_messages(room, agent_id))
                self._see(room, None if found in (0, size) else f"{found} messages of {agent_id}")
            found = len(repository.search_messages(NEEDLE, session_id=room, limit=None))
            self._see(room, None if found in (0, sum(SIZES.values())) else f"{found} matches")

    def resume(self, _: SQLiteSessionRepository) -> None:
        """Resume where all processes talk, and say nothing."""
        talk = self.random.choice(TALKS)
        with SQLiteSessionManager(talk, self._path) as manager:
            self._see(talk, torn_turn(real_agent(manager)))

    def check(self, repository: SQLiteSessionRepository) -> None:
        """Examine the file."""
        for problem in repository.check():
            self._see("check", problem)

    def back_up(self, repository: SQLiteSessionRepository) -> None:
        """Take a backup."""
        path = self._folder / f"{self._name('backup')}.db"
        repository.backup(path)
        self.memory.backups.append(path)

    # -- what is common to all --

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind} {self._index}.{self._count:05}"

    def _some_of(self, repository: SQLiteSessionRepository, *kinds: str) -> list[str]:
        """Return the id of one session of these kinds, if there is one."""
        known = [summary.session_id for summary in repository.list_sessions(limit=200)]
        found = [session_id for session_id in known if session_id.startswith(kinds)]
        return [self.random.choice(found)] if found else []

    def _see(self, where: str, torn: str | None) -> None:
        if torn is not None:
            self.memory.torn.append(f"{where}: {torn}")

    @contextmanager
    def _refused(self, deed: str, kind: type[Exception], pattern: re.Pattern[str] = re.compile("")) -> Iterator[None]:
        """Allow for an error that the contract names, and count it."""
        try:
            yield
        except kind as error:
            if not pattern.search(str(error)):
                raise
            self.memory.deeds[f"{deed} refused"] += 1


# The deeds, and how often each is done in relation to the others.
DEEDS: dict[str, int] = {
    **dict.fromkeys(("talk", "append", "append_to_shared", "begin", "begin_victim", "copy", "fork"), 10),
    **dict.fromkeys(("list_newest", "read", "resume", "delete"), 10),
    **dict.fromkeys(("redact", "delete_batch"), 3),
    **dict.fromkeys(("check", "back_up", "vacuum"), 1),
}
