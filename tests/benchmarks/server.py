"""A server: many threads, agents and processes write to one file, and nothing else may wait for them.

"Bare SQLite" is one connection for each thread or process, which inserts the same rows and commits each of them, as
`SQLiteSessionManager` appears to do; both wait 30 seconds for other writers. Latencies are those of single appends, of
all writers and rounds together; "over bare" is the median of the ratios of the rounds, with the quartiles in brackets.
"On one loop" is 64 live agents that append in one event loop, against the 64 threads of bare SQLite.

The slow disk takes 2 ms more for every `fsync` and `fdatasync`: a preloaded C library delays them. This part is skipped
without a C compiler.

The stall of an event loop is the longest gap of a heartbeat of 5 ms while eight conversations run in the loop and
another process holds the write lock. `FileSessionManager` has no lock to wait for: it shows what its files cost the
loop, and `openai-agents` what threads cost.
"""

import asyncio
import importlib.util
import itertools
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

from strands.agent.conversation_manager import NullConversationManager
from strands.hooks import MessageAddedEvent
from strands.session.file_session_manager import FileSessionManager
from strands.session.session_manager import SessionManager
from strands.types.content import Message
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

from ..support.lock_holders import held_elsewhere
from .contenders import connect
from .filling import AGENT_ID, INSERT_MESSAGE, build_agent, conversation, fill_database, row, session_ids
from .heartbeat import Heartbeat
from .names import BARE, FILES, MODES, OPENAI, OURS, SNAPSHOTS, Synchronous
from .report import Bars, Chart, Report, verdict
from .stores import DATABASE, SESSION, close
from .timing import Spread, Task, Timing, measure

CROWD = 64  # threads, or agents on one loop
PROCESSES = 16
HELD = 40  # messages of the conversation that a cold start opens
CONVERSATIONS = 8  # on the loop whose stall is measured
ON_ONE_LOOP = "SQLiteSessionManager, on one loop"
SLOW = 0.002  # extra seconds of the slow disk
LATENCIES = ("p50, ms", "p99, ms", "max, ms")

LEAST_GAIN, LEAST_GAIN_SLOW, MOST_P99 = 3.0, 10.0, 0.5  # times bare SQLite
LEAST_SHARE, MOST_WAIT = 0.75, 1 / 3  # times bare SQLite, of many processes
LONE_BUDGET, COLD_BUDGET = 1.05, 1.0  # times
STALL_BUDGET = 20.0  # milliseconds

Append = Callable[[int, Message], object]
Write = Callable[[float], list[float]]


@dataclass
class Crowd:
    """The results of many writers at once, round by round.

    Attributes:
        rates: Commits per second of all writers together.
        waits: Milliseconds that the appends took.
    """

    rates: list[float] = field(default_factory=list)
    waits: list[list[float]] = field(default_factory=list)

    def add(self, waits: list[float], seconds: float) -> None:
        """Add a round, given the seconds that each append took."""
        self.rates.append(len(waits) / seconds)
        self.waits.append([wait * 1000 for wait in waits])

    def gain(self, other: "Crowd") -> Spread:
        """Divide by another one's commits."""
        return Spread.of([mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True)])

    def delay(self, other: "Crowd", statistic: Callable[[Sequence[float]], float]) -> Spread:
        """Divide by another one's latency, such as the maximum."""
        return Spread.of(
            [statistic(mine) / statistic(theirs) for mine, theirs in zip(self.waits, other.waits, strict=True)]
        )

    def latencies(self) -> tuple[str, ...]:
        """Return the cells of `LATENCIES`."""
        return latencies(list(itertools.chain(*self.waits)))


