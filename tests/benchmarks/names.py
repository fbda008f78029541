"""The names of the contenders: those whose name ends with FULL wait for the disk with every write, others do not."""

from typing import Literal

Synchronous = Literal["FULL", "NORMAL"]
MODES: tuple[Synchronous, ...] = ("FULL", "NORMAL")

BARE = {mode: f"bare SQLite, {mode}" for mode in MODES}
DUMPED = {mode: f"bare + json.dumps, {mode}" for mode in MODES}
OURS = {mode: f"SQLiteSessionManager, {mode}" for mode in MODES}
LIVE = {mode: f"a live agent, {mode}" for mode in MODES}
FILES, S3, SNAPSHOTS = "FileSessionManager", "S3SessionManager (local server)", "SnapshotSessionManager"
OPENAI = "SQLiteSession of openai-agents"
NOTHING = "no session manager"

WAITS = "waits for the disk"  # the header of a column


def mode_of(name: str) -> Synchronous:
    """Return the mode of SQLite to compare a contender with."""
    return "FULL" if name.endswith("FULL") else "NORMAL"


def waits(name: str) -> str:
    """Return whether a write waits for the disk."""
    return "yes" if mode_of(name) == "FULL" else "no"


def without_mode(name: str) -> str:
    """Name a contender where waiting for the disk makes no difference."""
    return name.split(",")[0]
