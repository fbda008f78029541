"""Operations on a file to be killed half-way: what each needs, how to do it, and how to repeat it."""

import functools
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, copy_session
from strands_sqlite_session_manager.transfer.stores import FileSessionRepository

from .command_line import run
from .legacy_files import large, rows, write
from .numbered_messages import live_agent, text
from .records import query

DOOMED = ("one", "two", "three")
SESSIONS = (*DOOMED, "live", "other", "last")
MESSAGES = 60  # of a legacy file
STATE = SlidingWindowConversationManager().get_state()

Work = Callable[[Path], object]


# -- what is there before --


def fill(path: Path, word: str = "secret") -> None:
    """Store three sessions that operations will change, and three others."""
    path.write_bytes(_filled(word))


@functools.cache
def _filled(word: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with SQLiteSessionRepository(path, synchronous="NORMAL") as repository:
            for session_id in SESSIONS:
                metadata = {"user_id": "42" if session_id in DOOMED else "7"}
                SQLiteSessionManager(session_id, path, metadata=metadata, synchronous="NORMAL").close()
                for agent_id in ("ada", "bob"):
                    repository.create_agent(
                        session_id, SessionAgent(agent_id, {"kept": f"{word} of {session_id}"}, STATE)
                    )
                    for number in range(8):
                        words = f"{word} of {session_id}, {agent_id}, {number}; " * 50
                        repository.create_message(session_id, agent_id, SessionMessage(text(words), number))
        return path.read_bytes()


def a_file(folder: Path) -> None:
    fill(folder / "sessions.db")


def a_legacy_file(folder: Path, journal_mode: str = "WAL") -> None:
    write(folder / "sessions.db", large(MESSAGES, 3000), journal_mode)


def a_file_with_unused_space(folder: Path) -> None:
    a_file(folder)
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        repository.delete_session("one")


def an_export(folder: Path) -> None:
    fill(folder / "source.db", "news")
    assert run("export", *DOOMED, "-o", folder / "export.jsonl", db=folder / "source.db").code == 0
    (folder / "source.db").unlink()


def an_export_and_a_file(folder: Path) -> None:
    an_export(folder)
    a_file(folder)


def two_files(folder: Path) -> None:
    fill(folder / "source.db")
    with SQLiteSessionManager("mine", folder / "sessions.db"):
        pass


def files_and_a_file(folder: Path) -> None:
    two_files(folder)
    with SQLiteSessionRepository(folder / "source.db") as source:
        for session_id in DOOMED:
            copy_session(source, FileSessionRepository(folder / "files"), session_id)
    (folder / "source.db").unlink()


# -- what is done --


def opened(work: Callable[[SQLiteSessionRepository, Path], object]) -> Work:
    def work_in(folder: Path) -> None:
        with SQLiteSessionRepository(folder / "sessions.db") as repository:
            work(repository, folder)

    return work_in


def commanded(*arguments: str) -> Work:
    """Run a command, in whose arguments `{}` is the folder."""

    def work_in(folder: Path) -> None:
        ended = run(*(argument.format(folder) for argument in arguments), db=folder / "sessions.db")
        assert ended.code == 0, ended.err

    return work_in


def delete_many(repository: SQLiteSessionRepository, folder: Path) -> None:
    repository.delete_sessions(metadata={"user_id": "42"})


def redact(folder: Path) -> None:
    with SQLiteSessionManager("live", folder / "sessions.db") as manager:
        agent = live_agent(manager, "ada")
        manager.redact_latest_message(text("[redacted]"), agent)


def copy_from_files(folder: Path) -> None:
    with SQLiteSessionRepository(folder / "sessions.db") as target:
        copy_session(FileSessionManager("one", storage_dir=str(folder / "files")), target, "one")


def copy_rows(repository: SQLiteSessionRepository, folder: Path) -> None:
    with SQLiteSessionRepository(folder / "source.db") as source:
        copy_session(source, repository, "one")


def nothing_is_unused(folder: Path) -> None:
    assert query(folder / "sessions.db", "PRAGMA freelist_count") == [(0,)]


def every_copy_is_whole(folder: Path) -> None:
    """Assert that each attempt to upgrade that got as far as a copy made a whole one."""
    whole = rows(folder / "sessions.db.legacy-backup")
    assert len(whole["messages"]) == MESSAGES
    for path in folder.glob("sessions.db.legacy-backup-*"):
        assert rows(path) == whole, path.name


@dataclass(frozen=True)
class Operation:
    """An operation on a file.

    Attributes:
        prepare: Makes a folder with what it needs.
        work: Does it.
        as_one: Whether the whole operation is one step, rather than one step for each session.
        again: Repeats it after a kill; None repeats `work`.
        done: What the error of `again` says if the work was done before the kill.
        makes: A file that it makes beside the database.
        removes: A text that it removes from the disk.
        at_last: Examines the result in the end.
    """

    prepare: Work
    work: Work
    as_one: bool = False
    again: Work | None = None
    done: str = "(?!)"
    makes: str | None = None
    removes: str | None = None
    at_last: Work = field(default=lambda folder: None)

    def repeat(self, folder: Path) -> None:
        """Repeat it after a kill."""
        try:
            (self.again or self.work)(folder)
        except (SessionException, AssertionError) as error:
            if not re.search(self.done, str(error)):
                raise


OPERATIONS = {
    "an upgrade of a legacy file": Operation(
        a_legacy_file,
        opened(lambda repository, folder: None),
        as_one=True,
        makes="sessions.db.legacy-backup",
        at_last=every_copy_is_whole,
    ),
    "an upgrade of a legacy file without a write-ahead log": Operation(
        functools.partial(a_legacy_file, journal_mode="DELETE"),
        opened(lambda repository, folder: None),
        as_one=True,
        makes="sessions.db.legacy-backup",
        at_last=every_copy_is_whole,
    ),
    "a fork": Operation(
        a_file,
        opened(lambda repository, folder: repository.fork_session("one", "fork", agent_id="ada", through_message=5)),
        done="Session fork already exists",
    ),
    "a rewind": Operation(
        a_file,
        opened(lambda repository, folder: repository.rewind_session("one", agent_id="ada", through_message=5)),
        as_one=True,
    ),
    "a deletion": Operation(
        a_file,
        opened(lambda repository, folder: repository.delete_session("one")),
        done="Session one does not exist",
        removes="secret of one",
    ),
    "a deletion of many": Operation(
        a_file,
        opened(delete_many),
        removes="secret of t",
    ),
    "a prune": Operation(
        a_file,
        commanded("prune", "--older-than", "0m", "--metadata", "user_id=42", "--yes"),
        removes="secret of t",
    ),
    "a redaction": Operation(a_file, redact, removes="secret of live, ada, 7"),
    "a backup": Operation(
        a_file,
        opened(lambda repository, folder: repository.backup(folder / "backup.db")),
        done="backup.db . exists already",
        makes="backup.db",
    ),
    "an export": Operation(
        a_file,
        commanded("export", "--all", "-o", "{}/export.jsonl"),
        done="export.jsonl . already exists",
        makes="export.jsonl",
    ),
    "an import": Operation(
        an_export,
        commanded("import", "{}/export.jsonl", "--create"),
        again=commanded("import", "{}/export.jsonl", "--create", "--replace"),
    ),
    "an import that replaces": Operation(
        an_export_and_a_file,
        commanded("import", "{}/export.jsonl", "--replace"),
        removes="secret of t",
    ),
    "a copy from a file": Operation(two_files, opened(copy_rows), done="Session one already exists"),
    "a copy from files": Operation(files_and_a_file, copy_from_files, done="Session one already exists"),
    "copies from files": Operation(
        files_and_a_file, commanded("copy", "file:{}/files", "{}/sessions.db", "--all", "--skip-existing")
    ),
    "copies from a file": Operation(
        two_files, commanded("copy", "{}/source.db", "{}/sessions.db", "--all", "--skip-existing")
    ),
    "a vacuum": Operation(
        a_file_with_unused_space, opened(lambda repository, folder: repository.vacuum()), at_last=nothing_is_unused
    ),
}
