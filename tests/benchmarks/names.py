"""What the contenders are called: a name that ends with FULL waits for the disk with every write, others do not."""

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
    """Say which mode of SQLite a contender is to be compared with."""
    return "FULL" if name.endswith("FULL") else "NORMAL"


def waits(name: str) -> str:
    """Say whether a write waits for the disk."""
    return "yes" if mode_of(name) == "FULL" else "no"


def without_mode(name: str) -> str:
    """Name a contender where it makes no difference who waits for the disk."""
    return name.split(",")[0]
