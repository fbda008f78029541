"""Session management: what an application does with its conversations, from the first message to the backup.

Run it with `python examples/04_session_management.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import multiprocessing
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from offline_model import OfflineModel, example_model
from strands import Agent
from strands.session import FileSessionManager, RepositorySessionManager
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import (
    FileSessionRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
    copy_session,
)

SPAWN = multiprocessing.get_context("spawn")  # the same on every system; `fork` is safe as well


def life_cycle(folder: Path) -> None:
    """Life cycle: a manager creates or resumes a session; a repository reads and deletes it."""
    with SQLiteSessionManager("first", folder / "sessions.db", metadata={"user_id": "ada"}) as session_manager:
        say(new_agent(session_manager), "My name is Ada.")

    with SQLiteSessionManager("first", folder / "sessions.db") as session_manager:  # later, or in another process
        say(new_agent(session_manager), "What is my name?")

    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        for stored in repository.list_messages("first", "default"):
            message = stored.to_message()
            print(f"   {stored.message_id}  {message['role']:9}  {message['content'][0]['text']}")
        repository.delete_session("first")
        assert repository.read_session("first") is None


def conversations_of_a_user(folder: Path) -> None:
    """A user's conversations: the sidebar of a chat, newest activity first, a page at a time."""
    converse(folder / "sessions.db", "lisbon", "ada", "I like fado.", "My hotel is near the cathedral of Lisbon.")
    converse(folder / "sessions.db", "oslo", "ada", "My favourite museum is in Oslo.")
    converse(folder / "sessions.db", "sourdough", "bob", "My bread is too flat.")
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        repository.update_session_metadata("lisbon", {"title": "Lisbon in May"})
        page = repository.list_sessions(metadata={"user_id": "ada"}, limit=20, offset=0)
        for summary in page:
            title = summary.metadata.get("title", summary.preview)
            print(f"   {summary.updated_at[:16]}  {summary.message_count} messages  {title}")
        assert [summary.session_id for summary in page] == ["oslo", "lisbon"]


def search(folder: Path) -> None:
    """Search: what was said, in any session, without regard to case."""
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        for match in repository.search_messages("CATHEDRAL", limit=10):
            print(f"   {match.session_id}, message {match.message_id}, {match.role}: {match.snippet}")


def fork(folder: Path) -> None:
    """Fork: an old conversation in a new direction; here from before the hotel was told. The old one stays."""
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        repository.fork_session("lisbon", "lisbon-2", through_message=1)
    for session_id in ("lisbon", "lisbon-2"):
        with SQLiteSessionManager(session_id, folder / "sessions.db") as session_manager:
            agent = new_agent(session_manager)
            print(f"   {session_id} has {len(agent.messages)} messages")
            say(agent, "What do you know about my hotel?")


def killed(folder: Path) -> None:
    """Recovery: a process dies while the model answers. The question is stored, and a new agent answers it."""
    process = SPAWN.Process(target=die_while_answering, args=(folder / "sessions.db",))
    process.start()
    process.join()
    with SQLiteSessionManager("crash", folder / "sessions.db") as session_manager:
        agent = new_agent(session_manager)
        print(f"   exit code {process.exitcode}, and stored: {agent.messages[-1]['content'][0]['text']}")
        assert agent.messages[-1]["role"] == "user"
        print(f"   agent: {str(agent()).strip()}")


def errors(folder: Path) -> None:
    """Errors: SessionException says what is wrong. What is stored is whole, and a new agent goes on from there."""
    with SQLiteSessionManager("errors", folder / "sessions.db") as session_manager:
        agent = new_agent(session_manager)
        agent.state.set("position", (38.71, -9.14))
        try:
            agent("Where am I?")
        except SessionException as error:
            print(f"   a tuple: {error}")

    with closing(sqlite3.connect(folder / "sessions.db")) as another_program:
        another_program.execute("BEGIN IMMEDIATE")  # and it takes its time
        try:
            with SQLiteSessionManager("errors", folder / "sessions.db", timeout=0.1) as session_manager:
                new_agent(session_manager)("Where am I?")
        except SessionException as error:
            print(f"   a long transaction: {str(error).replace(str(folder), '...')}")

    with SQLiteSessionManager("errors", folder / "sessions.db") as session_manager:
        agent = new_agent(session_manager)
        agent("Where am I?")
        session_manager.delete_session("errors")
        try:
            agent("Are you still there?")
        except SessionException as error:
            print(f"   a deleted session: {error}")

    with SQLiteSessionManager("errors", folder / "sessions.db") as session_manager:
        agent = new_agent(session_manager)
        print(f"   a new manager and agent: they begin with {len(agent.messages)} messages")
        assert agent.messages == []


def stale_writer(folder: Path) -> None:
    """Two writers: the one that missed something is refused. It builds a new agent, and tries again."""
    with (
        SQLiteSessionManager("shared", folder / "sessions.db") as on_the_laptop,
        SQLiteSessionManager("shared", folder / "sessions.db") as on_the_phone,
    ):
        laptop, phone = new_agent(on_the_laptop), new_agent(on_the_phone)
        say(phone, "My train is at nine.")
        try:
            say(laptop, "When is my train?")
        except StaleSessionException as error:
            print(f"   {type(error).__name__}: {str(error).partition('. ')[0]}")
        else:
            raise AssertionError("the laptop did not know what was said on the phone")

    with SQLiteSessionManager("shared", folder / "sessions.db") as on_the_laptop:
        laptop = new_agent(on_the_laptop)  # knows what was said on the phone
        say(laptop, "When is my train?")


