"""A process holds no more after thousands of managers and turns than after a few.

It holds threads, open files, and memory: of Python's objects, of SQLite, and of the process. Each routine runs in a
process of its own. `database/test_connections.py` counts the connections of one manager.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from ..support.fresh_processes import PROCESSES
from ..support.leak_routines import ROUTINES, before_and_after
from ..support.tiers import tier

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at memory and files in /proc/self")

MEGABYTE = 1 << 20
BLOCKS = 600  # that Python itself comes to keep, ever more slowly; a manager that leaks takes dozens in each round
RESIDENT = 8 * MEGABYTE  # less than 1 KB for each of 10,000 rounds
CACHE = 2.5 * MEGABYTE  # to which a connection that is open may cache pages; SQLite's default is 2 MB


@pytest.mark.parametrize("routine", tier(ROUTINES, quick=["managers that are dropped", "turns of one agent"]))
def test_a_process_holds_as_much_after_dozens_of_rounds_as_after_a_few(routine: str, tmp_path: Path) -> None:
    """What leaks in every round is plain to see after a few dozen."""
    verify(routine, tmp_path, 60, warm_up=60)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("routine", ROUTINES)
def test_a_process_holds_as_much_after_10_000_rounds_as_after_a_few(
    routine: str, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    """10,000 rounds of each: managers dropped, closed, refused; turns of one agent, of many, and of stale ones."""
    verify(routine, tmp_path, scaled(10_000), warm_up=max(150, scaled(600)))


def lasting(threads: list[str]) -> list[str]:
    """Leave out committers, which end after five idle seconds."""
    return [name for name in threads if name != "strands-sqlite-committer"]


def verify(routine: str, folder: Path, rounds: int, warm_up: int) -> None:
    for attempt in range(3):  # Python now and then keeps a thousand blocks for itself; what leaks does so every time
        place = folder / str(attempt)
        place.mkdir()
        with ProcessPoolExecutor(1, mp_context=PROCESSES) as executor:
            before, after = executor.submit(before_and_after, routine, place, warm_up, rounds).result()
        if after.blocks - before.blocks < BLOCKS + rounds / 10:
            break
    assert lasting(after.threads) == lasting(before.threads)
    assert after.files == before.files
    assert after.blocks - before.blocks < BLOCKS + rounds / 10
    assert after.resident - before.resident < RESIDENT
    is_open = any(name.endswith("sessions.db") for name in after.files)
    assert after.sqlite - before.sqlite <= (CACHE if is_open else 0)
