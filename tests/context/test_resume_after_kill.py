"""Kill a process at any moment: a new agent holds what the last event before the kill announced."""

import random
import signal
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import pytest

from ..support.fresh_processes import in_a_new_process
from ..support.histories import HISTORIES, SESSION
from ..support.histories.history import say
from ..support.killable_agents import DATABASE, live, live_on_borrowed_time, read_diary
from ..support.recording_manager import Recorder, held, written
from ..support.tiers import tier

if not hasattr(signal, "SIGKILL"):
    pytest.skip("this system kills in another way", allow_module_level=True)

CONFIGURED_AS = (
    "plain turns",
    "a sliding window",
    "a sliding window before every model call",
    "a summary",
    "a summary by the agent's own model",
    "a hook that edits one in place when a message is added",
    "a hook that assigns a list of equal copies when a message is added",
    "a hook that inserts one before a model call",
)
DEATHS = 12
"""How many moments of each life the long tests try; it has some two hundred."""


@pytest.fixture(params=tier(CONFIGURED_AS, quick=["a sliding window", "a summary"]))
def name(request: pytest.FixtureRequest) -> str:
    """How the agent is configured."""
    if HISTORIES[request.param].missing:
        pytest.skip(HISTORIES[request.param].missing)
    return str(request.param)


@pytest.fixture
def deaths(name: str, request: pytest.FixtureRequest) -> int:
    """How many moments to try: all in the long tests, a few in the quick ones."""
    return DEATHS if request.node.get_closest_marker("long") else 2


def test_a_killed_process_resumes_from_the_last_event_that_was_announced(
    name: str, deaths: int, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    moments = in_a_new_process(live, name, tmp_path / "whole")
    for last in random.Random(name).sample(range(1, moments + 1), deaths):
        folder = tmp_path / str(last)
        folder.mkdir()
        with pytest.raises(BrokenProcessPool):
            in_a_new_process(live, name, folder, last)
        before, _ = read_diary(folder)
        with Recorder(SESSION, folder / DATABASE) as manager:
            agent = HISTORIES[name].build(manager)
            assert manager.check() == []
            messages = manager.list_messages(SESSION, agent.agent_id, last=1)
            if messages:  # the last moment is now, and was written whole
                now = manager.read_context(SESSION, agent.agent_id)
                assert manager.read_context(SESSION, agent.agent_id, messages[0].message_id) == now
            if before:
                assert [held(agent), written(manager.listed())] == before, f"killed at moment {last} of {moments}"
            with suppress(TypeError):  # it may wait for the answer to an interrupt
                say(agent, "life goes on")
        with Recorder(SESSION, folder / DATABASE) as again:
            assert held(HISTORIES[name].build(again)) == manager.held.get("default", held(agent))


def test_a_process_killed_at_any_instruction_has_stored_an_event_whole_or_not_at_all(
    name: str, deaths: int, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    seconds = in_a_new_process(live_on_borrowed_time, name, tmp_path / "whole")
    chance = random.Random(name)
    for number in range(deaths):
        folder = tmp_path / str(number)
        folder.mkdir()
        with suppress(BrokenProcessPool):  # or it outlived its time
            in_a_new_process(live_on_borrowed_time, name, folder, chance.uniform(0, seconds))
        before, expected = read_diary(folder)
        with Recorder(SESSION, folder / DATABASE) as manager:
            assert held(HISTORIES[name].build(manager)) in [*before[:1], *expected], f"killed in life {number}"