def percentile_99(figures: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(figures, n=100, method="inclusive")[98] if len(figures) > 1 else figures[0]


def latencies(figures: Sequence[float]) -> tuple[str, ...]:
    """Return the cells of `LATENCIES`, given milliseconds."""
    return tuple(f"{figure:,.2f}" for figure in (median(figures), percentile_99(figures), max(figures)))


def at_least(spread: Spread, budget: float) -> str:
    """Say whether a ratio is as large as promised."""
    return f">= {budget:g} {'ok' if spread.middle >= budget else 'UNDER'}"


def at_most(spread: Spread, budget: float) -> str:
    """Say whether a ratio is as small as promised."""
    return f"<= {budget:.3g} {'ok' if spread.middle <= budget else 'OVER'}"


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take fewer and shorter rounds, and smaller files.
        report: Where the figures go.
    """
    measure_threads(folder / "threads", quick, report)
    measure_slow_disk(folder / "slow", quick, report)
    measure_processes(folder / "processes", quick, report)
    measure_lone_writer(folder / "lone", quick, report)
    measure_cold_start(folder / "cold", quick, report)
    measure_stall(folder / "stall", quick, report)
    measure_search(folder / "search", quick, report)
    measure_events(folder / "events", quick, report)


# -- threads, and agents on one loop --


def measure_threads(folder: Path, quick: bool, report: Report) -> None:
    """Let threads append, and agents on one loop."""
    rounds, seconds = (3, 0.2) if quick else (7, 0.5)
    counts = (1, 8, CROWD) if quick else (1, 2, 4, 8, 16, 32, CROWD)
    crowds = write_in_crowds(folder, counts, rounds, seconds)
    report.table(
        f"Threads and agents append to one file in FULL, {seconds:g} seconds each time",
        ("", "writers", "commits per second", *LATENCIES, "commits over bare", "p99 over bare"),
        _crowd_rows(crowds, LEAST_GAIN),
    )
    names = (OURS["FULL"], BARE["FULL"])
    curves = {name: {count: Spread.of(crowds[name, count].rates) for count in counts} for name in names}
    title = "Threads append to one file: commits per second, of all together (more is better)"
    report.chart(Chart("threads", title, ("threads", "commits per second"), {"": curves}, writes=False))


def write_in_crowds(folder: Path, counts: Sequence[int], rounds: int, seconds: float) -> dict[tuple[str, int], Crowd]:
    """Let crowds append in turns; the largest one on one loop as well.

    Args:
        folder: Where the files go.
        counts: How many threads there are.
        rounds: How often all of them have their turn; one more does not count.
        seconds: How long a turn is.
    """
    folder.mkdir(parents=True)
    crowds: dict[tuple[str, int], Crowd] = {}
    with ExitStack() as stack:
        turns: dict[tuple[str, int], Write] = {}
        for count in counts:
            for name, open_crowd in ((BARE["FULL"], bare_threads), (OURS["FULL"], our_threads)):
                path = folder / f"{count} {name}.db"
                fill_database(path, count, history=0)
                turns[name, count] = stack.enter_context(open_crowd(path, count))
        path = folder / "loop.db"
        fill_database(path, CROWD, history=0)
        turns[ON_ONE_LOOP, CROWD] = stack.enter_context(agents_on_one_loop(path, CROWD))
        order = list(turns)
        for number in range(rounds + 1):
            for key in order:
                crowd = crowds.setdefault(key, Crowd())
                begun = time.perf_counter()
                waits = turns[key](seconds)
                if number:
                    crowd.add(waits, time.perf_counter() - begun)
            order.append(order.pop(0))
    return crowds


def _crowd_rows(crowds: Mapping[tuple[str, int], Crowd], least_gain: float) -> Iterator[tuple[str, ...]]:
    for (name, count), crowd in crowds.items():
        cells = (name, str(count), str(Spread.of(crowd.rates)), *crowd.latencies())
        bare = crowds[BARE["FULL"], count]
        if crowd is bare:
            yield (*cells, "", "")
            continue
        gain, delay = crowd.gain(bare), crowd.delay(bare, percentile_99)
        verdicts = (at_least(gain, least_gain), at_most(delay, MOST_P99)) if count == CROWD else ("", "")
        yield (*cells, f"{gain} {verdicts[0]}".strip(), f"{delay} {verdicts[1]}".strip())


def append_for(seconds: float, append: Append, ids: Iterator[int], messages: Sequence[Message]) -> list[float]:
    """Append for some seconds; return the seconds that each append took."""
    waits = []
    end = time.perf_counter() + seconds
    for message, message_id in zip(itertools.cycle(messages), ids, strict=False):
        begun = time.perf_counter()
        append(message_id, message)
        after = time.perf_counter()
        waits.append(after - begun)
        if after >= end:
            break
    return waits


@contextmanager
def in_threads(appends: Sequence[Append]) -> Iterator[Write]:
    """Yield a function that runs a thread for each of some appends for some seconds."""
    messages = list(itertools.islice(conversation(), 1000))
    ids = [itertools.count() for _ in appends]
    barrier = threading.Barrier(len(appends))
    with ThreadPoolExecutor(len(appends)) as executor:

        def write(index: int, seconds: float) -> list[float]:
            barrier.wait(60)
            return append_for(seconds, appends[index], ids[index], messages)

        def write_all(seconds: float) -> list[float]:
            return list(itertools.chain(*executor.map(write, range(len(appends)), itertools.repeat(seconds))))

        yield write_all


@contextmanager
def bare_threads(path: Path, count: int) -> Iterator[Write]:
    """Yield a function that lets threads of bare SQLite append."""
    drop_triggers(path)
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(path, "FULL"))) for _ in range(count)]
        pairs = zip(connections, session_ids(count), strict=True)
        yield stack.enter_context(in_threads([partial(insert, *pair) for pair in pairs]))


def insert(connection: sqlite3.Connection, session_id: str, message_id: int, message: Message) -> None:
    """Append with nothing but SQLite."""
    connection.execute(INSERT_MESSAGE, row(session_id, message_id, message))


def drop_triggers(path: Path) -> None:
    """Remove everything from a file that would cost bare SQLite more than storing rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')


@contextmanager
def our_threads(path: Path, count: int) -> Iterator[Write]:
    """Yield a function that lets threads append with this package."""
    with SQLiteSessionRepository(path) as repository:
        appends = [partial(create, repository, session_id) for session_id in session_ids(count)]
        with in_threads(appends) as write:
            yield write


def create(repository: SQLiteSessionRepository, session_id: str, message_id: int, message: Message) -> None:
    """Append through a repository."""
    repository.create_message(session_id, AGENT_ID, SessionMessage(message, message_id))


@contextmanager
def agents_on_one_loop(path: Path, count: int) -> Iterator[Write]:
    """Yield a function that lets live agents append in one event loop."""
    with ExitStack() as stack:
        managers = [stack.enter_context(SQLiteSessionManager(session_id, path)) for session_id in session_ids(count)]
        agents = list(map(build_agent, managers))
        messages = list(itertools.islice(conversation(), 1000))

        async def write(index: int, end: float) -> list[float]:
            agent, waits = agents[index], []
            del agent.messages[:]  # it must not grow from round to round
            for message in itertools.cycle(messages):
                message = Message(**message)
                agent.messages.append(message)
                begun = time.perf_counter()
                await agent.hooks.invoke_callbacks_async(MessageAddedEvent(agent=agent, message=message))
                after = time.perf_counter()
                waits.append(after - begun)
                if after >= end:
                    break
            return waits

        async def write_all(seconds: float) -> list[float]:
            end = time.perf_counter() + seconds
            return list(itertools.chain(*await asyncio.gather(*(write(index, end) for index in range(count)))))

        yield lambda seconds: asyncio.run(write_all(seconds))


# -- a slow disk --

_DELAY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int delayed(const char *name, int descriptor) {
    static const struct timespec delay = {0, %d};
    nanosleep(&delay, 0);
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(descriptor);
}

int fsync(int descriptor) { return delayed("fsync", descriptor); }
int fdatasync(int descriptor) { return delayed("fdatasync", descriptor); }
"""


def measure_slow_disk(folder: Path, quick: bool, report: Report) -> None:
    """Let threads append where every sync takes longer, in a process of its own."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        report.table("A slow disk: left out, for want of a C compiler", ("",), [])
        return
    rounds, seconds = (2, 0.3) if quick else (5, 1.0)
    folder.mkdir()
    source, library = folder / "delay.c", folder / "delay.so"
    source.write_text(_DELAY % round(SLOW * 1e9))
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    context = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, LD_PRELOAD=str(library)), ProcessPoolExecutor(1, context) as executor:
        job = executor.submit(write_in_crowds, folder / "files", (1, CROWD), rounds, seconds)
        crowds = job.result()
    report.table(
        f"The same where every sync takes {SLOW * 1000:g} ms more",
        ("", "writers", "commits per second", *LATENCIES, "commits over bare", "p99 over bare"),
        _crowd_rows(crowds, LEAST_GAIN_SLOW),
    )


