"""Resuming a conversation and continuing it, with every session manager.

"history" is the number of messages in the conversation: with the window "all", the agent holds all of it
(`NullConversationManager`), with "40" a sliding window of 40 messages. All messages have about 350 bytes.

Resuming means constructing a session manager and an agent with it, in a warm process, until the agent has its messages;
nothing else has the session open. "no session manager" is the cost of building an agent with these messages at hand.
Bare SQLite selects the messages of the window and parses them. Waiting for the disk makes no difference.

A turn is a message of the user and the model's answer. "overhead" is the time beyond the same turn without a session
manager, in the same round. "bytes" is what a turn hands to the system to be written (`wchar` of `/proc/self/io`), with
a checkpoint of the write-ahead log at the end; it does not include what S3 sends. Bare SQLite inserts the two messages
and nothing else, which is not enough to resume exactly. `FileSessionManager` and `S3SessionManager` do not resume
exactly either. Contenders that wait for the disk are compared with bare SQLite and with ours in FULL, others with
NORMAL. The S3 server runs on this machine: a real one adds the network's latency.

Every event compares what the agent holds with copies of what is stored. The alternative, encoding all messages and
comparing the results, is measured as well. `==` alone does not distinguish 1 from 1.0.

Figures are medians, with the quartiles in brackets.
"""

import itertools
import json
import marshal
import pickle
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from strands import Agent
from strands.agent.conversation_manager import NullConversationManager
from strands.session.session_manager import SessionManager
from strands.types.content import Message

from strands_sqlite_session_manager.context.ranges import Held
from strands_sqlite_session_manager.database.values import exact_copy

from .filling import WINDOW, build_agent, conversation
from .names import BARE, NOTHING, OURS, S3, WAITS, mode_of, waits, without_mode
from .report import Chart, Report
from .stores import DATABASE, SESSION, bare_stores, close, s3_server, stores
from .timing import Spread, Task, Timing, bytes_written, interleave, measure

WARM_UP, BATCH = 2, 2  # rounds, and the turns that each contender has in one
WINDOWS = {"all": "the agent holds all messages", str(WINDOW): f"it holds a sliding window of {WINDOW}"}
COUNTED = "messages in the conversation"
Open = Callable[[], SessionManager | None]
Panels = dict[str, dict[str, dict[int, Spread]]]


class Conversation(NamedTuple):
    """A conversation that is stored with every session manager.

    Attributes:
        history: How many messages it holds.
        window: How many of them its agent holds.
        folder: Where it is stored, in a folder for each contender.
        openers: How to open it, by contender.
    """

    history: int
    window: str
    folder: Path
    openers: Mapping[str, Open]

    def __str__(self) -> str:
        """Return its name."""
        return f"history {self.history:,}, window {self.window}"

    def begin(self) -> None:
        """Store it, as an agent that trims its context does."""
        for open_store in self.openers.values():
            manager = open_store()
            assert manager is not None
            agent = self.build(manager, list(itertools.islice(conversation(), self.history)))
            agent.conversation_manager.apply_management(agent)
            manager.sync_agent(agent)
            close(manager)

    def build(self, manager: SessionManager | None, messages: list[Message] | None = None, turns: int = 0) -> Agent:
        """Build its agent, with answers for this many turns."""
        kind = NullConversationManager() if self.window == "all" else None
        return build_agent(manager, messages, kind, replies=turns)

    def held(self) -> list[Message]:
        """Return what its agent holds."""
        messages = list(itertools.islice(conversation(), self.history))
        return messages if self.window == "all" else messages[-WINDOW:]


def run(folder: Path, quick: bool, report: Report) -> None:
    """Measure all of it.

    Args:
        folder: Where the files go.
        quick: Take shorter histories, and fewer rounds.
        report: Where the figures go.
    """
    histories = (100, 1000) if quick else (100, 1000, 5000)
    rounds = 8 if quick else 40
    resumed: Panels = {title: defaultdict(dict) for title in WINDOWS.values()}
    continued: Panels = {title: defaultdict(dict) for title in WINDOWS.values()}
    with s3_server() as server:
        stored = {**bare_stores(), **stores(server)}
        for (window, title), history in itertools.product(WINDOWS.items(), histories):
            place = folder / f"{history}-{window}"
            openers = {name: partial(open_store, place / name, SESSION) for name, open_store in stored.items()}
            this = Conversation(history, window, place, openers)
            this.begin()
            for name, timing in measure_resuming(this, rounds, report).items():
                resumed[title][name][history] = timing.spread(1000)
            turns = measure_turns(this, rounds, report)
            none = turns.pop(NOTHING)
            for name, timing in turns.items():
                continued[title][name][history] = timing.excess(none, 1000)
    heading = "Resume a conversation: time until the agent is built (less is better)"
    report.chart(Chart("resume", heading, (COUNTED, "ms"), resumed, writes=False))
    heading = "A turn: time beyond the same turn without a session manager (less is better)"
    report.chart(Chart("turn", heading, (COUNTED, "ms"), continued, writes=True))
    measure_comparing(1000 if quick else 5000, report)


