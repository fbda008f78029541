"""A process that is killed at any moment leaves every key whole, old or new, and no surplus block."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("strands.storage", reason="this Strands has no storage")

from strands_sqlite_session_manager import SQLiteSessionRepository, SQLiteStorage

from ..support.storages import conversation, run, snapshot
from ..support.workers import killed

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")

if not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")):
    pytest.skip("this system kills in another way", allow_module_level=True)

MESSAGES = conversation(200)
VERSIONS = [snapshot(MESSAGES[start : start + 120], start) for start in range(0, 80, 4)]
KEYS = ("one", "two", "three")


async def write_forever(storage: SQLiteStorage, seed: int) -> None:
    rng = random.Random(seed)
    while True:
        for key in KEYS:
            await storage.write(key, rng.choice(VERSIONS))
        await storage.write("doomed", rng.choice(VERSIONS))
        await storage.delete("doomed")


def kill_writers(path: Path, times: int) -> None:
    rng = random.Random(7)
    with SQLiteStorage(path, synchronous="NORMAL") as storage:
        for key in KEYS:
            run(storage.write(key, VERSIONS[0]))
    for seed in range(times):
        end = time.monotonic() + rng.uniform(0.02, 0.2)

        def work(seed: int = seed) -> None:
            with SQLiteStorage(path, synchronous="NORMAL") as storage:
                asyncio.run(write_forever(storage, seed))

        assert killed(work, lambda end=end: time.monotonic() > end) == signal.SIGKILL  # type: ignore[misc]
        with SQLiteStorage(path) as storage, SQLiteSessionRepository(path) as repository:
            assert all(run(storage.read(key)) in VERSIONS for key in KEYS)
            assert run(storage.read("doomed")) in (None, *VERSIONS)
            assert repository.check() == []


def test_a_killed_process_leaves_every_key_whole(path: Path) -> None:
    kill_writers(path, 3)


@pytest.mark.long
def test_hundreds_of_killed_processes_leave_every_key_whole(path: Path, scaled: Callable[[int], int]) -> None:
    kill_writers(path, scaled(300))