# -- processes --

_barriers: list[Barrier] = []


def measure_processes(folder: Path, quick: bool, report: Report) -> None:
    """Let processes append to one file."""
    rounds, seconds = (2, 0.5) if quick else (5, 1.5)
    processes = 4 if quick else PROCESSES
    folder.mkdir()
    names = (BARE["FULL"], OURS["FULL"])
    for name in names:
        fill_database(folder / f"{name}.db", processes, history=0)
    drop_triggers(folder / f"{names[0]}.db")
    crowds = {name: Crowd() for name in names}
    shares: dict[str, list[float]] = {name: [] for name in names}
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _keep, (barrier,)) as executor:
        for number in range(rounds + 1):
            for name in names if number % 2 else reversed(names):
                jobs = [
                    executor.submit(write_in_process, name, folder / f"{name}.db", index, number, seconds)
                    for index in range(processes)
                ]
                waits = [job.result() for job in jobs]
                if number:
                    crowds[name].add(list(itertools.chain(*waits)), seconds)
                    shares[name].append(min(map(len, waits)) / (sum(map(len, waits)) / processes))
    rows = []
    for name, crowd in crowds.items():
        cells = (name, str(Spread.of(crowd.rates)), *crowd.latencies(), str(Spread.of(shares[name])))
        if name in BARE.values():
            rows.append((*cells, "", ""))
            continue
        gain, wait = crowd.gain(crowds[names[0]]), crowd.delay(crowds[names[0]], max)
        rows.append((*cells, f"{gain} {at_least(gain, LEAST_SHARE)}", f"{wait} {at_most(wait, MOST_WAIT)}"))
    report.table(
        f"{processes} processes append to one file in FULL, {seconds:g} seconds each time",
        ("", "commits per second", *LATENCIES, "least busy over mean", "commits over bare", "longest over bare"),
        rows,
    )


