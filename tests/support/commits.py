"""Counts the transactions that were committed to a database, from its write-ahead log."""

from pathlib import Path

_HEADER, _FRAME = 32, 24  # bytes before the frames, and before the page of each


def commits_in_wal(path: Path) -> int:
    """Count the transactions in the write-ahead log of a database, which must be too short for a checkpoint."""
    wal = Path(f"{path}-wal").read_bytes()
    page_size = int.from_bytes(wal[8:12], "big")
    salts = wal[16:24]
    count = 0
    for start in range(_HEADER, len(wal) - _FRAME, _FRAME + page_size):
        frame = wal[start : start + _FRAME]
        if frame[8:16] != salts:  # left over from before the last checkpoint
            break
        count += frame[4:8] != bytes(4)  # the size of the database, in the last frame of a transaction
    return count
