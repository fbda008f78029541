"""Histories of agents, each to happen live and then to be resumed elsewhere."""

from pathlib import Path

from strands_sqlite_session_manager import SQLiteSessionManager

from ..recording_manager import held
from .context_management import CONTEXT
from .edits import EDITED
from .history import History
from .turns import TURNS

HISTORIES: dict[str, History] = {**TURNS, **CONTEXT, **EDITED}
SESSION = "the session"


def resume(name: str, path: Path, agent_id: str = "default") -> str:
    """Build the agent of a history on the session that another agent has left, and return what it holds, as text."""
    with SQLiteSessionManager(SESSION, path) as manager:
        return held(HISTORIES[name].build(manager, agent_id))