def _keep(barrier: Barrier) -> None:
    """Give a new process the barrier, which cannot be passed in a later call."""
    _barriers.append(barrier)


def write_in_process(name: str, path: Path, index: int, number: int, seconds: float) -> list[float]:
    """Append for some seconds, beginning with the others; return the seconds that each append took."""
    session_id = session_ids(index + 1)[-1]
    messages = list(itertools.islice(conversation(index), 1000))
    ids = itertools.count(number * 1_000_000)
    with ExitStack() as stack:
        append: Append
        if name in OURS.values():
            append = partial(create, stack.enter_context(SQLiteSessionRepository(path)), session_id)
        else:
            append = partial(insert, stack.enter_context(closing(connect(path, "FULL"))), session_id)
        append(next(ids), messages[0])  # opens the file
        _barriers[0].wait(60)
        return append_for(seconds, append, ids, messages)


# -- a lone writer --


def measure_lone_writer(folder: Path, quick: bool, report: Report) -> None:
    """Append without competition, with the queue and without it."""
    folder.mkdir()
    rounds = 20 if quick else 100
    rows = []
    for mode in MODES:
        with ExitStack() as stack:
            contenders: dict[str, Iterator[Task]] = {}
            for name in ("without the queue", "with the queue"):
                path = folder / f"{mode} {name}.db"
                fill_database(path, 1, history=0)
                repository = stack.enter_context(SQLiteSessionRepository(path, synchronous=mode))
                if name == "without the queue":
                    leave_the_queue(repository)
                contenders[name] = appends(repository)
            timings = measure(contenders, rounds, batch=25)
        without, queued = timings.values()
        ratio = queued.ratio(without)
        rows += [(mode, name, *_cells(timing)) for name, timing in timings.items()]
        rows[-2] += ("",)
        rows[-1] += (f"{ratio} {at_most(ratio, LONE_BUDGET)}",)
    report.table(
        "A lone writer appends: the same write with the queue and without it",
        ("", "", *LATENCIES, "over without"),
        rows,
        labels=2,
    )


def appends(repository: SQLiteSessionRepository) -> Iterator[Task]:
    """Append to one session."""
    for message_id, message in enumerate(conversation()):
        yield partial(create, repository, SESSION, message_id, message)


def leave_the_queue(repository: SQLiteSessionRepository) -> None:
    """Have a repository write as if no other process existed."""
    pool: Any = repository._database._pool  # the benchmark removes what the package has no switch for
    alone = sys.modules[type(pool.writers).__module__]._alone
    pool.writers.write = lambda write: pool.use(write.settings, alone, write)


def _cells(timing: Timing) -> tuple[str, ...]:
    return latencies([microseconds / 1000 for taken in timing.rounds for microseconds in taken])


# -- cold starts --


