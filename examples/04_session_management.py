"""Session management: what an application does with its conversations, from the sidebar to the backup.

Run it with `python examples/04_session_management.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import sqlite3
import tempfile
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

from offline_model import example_model
from strands import Agent
from strands.session import FileSessionManager, RepositorySessionManager

from strands_sqlite_session_manager import (
    DatabaseLockedException,
    FileSessionRepository,
    SessionNotFoundException,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    StaleSessionException,
    copy_session,
)


def conversations_of_a_user(db_path: Path) -> None:
    """A user's conversations: the sidebar of a chat, newest activity first."""
    converse(db_path, "lisbon", "ada", "I like fado.", "My hotel is near the cathedral of Lisbon.")
    converse(db_path, "oslo", "ada", "My favorite museum is in Oslo.")
    converse(db_path, "sourdough", "bob", "My bread is too flat.")
    with SQLiteSessionRepository(db_path) as repository:
        repository.update_session_metadata("lisbon", {"title": "Lisbon in May"})
        for summary in repository.list_sessions(metadata={"user_id": "ada"}, limit=20):
            title = summary.metadata.get("title", summary.preview)
            print(f"   {summary.updated_at[:16]}  {summary.message_count} messages  {title}")


def search(db_path: Path) -> None:
    """Search: a text in any conversation, upper or lower case."""
    with SQLiteSessionRepository(db_path) as repository:
        for match in repository.search_messages("CATHEDRAL", limit=10):
            print(f"   {match.session_id}, message {match.message_id}, {match.role}: {match.snippet}")


def fork(db_path: Path) -> None:
    """Fork: continue an old conversation from an earlier message. The original stays as it is."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.fork_session("lisbon", "lisbon-2", through_message=1)  # before the hotel was mentioned
    for session_id in ("lisbon", "lisbon-2"):
        with SQLiteSessionManager(session_id, db_path) as session_manager:
            answer = new_agent(session_manager)("What do you know about my hotel?")
            print(f"   {session_id}: {str(answer).strip()}")


def stale_writer(db_path: Path) -> None:
    """Two writers: the agent that missed a message is refused. Build a new one and try again."""
    with SQLiteSessionManager("shared", db_path) as on_the_laptop, SQLiteSessionManager("shared", db_path) as on_phone:
        laptop, phone = new_agent(on_the_laptop), new_agent(on_phone)
        phone("My train is at nine.")
        try:
            laptop("When is my train?")
        except StaleSessionException as error:
            print(f"   {type(error).__name__}: {error}")

    with SQLiteSessionManager("shared", db_path) as session_manager:
        print(f"   a new agent: {str(new_agent(session_manager)('When is my train?')).strip()}")


def errors(db_path: Path) -> None:
    """Errors: each has a type, and says what happened to which session and file."""
    with closing(sqlite3.connect(db_path)) as another_program:
        another_program.execute("BEGIN IMMEDIATE")  # and never finishes
        try:
            converse(db_path, "errors", "ada", "Hello", timeout=0.1)
        except DatabaseLockedException as error:
            print(f"   {type(error).__name__}: {str(error).replace(str(db_path), 'sessions.db')}")

    with SQLiteSessionManager("errors", db_path) as session_manager:
        agent = new_agent(session_manager)
        session_manager.delete_session("errors")
        try:
            agent("Are you still there?")
        except SessionNotFoundException as error:
            print(f"   {type(error).__name__}: {error}")


def moving(db_path: Path) -> None:
    """Moving: copy sessions from FileSessionManager. The files stay as they are."""
    folder = db_path.with_name("files")
    new_agent(FileSessionManager("moved", storage_dir=str(folder)))("My favorite bird is the wren.")

    files = FileSessionRepository(folder)
    with SQLiteSessionRepository(db_path) as repository:
        for session_id in files.list_session_ids():
            copy_session(files, repository, session_id)
    with SQLiteSessionManager("moved", db_path) as session_manager:
        print(f"   {str(new_agent(session_manager)('What is my favorite bird?')).strip()}")


def backup_and_restore(db_path: Path) -> None:
    """Backup and restore: copy the file while others write, and bring a session back from the copy."""
    backup_path = db_path.with_name("backup.db")
    with SQLiteSessionRepository(db_path) as repository:
        repository.backup(backup_path)
        repository.delete_session("lisbon")  # by mistake
        with SQLiteSessionRepository(backup_path, read_only=True) as backup:
            copy_session(backup, repository, "lisbon")
        print(f"   restored, with {len(repository.list_messages('lisbon', 'default'))} messages")
        assert repository.check() == []


def retention(db_path: Path) -> None:
    """Retention: delete what is old, and everything of a user who leaves."""
    with SQLiteSessionRepository(db_path) as repository:
        cutoff = datetime.now(timezone.utc) - timedelta(days=90)
        print(f"   inactive for 90 days: {repository.delete_sessions(updated_before=cutoff)} sessions deleted")
        print(f"   of Bob: {repository.delete_sessions(metadata={'user_id': 'bob'})} session deleted")
        repository.vacuum()  # afterward, nothing that was deleted is left in the file
    assert b"My bread" not in db_path.read_bytes()


def converse(db_path: Path, session_id: str, user_id: str, *texts: str, timeout: float = 30.0) -> None:
    """Have a conversation with a user, as a request to a service would."""
    with SQLiteSessionManager(session_id, db_path, metadata={"user_id": user_id}, timeout=timeout) as session_manager:
        agent = new_agent(session_manager)
        for text in texts:
            agent(text)


def new_agent(session_manager: RepositorySessionManager) -> Agent:
    """Build an agent. It resumes if its session has been used before."""
    return Agent(model=example_model(), session_manager=session_manager, callback_handler=None)


def main() -> None:
    """Run the sections one after the other, on one file."""
    sections = (
        conversations_of_a_user,
        search,
        fork,
        stale_writer,
        errors,
        moving,
        backup_and_restore,
        retention,
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(sections, start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "sessions.db"))


if __name__ == "__main__":
    main()