def measure_resuming(this: Conversation, rounds: int, report: Report) -> dict[str, Timing]:
    """Resume with every session manager, and build the agent once more without one."""
    contenders = {NOTHING: _resumptions(lambda: None, partial(this.build, messages=this.held()))}
    for name, open_store in this.openers.items():
        if name not in (BARE["NORMAL"], OURS["NORMAL"]):
            contenders[name] = _resumptions(open_store, this.build)
    timings = measure(contenders, min(rounds, 15), 1, slow=[S3])
    for resumptions in contenders.values():
        resumptions.close()
    bare, ours = timings[BARE["FULL"]], timings[OURS["FULL"]]
    rows = [
        (
            without_mode(name),
            str(timing.spread(1000)),
            "" if timing is bare else str(timing.ratio(bare)),
            "" if timing is ours else str(timing.ratio(ours)),
        )
        for name, timing in timings.items()
    ]
    report.table(f"Resume: {this}", ("", "ms", "over bare", "over ours"), rows)
    return timings


def measure_turns(this: Conversation, rounds: int, report: Report) -> dict[str, Timing]:
    """Have turns with every session manager, and without one."""
    turns = (WARM_UP + rounds) * BATCH
    contenders = {NOTHING: _turns(this.build(None, this.held(), turns))}
    for name, open_store in this.openers.items():
        contenders[name] = _turns(this.build(open_store(), turns=turns))
    interleave(contenders, WARM_UP, BATCH)
    for name in contenders:
        _checkpoint(this.folder / name)
    timings = interleave(contenders, rounds, BATCH)
    for name, timing in timings.items():
        before = bytes_written()
        _checkpoint(this.folder / name)
        timing.written += bytes_written() - before
    header = ("", WAITS, "turn, ms", "overhead, ms", "over bare", "over ours", "bytes", "over ours")
    rows = sorted(_rows(timings), key=lambda row: row[1], reverse=True)
    report.table(f"A turn: {this}", header, rows, labels=2)
    return timings


def measure_comparing(count: int, report: Report) -> None:
    """Find out that no message has changed; half of them hold numbers."""
    messages = list(itertools.islice(conversation(), count))
    for number, message in enumerate(messages[1::2]):
        usage = {"inputTokens": 1000 + number, "outputTokens": 300, "totalTokens": 1300 + number}
        message["metadata"] = {"usage": usage, "metrics": {"latencyMs": 2000 + number, "timeToFirstByteMs": 700}}
    held = Held()
    for index, message in enumerate(messages):
        held.add(message, exact_copy(message, "message"), index)
    marshaled, pickled, text = marshal.dumps(messages, 2), pickle.dumps(messages), json.dumps(messages)
    tasks: dict[str, Task] = {
        "as an event does": lambda: held.is_followed_by(messages),
        "`==` alone": lambda: messages == held.copies,
        "`marshal.dumps`": lambda: marshal.dumps(messages, 2) == marshaled,
        "`pickle.dumps`": lambda: pickle.dumps(messages) == pickled,
        "`json.dumps`": lambda: json.dumps(messages) == text,
    }
    timings = measure({name: itertools.repeat(task) for name, task in tasks.items()}, 30, 1)
    ours = timings["as an event does"]
    rows = [(name, str(timing.spread(1000)), str(timing.ratio(ours))) for name, timing in timings.items()]
    report.table(
        f"Compare the {count:,} messages that an agent holds with what is stored", ("", "ms", "over ours"), rows
    )


def _resumptions(open_store: Open, build: Callable[[SessionManager | None], Agent]) -> Generator[Task, None, None]:
    """Resume, and close the session again outside the timed part."""
    opened: list[SessionManager | None] = []

    def resume() -> None:
        opened.append(open_store())
        build(opened[-1])

    try:
        while True:
            yield resume
            close(opened.pop())
    finally:
        for manager in opened:
            close(manager)


def _turns(agent: Agent) -> Iterator[Task]:
    for message in conversation(7):
        yield partial(agent, message["content"][0]["text"])


def _checkpoint(folder: Path) -> None:
    """Checkpoint the write-ahead log, if there is one."""
    path = folder / DATABASE
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rows(timings: Mapping[str, Timing]) -> Iterator[Sequence[str]]:
    """Compare each contender with those of the same durability."""
    none = timings[NOTHING]
    overheads = {name: timing.excess(none, 1000) for name, timing in timings.items()}
    written = {name: (timing.written - none.written) / timing.count for name, timing in timings.items()}
    for name, timing in timings.items():
        cells = [name, "" if name == NOTHING else waits(name), str(timing.spread(1000))]
        if name == NOTHING:
            yield [*cells, "", "", "", "", ""]
            continue
        bare, ours = BARE[mode_of(name)], OURS[mode_of(name)]
        cells.append(str(overheads[name]))
        cells += [_over(overheads[name].middle, overheads[other].middle) for other in (bare, ours)]
        if name == S3:
            yield [*cells, "", ""]
        else:
            yield [*cells, f"{written[name]:,.0f}", _over(written[name], written[ours])]


def _over(figure: float, other: float) -> str:
    """Divide, unless either value is lost in noise."""
    return f"{figure / other:.2f}" if figure > 0 and other > 0 else "?"