def measure_cold_start(folder: Path, quick: bool, report: Report) -> None:
    """Open a conversation that nothing has open, and build its agent."""
    openers: dict[str, Callable[[], SessionManager]] = {
        OURS["FULL"]: lambda: SQLiteSessionManager(SESSION, folder / DATABASE),
        FILES: lambda: FileSessionManager(SESSION, str(folder / "files")),
    }
    if importlib.util.find_spec("strands.session.snapshot_session_manager"):
        from strands.session.snapshot_session_manager import SnapshotSessionManager
        from strands.storage import LocalFileStorage

        openers[SNAPSHOTS] = lambda: SnapshotSessionManager(
            SESSION, storage=LocalFileStorage(str(folder / "snapshots"))
        )
    for open_session in openers.values():
        manager = open_session()
        manager.sync_agent(build_agent(manager, list(itertools.islice(conversation(), HELD))))
        close(manager)
    contenders = {name: resumptions(open_session) for name, open_session in openers.items()}
    timings = measure(contenders, 30 if quick else 150, batch=3)
    while_open = SQLiteSessionRepository(folder / DATABASE)
    warm = measure({0: resumptions(openers[OURS["FULL"]])}, 30 if quick else 150, batch=3)[0]
    while_open.close()
    against = timings.get(SNAPSHOTS)
    rows = []
    for name, timing in [*timings.items(), ("SQLiteSessionManager, while the file is open", warm)]:
        over = timing.ratio(against) if against not in (None, timing) else None
        budget = f" {at_most(over, COLD_BUDGET)}" if over and timing is timings[OURS["FULL"]] else ""
        rows.append((name.removesuffix(", FULL"), *_cells(timing), f"{over}{budget}" if over else ""))
    title = f"A cold start: a manager and an agent on a conversation of {HELD} messages"
    report.table(title, ("", *LATENCIES, "over snapshots"), rows)


def resumptions(open_session: Callable[[], SessionManager]) -> Iterator[Task]:
    """Open a session and build its agent, and close it outside the timed part."""
    opened: list[SessionManager] = []

    def resume() -> None:
        opened.append(open_session())
        build_agent(opened[-1])

    while True:
        yield resume
        close(opened.pop())


# -- the event loop --


def measure_stall(folder: Path, quick: bool, report: Report) -> None:
    """Have conversations in an event loop while another process holds the lock."""
    seconds = 0.5 if quick else 3.0
    folder.mkdir()
    contenders: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
        OURS["FULL"]: our_conversations,
        FILES: conversations_in_files,
    }
    if importlib.util.find_spec("agents.memory"):
        contenders[OPENAI] = conversations_of_openai
    rows, longest = [], {}
    for name, open_conversations in contenders.items():
        for holding in (False, True):
            if name == FILES and holding:
                continue  # there is no lock
            path = folder / f"{name} {holding}.db"
            with open_conversations(path) as conversations:
                lock = held_elsewhere(path, seconds) if holding else nullcontext()
                with lock:
                    gaps, ended = asyncio.run(watch(conversations))
            rows.append((name.removesuffix(", FULL"), "held" if holding else "free", *latencies(gaps), f"{ended:,.2f}"))
            longest[name] = max(gaps)
    control = float(rows[0][4].replace(",", ""))
    added = max(longest[OURS["FULL"]] - control, 0.0)
    rows[1] += (verdict(added, STALL_BUDGET),)
    rows = [cells if len(cells) == 7 else (*cells, "") for cells in rows]
    title = f"{CONVERSATIONS} conversations in one event loop, another process holds the lock for {seconds:g} seconds"
    header = ("", "lock", *(f"gap, {column}" for column in LATENCIES), "turns end after, s", "stall beyond free, ms")
    report.table(title, header, rows, labels=2)
    notes = {name: f"{figure:,.1f} ms" for name, figure in longest.items()}
    heading = f"The longest stall of an event loop, another process holds the lock for {seconds:g} s (less is better)"
    report.chart(Bars("stall", heading, "ms", longest, notes))


async def watch(conversations: Sequence[Callable[[], Any]]) -> tuple[list[float], float]:
    """Have conversations at once; return the gaps of a heartbeat in milliseconds, and the seconds that all took."""
    begun = time.perf_counter()
    async with Heartbeat() as heartbeat:
        await asyncio.gather(*(talk() for talk in conversations))
        ended = time.perf_counter()
    return [gap * 1000 for gap in heartbeat.gaps], ended - begun


def _names() -> Iterator[str]:
    return (f"conversation {number}" for number in range(CONVERSATIONS))


