"""Basic usage: an agent that remembers, with everything it remembers in one SQLite file.

Run it with `python examples/01_basic_usage.py`. It works in a temporary folder and needs no network, unless
`STRANDS_EXAMPLES_MODEL` asks for a real model (see README.md in this folder).
"""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from offline_model import example_model
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager


def custom_path(db_path: Path) -> None:
    """Custom path: the file and its missing folders are created, for their owner only."""
    with SQLiteSessionManager("demo", db_path):
        print(f"   {stat.filemode(db_path.parent.stat().st_mode)}  {db_path.parent.name}/")
        print(f"   {stat.filemode(db_path.stat().st_mode)}  {db_path.name}")


def basic_conversation(db_path: Path) -> None:
    """Basic conversation: whatever is said is stored the moment it is said."""
    with SQLiteSessionManager("demo", db_path) as session_manager:
        agent = new_agent(session_manager)
        say(agent, "Hello, my name is Ada.")
        say(agent, "My favourite colour is teal, and I like sailing.")
        agent.state.set("language", "en")  # stored as well, at the next message or the end of the turn
        say(agent, "What is my favourite colour?")


def resuming(db_path: Path) -> None:
    """Resuming: a new process builds an agent on the same session id."""
    print(f"   process {os.getpid()} starts another one", flush=True)
    subprocess.run([sys.executable, __file__, str(db_path)], check=True)


def in_the_new_process(db_path: Path) -> None:
    """Do what `resuming` starts this program again for."""
    with SQLiteSessionManager("demo", db_path) as session_manager:
        agent = new_agent(session_manager)
        print(f"   process {os.getpid()} finds {len(agent.messages)} messages and the state {agent.state.get()}")
        say(agent, "What is my name?")


def environment_variable(db_path: Path) -> None:
    """Environment variable: STRANDS_SQLITE_DB_PATH says where the file is when the code does not."""
    os.environ["STRANDS_SQLITE_DB_PATH"] = str(db_path)
    with SQLiteSessionManager("demo") as session_manager:
        say(new_agent(session_manager), "What did I tell you?")


def in_memory(_: Path) -> None:
    """In memory, for tests: the same behaviour, a database of its own, and no file."""
    with SQLiteSessionManager("demo", ":memory:") as session_manager:
        agent = new_agent(session_manager)
        say(agent, "What is my name?")
        say(agent, "Call me Grace.")
        print(f"   {len(session_manager.list_messages('demo', agent.agent_id))} messages stored, none on the disk")


def plain_sqlite(db_path: Path) -> None:
    """A look inside: the tables are for people, too."""
    with closing(sqlite3.connect(db_path)) as connection:
        for row in connection.execute(
            """
            SELECT message_id, json_extract(message, '$.role'), json_extract(message, '$.content[0].text')
            FROM messages
            WHERE session_id = 'demo'
            ORDER BY message_id
            """
        ):
            print("  ", " | ".join(map(str, row)))


def new_agent(session_manager: SQLiteSessionManager) -> Agent:
    """Build an agent, which resumes if its session has been used before."""
    return Agent(model=example_model(), session_manager=session_manager, callback_handler=None)


def say(agent: Agent, text: str) -> None:
    """Say something to the agent, and print both sides."""
    print(f"   you:   {text}")
    print(f"   agent: {str(agent(text)).strip()}")


def main() -> None:
    """Run the sections one after the other, on one file."""
    sections = (custom_path, basic_conversation, resuming, environment_variable, in_memory, plain_sqlite)
    with tempfile.TemporaryDirectory() as folder:
        for number, section in enumerate(sections, start=1):
            print(f"\n{number}. {section.__doc__}")
            section(Path(folder, "chats", "sessions.db"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        in_the_new_process(Path(sys.argv[1]))
    else:
        main()
