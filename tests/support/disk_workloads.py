"""Kinds of work that a failing disk interrupts, and what must be true of the file afterwards."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from . import legacy_files
from .command_line import run
from .numbered_messages import live_agent

AGENT = "live"
SECRET = "the secret of the sea"


class Work:
    """Work on a file, by a process that has it open.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "sessions.db"
        self.agent: Any = None

    @staticmethod
    def prepare(folder: Path) -> None:
        """Make the file."""
        with SQLiteSessionManager("gone", folder / "sessions.db") as manager:
            live_agent(manager, AGENT)(f"{SECRET} " * 400)
        with SQLiteSessionManager("session", folder / "sessions.db") as manager:
            live_agent(manager, AGENT)("hello")

    def begin(self) -> None:
        """Open the file and have an agent live on it."""
        self.manager = SQLiteSessionManager("session", self.path)
        self.agent = live_agent(self.manager, AGENT)
        self.agent(f"{SECRET} " * 400)

    def act(self) -> None:
        """Do it."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Continue when the disk works again."""
        self.agent("and now?")

    def end(self) -> None:
        """Close the file."""
        self.manager.close()

    def is_whole(self, before: Any, now: Any, after: Any) -> bool:
        """Return whether the file holds all of the work, none of it, or one of its steps."""
        return now in (before, after)

    def problems(self) -> Iterator[str]:
        """Return what else is wrong after the work."""
        yield from ()


class Turn(Work):
    def act(self) -> None:
        self.agent("next")

    def is_whole(self, before: Any, now: Any, after: Any) -> bool:
        (*others, messages), said = now, [view[-1] for view in (before, after)]
        is_prefix = said[0] == messages[: len(said[0])] and messages == said[1][: len(messages)]
        return is_prefix and others in (list(before[:-1]), list(after[:-1]))


class Sync(Work):
    def act(self) -> None:
        self.agent.state.set("mood", {"good": True})
        self.manager.sync_agent(self.agent)


class Redaction(Work):
    @staticmethod
    def prepare(folder: Path) -> None:
        with SQLiteSessionManager("session", folder / "sessions.db") as manager:
            live_agent(manager, AGENT)("hello")

    def act(self) -> None:
        self.agent.messages[-2]["content"] = [{"text": "[redacted]"}]
        self.manager.redact_latest_message(self.agent.messages[-2], self.agent)

    def problems(self) -> Iterator[str]:
        if SECRET in str(self.manager.list_messages("session", AGENT)):
            yield "the redaction was not made up for"
        self.manager.vacuum()
        if any(SECRET.encode() in path.read_bytes() for path in self.folder.glob("sessions.db*")):
            yield "what was redacted is still on the disk after a vacuum"


class Deletion(Work):
    def act(self) -> None:
        self.manager.delete_session("gone")

    def go_on(self) -> None:
        if self.manager.read_session("gone") is not None:
            self.manager.delete_session("gone")
        super().go_on()


class DeletionOfSome(Deletion):
    def act(self) -> None:
        self.manager.update_session_metadata("gone", {"app": "old"})
        self.manager.delete_sessions(metadata={"app": "old"})

    def is_whole(self, before: Any, now: Any, after: Any) -> bool:
        tagged = ([(*row[:2], "app=old") if row[0] == "gone" else row for row in before[0]], *before[1:])
        return now in (before, tagged, after)


class Fork(Work):
    def act(self) -> None:
        self.manager.fork_session("session", "fork", through_message=1)

    def go_on(self) -> None:
        super().go_on()
        if self.manager.read_session("fork") is None:
            self.manager.fork_session("session", "fork", through_message=1)


class Metadata(Work):
    def act(self) -> None:
        self.manager.update_session_metadata("session", {"title": "a life"})


class Vacuum(Work):
    def act(self) -> None:
        self.manager.vacuum()


class Reading(Work):
    def act(self) -> None:
        with SQLiteSessionManager("session", self.path) as manager:
            live_agent(manager, AGENT)
            manager.list_sessions()
            manager.search_messages("hello")
            if problems := manager.check():  # which also reports unreadable pages
                raise SessionException(f"{self.path} | {problems}")


class Closing(Work):
    def act(self) -> None:
        self.agent.state.set("closing", True)
        self.manager.close()

    def go_on(self) -> None:
        self.begin()


class Backup(Work):
    def act(self) -> None:
        self.manager.backup(self.folder / "backup.db")

    def problems(self) -> Iterator[str]:
        if (self.folder / "backup.db").exists() and view(self.folder / "backup.db")[-1] != view(self.path)[-1][:-2]:
            yield "there is a backup that is not complete"

    def go_on(self) -> None:
        super().go_on()
        self.manager.backup(self.folder / "second backup.db")