def concurrent_access(folder: Path) -> None:
    """Concurrent access: 8 threads and 2 processes on one file; each conversation has its own agent."""
    with ThreadPoolExecutor(8) as threads, ProcessPoolExecutor(2, mp_context=SPAWN) as processes:
        done = [
            *(threads.submit(converse, folder / "busy.db", f"thread-{n}", "ada", "Hello", "Bye") for n in range(24)),
            *(processes.submit(converse, folder / "busy.db", f"process-{n}", "ada", "Hello", "Bye") for n in range(8)),
        ]
        for future in done:
            future.result()
    with SQLiteSessionRepository(folder / "busy.db") as repository:
        counts = [summary.message_count for summary in repository.list_sessions()]
        print(f"   {len(counts)} sessions, {sum(counts)} messages")
        assert counts == [4] * 32
        assert repository.check() == []


def several_files(folder: Path) -> None:
    """Several files: one for each tenant. They share nothing, and a tenant's data go with the file."""
    for tenant in ("acme", "globex"):
        converse(folder / "tenants" / f"{tenant}.db", "support", "ada", f"My company is {tenant.title()}.")
    (folder / "tenants" / "globex.db").unlink()  # nothing has it open any more
    print(f"   left: {[path.name for path in (folder / 'tenants').iterdir()]}")


def moving(folder: Path) -> None:
    """Moving: sessions of FileSessionManager come to SQLite, and go back, with all that their agents hold."""
    say(new_agent(FileSessionManager("moved", str(folder / "files"))), "My favourite bird is the wren.")

    files = FileSessionRepository(folder / "files")
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        for session_id in files.list_session_ids():
            copy_session(files, repository, session_id)
    with SQLiteSessionManager("moved", folder / "sessions.db") as session_manager:
        say(new_agent(session_manager), "What is my favourite bird?")

    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        copy_session(repository, FileSessionRepository(folder / "files-2"), "moved")
    agent = new_agent(FileSessionManager("moved", str(folder / "files-2")))
    print(f"   back in files, with {len(agent.messages)} messages")
    assert len(agent.messages) == 4


def backup_and_restore(folder: Path) -> None:
    """Backup and restore: a copy is made while others write; one session comes back from it, or all of them."""
    with (
        SQLiteSessionRepository(folder / "sessions.db") as repository,
        SQLiteSessionManager("oslo", folder / "sessions.db") as session_manager,
    ):
        agent = new_agent(session_manager)
        repository.backup(folder / "backup.db")
        agent("My ferry is at noon.")  # is not in the backup, and the agent did not have to wait for it

        repository.delete_session("lisbon")  # by mistake
        with SQLiteSessionRepository(folder / "backup.db") as backup:
            copy_session(backup, repository, "lisbon")
        print(f"   one session: {repository.list_sessions(metadata={'title': 'Lisbon in May'})[0].metadata}")

    # All of them. Stop the application first: nobody may have the file open.
    for suffix in ("", "-wal", "-shm"):
        (folder / f"sessions.db{suffix}").unlink(missing_ok=True)
    with SQLiteSessionRepository(folder / "backup.db") as backup:
        backup.backup(folder / "sessions.db")
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        print(f"   all of them: {[summary.session_id for summary in repository.list_sessions()]}")
        assert repository.check() == []
        assert repository.search_messages("ferry") == []


def retention(folder: Path) -> None:
    """Retention: what nobody continued for long goes, and all of a user who leaves; no trace stays in the file."""
    cutoff = datetime.now(timezone.utc) - timedelta(days=0)  # in your program: days=90
    converse(folder / "sessions.db", "oslo", "ada", "I like fjords.")
    with SQLiteSessionRepository(folder / "sessions.db") as repository:
        print(f"   {repository.delete_sessions(metadata={'user_id': 'bob'})} of Bob deleted")
        assert b"My bread" not in (folder / "sessions.db").read_bytes()
        print(f"   {repository.delete_sessions(updated_before=cutoff)} not continued since a moment ago deleted")
        print(f"   left: {[summary.session_id for summary in repository.list_sessions()]}")
        assert [summary.session_id for summary in repository.list_sessions()] == ["oslo"]
        repository.vacuum()  # gives the unused space back; now and then, when nobody writes


def converse(db_path: Path, session_id: str, user_id: str, *texts: str) -> None:
    """Have a conversation of a user, as a request to a service would."""
    with SQLiteSessionManager(session_id, db_path, metadata={"user_id": user_id}) as session_manager:
        agent = new_agent(session_manager)
        for text in texts:
            agent(text)


class DyingModel(OfflineModel):
    """Takes the process with it."""

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        """End the process, in the middle of a turn."""
        os._exit(70)
        yield


def die_while_answering(db_path: Path) -> None:
    """Do what `killed` starts a process for."""
    session_manager = SQLiteSessionManager("crash", db_path)
    agent = Agent(model=DyingModel(), session_manager=session_manager, callback_handler=None)
    agent("My flight is at ten. When is my flight?")


def new_agent(session_manager: RepositorySessionManager) -> Agent:
    """Build an agent, which resumes if its session has been used before."""
    return Agent(model=example_model(), session_manager=session_manager, callback_handler=None)


def say(agent: Agent, text: str) -> None:
    """Say something to the agent, and print both sides."""
    print(f"   you:   {text}")
    print(f"   agent: {str(agent(text)).strip()}")


SECTIONS = (
    life_cycle,
    conversations_of_a_user,
    search,
    fork,
    killed,
    errors,
    stale_writer,
    concurrent_access,
    several_files,
    moving,
    backup_and_restore,
    retention,
)


def main() -> None:
    """Run the sections one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(SECTIONS, start=1):
            print(f"\n{number}. {section.__doc__}", flush=True)
            section(Path(folder))


if __name__ == "__main__":
    main()
