"""After any history, a fork resumes as the original does, and continues on its own from any message."""

from contextlib import suppress
from pathlib import Path

import pytest
from strands import Agent

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.dated_records import stored_rows
from ..support.histories import HISTORIES
from ..support.histories.history import say
from ..support.histories.turns import Dawdler
from ..support.recording_manager import held
from ..support.scripted_model import ScriptedModel
from ..support.tiers import every


def resumed(path: Path, session_id: str, name: str) -> Agent:
    """Build the agent of a history on a session."""
    agent = HISTORIES[name].build(SQLiteSessionManager(session_id, path, synchronous="NORMAL"))
    if isinstance(agent.model, Dawdler):
        agent.model = ScriptedModel()
    return agent


def go_on(agent: Agent) -> None:
    """Take two turns, unless the agent waits for an answer to something else."""
    if not agent._interrupt_state.activated:
        for number in range(2):
            with suppress(ZeroDivisionError):  # some histories have a hook that fails once
                say(agent, f"to the fork {number}")


@pytest.mark.every_case
@pytest.mark.parametrize("name", every(40, HISTORIES))
def test_a_fork_continues_as_the_original_would_from_its_end_and_from_any_message(name: str, tmp_path: Path) -> None:
    if HISTORIES[name].missing:
        pytest.skip(HISTORIES[name].missing)
    path = tmp_path / "sessions.db"
    manager = SQLiteSessionManager("original", path, synchronous="NORMAL")
    agent = HISTORIES[name].build(manager)
    HISTORIES[name].drive(agent)
    before = stored_rows(path, "original")
    count = len(manager.list_messages("original", "default"))

    manager.fork_session("original", "fork")
    fork = resumed(path, "fork", name)
    assert held(fork) == held(agent)
    go_on(fork)
    assert held(resumed(path, "fork", name)) == held(fork)

    for number in sorted({1, count // 2, count - 1} & set(range(count))):
        session_id = f"through {number}"
        manager.fork_session("original", session_id, through_message=number)
        log = manager.list_messages(session_id, "default")
        assert log == manager.list_messages("original", "default")[: number + 1]
        fork = resumed(path, session_id, name)
        go_on(fork)
        assert held(resumed(path, session_id, name)) == held(fork)
        assert manager.list_messages(session_id, "default")[: number + 1] == log

    assert stored_rows(path, "original") == before
    assert held(resumed(path, "original", name)) == held(agent)
    assert manager.check() == []
