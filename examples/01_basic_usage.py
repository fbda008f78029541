"""Basic usage: an agent that remembers.

Run it with `python examples/01_basic_usage.py`. It works in a temporary folder and needs no network.
"""

import tempfile
from pathlib import Path

from offline_model import example_model
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager

with tempfile.TemporaryDirectory() as folder:
    db_path = Path(folder, "sessions.db")

    with SQLiteSessionManager("my-session", db_path) as session_manager:
        agent = Agent(model=example_model(), session_manager=session_manager, callback_handler=None)
        print("you:   My name is Ada.")
        print("agent:", agent("My name is Ada."))

    # Any time later, in this process or another one: same session id, same file.
    with SQLiteSessionManager("my-session", db_path) as session_manager:
        agent = Agent(model=example_model(), session_manager=session_manager, callback_handler=None)
        print(f"a new agent resumes with {len(agent.messages)} messages")
        print("you:   What is my name?")
        print("agent:", agent("What is my name?"))
