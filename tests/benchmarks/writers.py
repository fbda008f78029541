"""Many processes that append to one file, each to a session of its own, as fast as they can.

Bare SQLite makes the JSON of a message and inserts the row, on one connection for each process; like the package, it
waits 30 seconds for another writer. "appends per second" is the sum over all processes, "longest append" the longest of
any of them; both are medians of several rounds, with the quartiles in brackets. Files are one for each message, so that
no process waits for another.
"""

import itertools
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path

from strands.session.file_session_manager import FileSessionManager

from strands_sqlite_session_manager import SQLiteSessionRepository

from .contenders import connect_to_append, create, dump_and_insert
from .filling import conversation, fill_database, fill_folder, session_ids
from .names import BARE, FILES, MODES, OURS, WAITS, mode_of, waits
from .report import Chart, Report
from .stores import DATABASE
from .timing import Spread, Task

ROOM = 1_000_000  # message ids for each process in each round
HEADER = ("", WAITS, "processes", "appends per second", "over bare", "over ours", "longest append, ms")
_barriers: dict[int, Barrier] = {}


@dataclass
class Writing:
    """The results of several processes at once, round by round.

    Attributes:
        rates: Appends per second of all processes together.
        longest: Milliseconds that the longest append took.
    """

    rates: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)

    def ratio(self, other: "Writing") -> str:
        """Divide by another one's rate."""
        return "" if self is other else str(Spread.of([a / b for a, b in zip(self.rates, other.rates, strict=True)]))


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take fewer and shorter rounds.
        report: Where the figures go.
    """
    rounds, seconds = (2, 0.2) if quick else (5, 0.5)
    crowds = (1, 4) if quick else (1, 2, 4, 8, 16)
    names = [contender[mode] for mode in MODES for contender in (BARE, OURS)] + [FILES]
    for name in names:
        _fill(name, folder / name, crowds[-1])
    writings = {(name, processes): Writing() for name in names for processes in crowds}
    first_ids = itertools.count(0, ROOM)
    context = multiprocessing.get_context("spawn")
    barriers = {processes: context.Barrier(processes) for processes in crowds}
    with ProcessPoolExecutor(crowds[-1], context, _keep, (barriers,)) as executor:
        for number in range(rounds + 1):
            # The most processes come first, so that all of them have started before anything counts.
            for processes, name in itertools.product(reversed(crowds), names):
                first_id = next(first_ids)
                jobs = [
                    executor.submit(write, name, folder / name, index, processes, first_id, seconds)
                    for index in range(processes)
                ]
                rates, longest = zip(*(job.result() for job in jobs), strict=True)
                if number:
                    writings[name, processes].rates.append(sum(rates))
                    writings[name, processes].longest.append(max(longest))
    report.table(f"Appends of many processes, {seconds:g} seconds each time", HEADER, _rows(writings), labels=2)
    curves = {name: {processes: Spread.of(writings[name, processes].rates) for processes in crowds} for name in names}
    title = "Many processes append to one file: appends per second, of all together (more is better)"
    report.chart(Chart("writers", title, ("processes", "appends per second"), {"": curves}, writes=True))


def write(name: str, folder: Path, index: int, processes: int, first_id: int, seconds: float) -> tuple[float, float]:
    """Append for some seconds, beginning with the others; return the rate, and the milliseconds of the longest."""
    session_id = session_ids(index + 1)[-1]
    messages = list(itertools.islice(conversation(index), 1000))
    appends = zip(itertools.repeat(session_id), itertools.count(first_id), itertools.cycle(messages), strict=False)
    with ExitStack() as stack:
        tasks: Iterator[Task]
        if name == FILES:
            tasks = create(FileSessionManager(session_id, str(folder)), appends)
        elif name in OURS.values():
            repository = SQLiteSessionRepository(folder / DATABASE, synchronous=mode_of(name))
            tasks = create(stack.enter_context(repository), appends)
        else:
            tasks = dump_and_insert(
                stack.enter_context(closing(connect_to_append(folder / DATABASE, mode_of(name)))), appends
            )
        next(tasks)()  # opens the file
        _barriers[processes].wait(timeout=60)
        count, longest, begun = 0, 0.0, time.perf_counter()
        before = begun
        for task in tasks:
            task()
            after = time.perf_counter()
            count, longest = count + 1, max(longest, after - before)
            if after - begun > seconds:
                break
            before = time.perf_counter()
    return count / (after - begun), longest * 1000


def _keep(barriers: Mapping[int, Barrier]) -> None:
    """Give a new process the barriers, which cannot be passed in a later call."""
    _barriers.update(barriers)


def _fill(name: str, folder: Path, sessions: int) -> None:
    """Create the sessions."""
    if name == FILES:
        fill_folder(folder, sessions, history=0)
        return
    folder.mkdir()
    fill_database(folder / DATABASE, sessions, history=0)
    if name in BARE.values():
        connect_to_append(folder / DATABASE, mode_of(name)).close()


def _rows(writings: Mapping[tuple[str, int], Writing]) -> Iterator[tuple[str, ...]]:
    for (name, processes), writing in writings.items():
        bare, ours = (writings[contender[mode_of(name)], processes] for contender in (BARE, OURS))
        yield (
            name,
            waits(name),
            str(processes),
            str(Spread.of(writing.rates)),
            writing.ratio(bare),
            writing.ratio(ours),
            str(Spread.of(writing.longest)),
        )
