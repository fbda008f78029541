"""More than one interpreter in a process, as in an application server that gives each application its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager

IN_ANOTHER_INTERPRETER = """
import os, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def in_another_interpreter(code):
    interpreter = interpreters.create()
    try:
        error = interpreters.run_string(interpreter, code)  # from Python 3.13 on it returns what others raise
        return "" if error is None else error.msg
    except Exception as error:
        return str(error)
    finally:
        interpreters.destroy(interpreter)
"""


def output_of(code: str) -> list[str]:
    """Run code in a new process, and return the lines that it prints.

    It does not finalize: Python 3.12.1 crashes there once another of its interpreters has imported `hashlib`.
    """
    code = f"{IN_ANOTHER_INTERPRETER}\n{code}\nsys.stdout.flush(); os._exit(0)"
    folder = Path(__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.long
def test_a_second_interpreter_is_told_that_it_cannot_import_strands_and_the_first_continues(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions.db")
    read = f"""
from strands_sqlite_session_manager import SQLiteSessionRepository
with SQLiteSessionRepository({path!r}) as repository:
    assert len(repository.list_messages("the session", "default")) == 2
"""
    error, *messages = output_of(f"""
from strands import Agent
import pytest

from strands_sqlite_session_manager import SQLiteSessionManager
from tests.support.scripted_model import ScriptedModel

manager = SQLiteSessionManager("the session", {path!r})
agent = Agent(model=ScriptedModel(), callback_handler=None, session_manager=manager)
agent("hello")
print(in_another_interpreter({read!r}))
agent("and on")
print(len(manager.list_messages("the session", "default")))
""")
    assert error == "" or "subinterpreters" in error  # it is pydantic that refuses; one day it may not
    assert messages == ["4"]


def test_commands_that_read_run_in_any_interpreter(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions.db")
    SQLiteSessionManager("the session", path).close()
    command = f"""
import sys
from strands_sqlite_session_manager.cli import main
assert main(["--db", {path!r}, "list"]) == 0
sys.stdout.flush()
"""
    *listed, error = output_of(f"print(in_another_interpreter({command!r}))")
    assert error == ""
    assert listed[-1].endswith("the session")