@contextmanager
def our_conversations(path: Path) -> Iterator[Any]:
    """Yield turns of live agents in one file."""
    with ExitStack() as stack:
        managers = [stack.enter_context(SQLiteSessionManager(name, path)) for name in _names()]
        yield [partial(turns, build_agent(manager)) for manager in managers]


@contextmanager
def conversations_in_files(path: Path) -> Iterator[Any]:
    """Yield turns of live agents in files."""
    yield [partial(turns, build_agent(FileSessionManager(name, str(path)))) for name in _names()]


async def turns(agent: Any) -> None:
    """Take two turns."""
    for text in ("hello", "and on"):
        await agent.invoke_async(text)


@contextmanager
def conversations_of_openai(path: Path) -> Iterator[Any]:
    """Yield as many items as two turns store, in one file of openai-agents."""
    from agents.memory import SQLiteSession

    sessions = [SQLiteSession(name, path) for name in _names()]

    async def talk(session: Any) -> None:
        for number in range(4):
            role = ("user", "assistant")[number % 2]
            await session.add_items([{"role": role, "content": "hello"}])

    try:
        yield [partial(talk, session) for session in sessions]
    finally:
        for session in sessions:
            session.close()


# -- searching, and long contexts --


def measure_search(folder: Path, quick: bool, report: Report) -> None:
    """Search for words that are everywhere and nowhere."""
    folder.mkdir()
    stored, rounds = (20_000, 5) if quick else (300_000, 7)
    path = folder / DATABASE
    fill_database(path, stored // 100)
    with SQLiteSessionRepository(path) as repository:
        contenders = {
            text: itertools.repeat(partial(repository.search_messages, text, limit=50)) for text in ("the", "zzyzx")
        }
        frequent, rare = measure(contenders, rounds, 1).values()
    report.table(
        f"Search {stored:,} messages, limit=50",
        ("", *LATENCIES, "over rare"),
        [
            ("a word that is everywhere", *_cells(frequent), str(frequent.ratio(rare))),
            ("a word that is nowhere", *_cells(rare), ""),
        ],
    )


def measure_events(folder: Path, quick: bool, report: Report) -> None:
    """Append with agents that hold more and more messages, without waiting for the disk."""
    folder.mkdir()
    sizes = (40, 1000, 5000)
    mode: Synchronous = "NORMAL"
    with ExitStack() as stack:
        contenders: dict[tuple[str, int], Iterator[Task]] = {}
        bare = folder / "bare.db"
        fill_database(bare, 1, history=0)
        drop_triggers(bare)
        connection = stack.enter_context(closing(connect(bare, mode)))
        contenders["bare SQLite", 0] = bare_appends(connection)
        for size in sizes:
            manager = stack.enter_context(SQLiteSessionManager(SESSION, folder / f"{size}.db", synchronous=mode))
            messages = list(itertools.islice(conversation(), size))
            agent = build_agent(manager, messages, NullConversationManager())
            contenders["a message is added", size] = live_appends(manager, agent, size)
            contenders["nothing has changed", size] = itertools.repeat(partial(manager.sync_agent, agent))
        timings = measure(contenders, 15 if quick else 60, batch=10)
    alone = timings.pop(("bare SQLite", 0))
    rows = [("bare SQLite inserts", "", *_cells(alone), "")]
    for (name, size), timing in sorted(timings.items(), key=lambda item: item[0]):
        beyond = str(timing.excess(alone, 1000)) if name == "a message is added" else ""
        rows.append((name, f"{size:,}", *_cells(timing), beyond))
    report.table(
        "An event of an agent that holds many messages, in NORMAL",
        ("", "messages", *LATENCIES, "ms beyond bare"),
        rows,
    )


def bare_appends(connection: sqlite3.Connection) -> Iterator[Task]:
    """Append to one session with nothing but SQLite."""
    for message_id, message in enumerate(conversation()):
        yield partial(insert, connection, SESSION, message_id, message)


def live_appends(manager: SQLiteSessionManager, agent: Any, size: int) -> Iterator[Task]:
    """Append to a live agent, which trims what it holds from time to time."""
    for message in conversation(1):
        agent.messages.append(message)
        yield partial(manager.append_message, message, agent)
        if len(agent.messages) > size + 10:
            del agent.messages[: len(agent.messages) - size]
            manager.sync_agent(agent)