class Creation(Work):
    @staticmethod
    def prepare(folder: Path) -> None:
        """There is nothing."""

    def begin(self) -> None:
        self.path = self.folder / "new" / "sessions.db"

    def act(self) -> None:
        self.manager = SQLiteSessionManager("session", self.path)
        self.agent = live_agent(self.manager, AGENT)
        self.agent("hello")

    def go_on(self) -> None:
        if self.agent is None:
            self.manager = SQLiteSessionManager("session", self.path)
            self.agent = live_agent(self.manager, AGENT)
        super().go_on()

    def is_whole(self, before: Any, now: Any, after: Any) -> bool:
        return all(rows == whole[: len(rows)] for rows, whole in zip(now, after, strict=True))


class Upgrade(Work):
    @staticmethod
    def prepare(folder: Path) -> None:
        legacy_files.write(folder / "sessions.db", legacy_files.example())

    def begin(self) -> None:
        self.agent = None
        self.old = legacy_files.rows(self.path)

    def act(self) -> None:
        SQLiteSessionRepository(self.path).close()

    def problems(self) -> Iterator[str]:
        copies = [legacy_files.rows(copy) for copy in self.folder.glob("sessions.db.legacy-backup*")]
        if not copies:
            yield "there is no copy of the old file"
        if any(copy != self.old for copy in copies):
            yield "there is a copy of the old file that is not complete"

    def go_on(self) -> None:
        self.manager = SQLiteSessionManager("session", self.path)
        contents = legacy_files.example()
        assert len(legacy_files.read(self.manager, contents).messages) == len(contents.messages)
        self.agent = live_agent(self.manager, AGENT)
        super().go_on()

    def is_whole(self, before: Any, now: Any, after: Any) -> bool:
        return now in (before, after) or now[-1] == after[-1]


class Command(Work):
    """A command, by a process that has the file open as well."""

    arguments: tuple[str, ...] = ()

    def act(self) -> None:
        ended = run(*(argument.format(self.folder) for argument in self.arguments), db=self.path)
        if ended.code:
            assert ended.code == 1, ended
            assert ended.err.startswith("strands-sqlite: "), ended
            assert ended.err.count("\n") == 1, ended
            raise SessionException(ended.err)


class Import(Command):
    arguments = ("import", "{}/export.jsonl")

    @staticmethod
    def prepare(folder: Path) -> None:
        with SQLiteSessionManager("imported", folder / "another.db") as manager:
            live_agent(manager, AGENT)(f"{SECRET} " * 400)
        assert run("export", "--all", "-o", folder / "export.jsonl", db=folder / "another.db").code == 0
        Work.prepare(folder)


class Replacement(Import):
    arguments = ("import", "{}/export.jsonl", "--replace")

    @staticmethod
    def prepare(folder: Path) -> None:
        Import.prepare(folder)
        assert run("import", folder / "export.jsonl", db=folder / "sessions.db").code == 0


class Export(Command):
    arguments = ("export", "--all", "-o", "{}/new.jsonl")

    def problems(self) -> Iterator[str]:
        if (self.folder / "new.jsonl").exists():
            lines = [json.loads(line) for line in (self.folder / "new.jsonl").read_text().splitlines()]
            if len(lines) != 2 + 2 + 6:
                yield "there is an export that is not complete"


WORKS: dict[str, type[Work]] = {
    "a turn of a live agent": Turn,
    "a sync": Sync,
    "a redaction": Redaction,
    "a deletion": Deletion,
    "a deletion of some": DeletionOfSome,
    "a fork": Fork,
    "metadata": Metadata,
    "a vacuum": Vacuum,
    "reading": Reading,
    "closing": Closing,
    "a backup": Backup,
    "a first creation": Creation,
    "an upgrade": Upgrade,
    "an import": Import,
    "an import that replaces": Replacement,
    "an export": Export,
}


def view(path: Path) -> tuple[list[Any], ...]:
    """Return what a file holds, without times, messages last; nothing if it has none of our tables."""
    if not path.exists():
        return [], [], []
    with closing(sqlite3.connect(path)) as connection:
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        if not ours:
            return [], [], []
        sessions, agents, messages = (
            connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table, columns in (
                (
                    "sessions LEFT JOIN session_metadata USING (session_id)",
                    "session_id, session_type, key || '=' || value",
                ),
                ("agents", "session_id, agent_id, state, conversation_manager_state, internal_state"),
                ("messages", "session_id, agent_id, message_id, coalesce(redact_message, message)"),
            )
        )
    # What newer versions of Strands add to a message differs from run to run.
    return sessions, agents, [(*keys, repr(json.loads(message)["content"])) for *keys, message in messages]
