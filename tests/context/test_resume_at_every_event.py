"""At every event, not only at the end, a new agent would hold and have stashed just what the live one has."""

from pathlib import Path
from typing import Any

import pytest

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.histories import HISTORIES, SESSION
from ..support.histories.history import History
from ..support.recording_manager import Recorder, held, stashed
from ..support.tiers import every

# Histories in which Strands itself changes an agent that did not reach the end of its turn.
NOT_IN_THE_MIDDLE = {
    "a conversation that the model keeps": "a message is not told again to a model that has heard it",
    "tools in the background": "what runs in the background does not run on in another process",
}


def being_stashed(agent: Any) -> set[str]:
    """Return the references of the last message, which the live agent may stash only after our event."""
    last = agent.messages[-1] if agent.messages else {"content": []}
    stash = getattr(getattr(agent, "context_manager", None), "stash", None)
    blocks = enumerate(last["content"]) if stash else ()
    return {reference for index, block in blocks for reference in stash.refs_for(block, last, index)}


class Doubter(Recorder):
    """Builds another agent on the session at every event, and notes how it differs from the live one."""

    def __init__(self, path: Path, history: History) -> None:
        super().__init__(SESSION, path)
        self.differences: list[tuple[str, str]] = []
        self._path = path
        self._history = history

    def _note(self, agent: Any) -> None:
        super()._note(agent)
        with SQLiteSessionManager(SESSION, self._path) as manager:
            resumed = self._history.build(manager)
            found, expected = held(resumed), self.held[agent.agent_id]
            given, stash = stashed(resumed), stashed(agent)
        if found != expected:
            self.differences.append((found, expected))
        for reference in stash.keys() - being_stashed(agent):
            if given.get(reference) != stash[reference]:
                self.differences.append((f"{reference}: {given.get(reference)}", f"{reference}: {stash[reference]}"))


@pytest.mark.every_case
@pytest.mark.parametrize("name", every(40, [name for name in HISTORIES if name not in NOT_IN_THE_MIDDLE]))
def test_at_every_event_a_new_agent_holds_what_the_live_one_holds(name: str, tmp_path: Path) -> None:
    history = HISTORIES[name]
    if history.missing:
        pytest.skip(history.missing)
    with Doubter(tmp_path / "sessions.db", history) as manager:
        history.drive(history.build(manager))
        for found, expected in manager.differences:
            assert found == expected
