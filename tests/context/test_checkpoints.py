"""You can return to any message, exactly: by a fork, by a rewind, and by reading its context."""

from pathlib import Path
from typing import Any

import pytest
from strands.types.content import Message

from strands_sqlite_session_manager import SQLiteSessionManager

from ..support.histories import HISTORIES, SESSION
from ..support.histories.history import History
from ..support.recording_manager import Recorder, held, written
from ..support.tiers import every

# Histories in which Strands itself changes an agent that did not reach the end of its turn.
NOT_IN_THE_MIDDLE = {
    "a conversation that the model keeps": "a message is not told again to a model that has heard it",
    "tools in the background": "what runs in the background does not run on in another process",
}


class Historian(Recorder):
    """Notes, at every event, what a new agent on the session holds, by the last message of the history."""

    def __init__(self, path: Path, history: History) -> None:
        super().__init__(SESSION, path)
        self.moments: dict[int, tuple[str, str]] = {}
        self._path = path
        self._history = history

    def redact_latest_message(self, redact_message: Message, agent: Any, **kwargs: Any) -> None:
        self.moments.clear()  # a redaction applies to every checkpoint
        super().redact_latest_message(redact_message, agent, **kwargs)

    def _note(self, agent: Any) -> None:
        super()._note(agent)
        messages = self.list_messages(SESSION, agent.agent_id)
        with SQLiteSessionManager(SESSION, self._path) as manager:
            resumed = self._history.build(manager)
            self.moments[messages[-1].message_id if messages else -1] = held(resumed), written(resumed.messages)


@pytest.mark.parametrize("name", every(9, [name for name in HISTORIES if name not in NOT_IN_THE_MIDDLE]))
def test_a_fork_and_a_rewind_through_any_message_hold_what_a_resume_held_then(name: str, tmp_path: Path) -> None:
    history = HISTORIES[name]
    if history.missing:
        pytest.skip(history.missing)
    path = tmp_path / "sessions.db"
    with Historian(path, history) as manager:
        history.drive(history.build(manager))
        moments = manager.moments
        manager.fork_session(SESSION, "rewound")
        for number in sorted(moments, reverse=True):
            expected, messages = moments[number]
            assert written(manager.read_context(SESSION, "default", number)) == messages, number
            manager.fork_session(SESSION, f"through {number}", through_message=number)
            manager.rewind_session("rewound", through_message=number)
            manager.fork_session("rewound", f"rewound {number}", through_message=number)
            for session_id in (f"through {number}", f"rewound {number}"):
                with SQLiteSessionManager(session_id, path) as other:
                    assert held(history.build(other)) == expected, session_id
        # A fork of a fork has the checkpoints before it as well.
        last = max(moments)
        for number in moments:
            manager.fork_session(f"through {last}", f"again {number}", through_message=number)
            with SQLiteSessionManager(f"again {number}", path) as other:
                assert held(history.build(other)) == moments[number][0], number
        assert manager.check() == []
