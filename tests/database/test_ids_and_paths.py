"""The edges of what is allowed: the largest message id, and a path that names a folder."""

from contextlib import suppress
from pathlib import Path

import pytest
from strands import Agent
from strands.types.exceptions import EventLoopException, SessionException
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.dated_records import add_session, said
from ..support.scripted_model import ScriptedModel

LARGEST = 2**63 - 1


@pytest.mark.parametrize("number", [LARGEST, LARGEST - 1, LARGEST - 2])
def test_an_agent_continues_after_a_very_large_message_id_or_is_refused_clearly(number: int, path: Path) -> None:
    for _ in range(2):
        with SQLiteSessionManager("session", path) as manager:
            agent = Agent(model=ScriptedModel(), session_manager=manager, callback_handler=None)
            with suppress(SessionException, EventLoopException):  # Strands wraps what its event loop meets
                agent("hello")
            with suppress(SessionException):
                manager.sync_agent(agent)
            with suppress(ValueError, SessionException):
                manager.create_message("session", "default", SessionMessage(said("far"), number))


@pytest.mark.parametrize("number", [LARGEST + 1, 2**64])
def test_a_message_id_that_sqlite_cannot_hold_is_refused(number: int, path: Path) -> None:
    with SQLiteSessionRepository(path) as repository:
        add_session(repository, "session")
        with pytest.raises((ValueError, SessionException)):
            repository.create_message("session", "ada", SessionMessage(said("far"), number))
        with pytest.raises((ValueError, SessionException)):
            repository.read_message("session", "ada", number)


@pytest.mark.parametrize("name", ["newdir/", "there/", "newdir/deeper/", "newdir/."])
def test_a_path_that_names_a_folder_makes_no_file_of_that_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with suppress(ValueError, SessionException):
        SQLiteSessionRepository(f"{tmp_path}/{name}").close()
    assert not (tmp_path / name.rstrip("/.")).is_file()
