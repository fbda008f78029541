"""Ten agents continue one session, one after the other, and each resumes exactly while the context is managed."""

from contextlib import suppress
from pathlib import Path

import pytest
from strands import Agent
from strands.types.exceptions import ContextWindowOverflowException

from ..support.histories import HISTORIES, SESSION
from ..support.histories.history import History, call, say
from ..support.recording_manager import Log, Recorder, held, written
from ..support.scripted_model import OVERFLOW, REDACT_INPUT
from ..support.tiers import tier

GENERATIONS = 10
CONFIGURED_AS = (
    "plain turns",
    "a sliding window",
    "a sliding window with pins",
    "a sliding window before every other model call",
    "a sliding window that slides early",
    "a summary",
    "a summary with pins",
    "a summary made early",
    "a summary by the agent's own model",
    "an automatic context",
    "an automatic context in a small model",
    "a manager that rewrites",
    "a manager that inserts",
    "a continuation merged under a sliding window",
    "a hook that edits one in place when a message is added",
    "a hook that repeats one otherwise after an invocation",
)


@pytest.fixture(params=tier(CONFIGURED_AS, quick=["a summary with pins"]))
def history(request: pytest.FixtureRequest) -> History:
    """A way to build an agent."""
    history = HISTORIES[request.param]
    if history.missing:
        pytest.skip(history.missing)
    return history


def live_on(agent: Agent) -> None:
    """Take turns with a long tool result, a redaction and an overflow, and keep something in the state."""
    say(agent, "question")
    say(agent, "recite", [call("recite", "t1", lines=50)], "done")
    say(agent, "a secret", REDACT_INPUT)
    agent.state.set("generation", (agent.state.get("generation") or 0) + 1)
    with suppress(ContextWindowOverflowException):
        say(agent, "too much", OVERFLOW, "it fits", "now it fits")


@pytest.mark.long
def test_ten_generations_each_resume_with_what_the_last_one_held(history: History, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    log = Log()
    expected = None
    for _ in range(GENERATIONS):
        with Recorder(SESSION, path, log) as manager:
            agent = history.build(manager)
            assert expected in (None, held(agent))
            live_on(agent)
            expected = manager.held["default"]
            assert expected == held(agent)
            assert written(manager.listed()) == written(log.messages())
    assert agent.state.get("generation") == GENERATIONS


def test_resuming_without_a_turn_changes_nothing(history: History, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with Recorder(SESSION, path) as manager:
        live_on(history.build(manager))
        stored = manager.read_agent(SESSION, "default"), manager.listed()
    for _ in range(GENERATIONS):
        with Recorder(SESSION, path) as again:
            assert held(history.build(again)) == manager.held["default"]
            assert (again.read_agent(SESSION, "default"), again.listed()) == stored
