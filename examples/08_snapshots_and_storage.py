"""Snapshots, offloaded results and memory in one file: everything in Strands that takes a `Storage`.

Run it with `python examples/08_snapshots_and_storage.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder). It needs a newer Strands than the other
examples: 1.54.
"""

import asyncio
import sys
import tempfile
import warnings
from pathlib import Path

from offline_model import example_model
from strands import Agent, tool

try:
    from strands.session import SnapshotSessionManager
    from strands.storage.search import KeywordSearchStrategy  # noqa: F401  # only newer versions search
    from strands.vended_memory_stores.file_memory_store import FileMemoryStore
    from strands.vended_plugins.context_offloader import ContextOffloader
except ImportError:
    print("This example needs a newer Strands: pip install -U strands-agents")
    sys.exit()

from strands_sqlite_session_manager import (
    SnapshotRepository,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    SQLiteStorage,
    copy_session,
)


def snapshots(storage: SQLiteStorage) -> None:
    """Snapshots: a new agent picks up where the last one left off."""
    new_agent(storage)("My name is Ada.")
    agent = new_agent(storage)
    print(f"   resumed with {len(agent.messages)} messages")
    print(f"   {str(agent('What is my name?')).strip()}")


async def checkpoints(storage: SQLiteStorage) -> None:
    """Checkpoints: save a snapshot that stays, and return to it."""
    session_manager = SnapshotSessionManager("my-session", storage=storage)
    agent = Agent(model=example_model(), session_manager=session_manager, callback_handler=None)
    checkpoint = await session_manager.save_snapshot(agent, is_latest=False)
    await agent.invoke_async("My name is Bob.")
    print(f"   continued to {len(agent.messages)} messages")
    await session_manager.restore_snapshot(agent, snapshot_id=checkpoint)
    answer = await agent.invoke_async("What is my name?")
    print(f"   back to the checkpoint: {str(answer).strip()}")


def offloading(storage: SQLiteStorage) -> None:
    """Offloading: a result that is too long for the context goes to the storage."""

    @tool
    def manual() -> str:
        """Return the whole manual."""
        return "\n".join(f"line {number} of the manual" for number in range(5000))

    agent = Agent(model=example_model(), tools=[manual], plugins=[ContextOffloader(storage)], callback_handler=None)
    agent("Show me the manual.")
    (result,) = [
        block["toolResult"] for message in agent.messages for block in message["content"] if "toolResult" in block
    ]
    offloaded = [key for key in asyncio.run(storage.list()) if not key.startswith(("session/", "memory/"))]
    sizes = [len(asyncio.run(storage.read(key)) or b"") for key in offloaded]
    print(f"   the agent holds {len(str(result['content'])):,} characters, the storage {sum(sizes):,} bytes")


async def memory(storage: SQLiteStorage) -> None:
    """Memory: notes that outlive a conversation, found by their words."""
    store = FileMemoryStore(name="notes", storage=storage)
    await store.add("# Lisbon\nThe hotel is near the cathedral.")
    await store.add("# Bread\nFlour, water and salt.")
    for entry in await store.search("where is the hotel?"):
        print(f"   {entry.metadata['path']}: {entry.content.splitlines()[-1]}")


def migration(storage: SQLiteStorage, db_path: Path) -> None:
    """Migration: the session moves to a message history, continues there, and comes back as a snapshot."""
    with SQLiteSessionRepository(db_path) as repository, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the immutable checkpoint stays behind
        copy_session(SnapshotRepository(storage), repository, "my-session")
    with SQLiteSessionManager("my-session", db_path) as session_manager:
        agent = Agent(model=example_model(), session_manager=session_manager, callback_handler=None)
        agent("Thank you.")
        print(f"   the history has {len(session_manager.list_messages('my-session', 'default'))} messages")
        copy_session(session_manager, SnapshotRepository(storage), "my-session", new_session_id="my-session-2")
    session_manager_2 = SnapshotSessionManager("my-session-2", storage=storage)
    back = Agent(model=example_model(), session_manager=session_manager_2, callback_handler=None)
    print(f"   the snapshot has the same {len(back.messages)}: {back.messages == agent.messages}")


def one_file(storage: SQLiteStorage, db_path: Path) -> None:
    """One file: all of it is in one backup, and `strands-sqlite storage list` shows it."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.backup(db_path.with_name("backup.db"))
        assert repository.check() == []
    with SQLiteStorage(db_path.with_name("backup.db")) as backup:
        assert asyncio.run(backup.list()) == asyncio.run(storage.list())
        for prefix in ("session/", "memory/"):
            print(f"   {prefix} {len(asyncio.run(backup.list(prefix)))} keys")


def new_agent(storage: SQLiteStorage) -> Agent:
    """Build an agent. It resumes if its session has been used before."""
    session_manager = SnapshotSessionManager("my-session", storage=storage)
    return Agent(model=example_model(), session_manager=session_manager, callback_handler=None)


def main() -> None:
    """Run the sections one after the other, on one file."""
    with tempfile.TemporaryDirectory() as folder:
        db_path = Path(folder) / "sessions.db"
        with SQLiteStorage(db_path) as storage:
            print(snapshots.__doc__)
            snapshots(storage)
            print(checkpoints.__doc__)
            asyncio.run(checkpoints(storage))
            print(offloading.__doc__)
            offloading(storage)
            print(memory.__doc__)
            asyncio.run(memory(storage))
            print(migration.__doc__)
            migration(storage, db_path)
            print(one_file.__doc__)
            one_file(storage, db_path)


if __name__ == "__main__":
    main()
