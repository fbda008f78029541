"""Timing side by side.

A contender is an iterator of tasks, of which only the call is timed: what its generator does between two tasks is free.
In every round each contender has a turn, a batch of tasks, and each round begins with another one, so that a noisy
moment of the machine hits all alike. Ratios and differences are taken round by round. A contender that is a hundred
times slower than the others has a single task in every seventh round.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter_ns
from typing import NamedTuple, TypeVar

Task = Callable[[], object]
Key = TypeVar("Key")
SELDOM = 7  # rounds


class Spread(NamedTuple):
    """The median and quartiles of many figures."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Compute the quartiles."""
        return cls(*quantiles(figures, n=4, method="inclusive"))

    def __str__(self) -> str:
        """Show the median and, in brackets, the middle half."""
        digits = 2 if abs(self.middle) < 10 else 1 if abs(self.middle) < 100 else 0
        return f"{self.middle:,.{digits}f} ({self.low:,.{digits}f}..{self.high:,.{digits}f})"


@dataclass
class Timing:
    """The times of one contender.

    Attributes:
        rounds: Microseconds of each task, round by round.
        written: Bytes that the process handed to the system in this contender's turns.
    """

    rounds: list[list[float]] = field(default_factory=list)
    written: int = 0

    @property
    def count(self) -> int:
        """How many tasks were timed."""
        return sum(map(len, self.rounds))

    def spread(self, scale: float = 1) -> Spread:
        """Summarize the microseconds, or scaled values."""
        return Spread.of([microseconds / scale for taken in self.rounds for microseconds in taken])

    def ratio(self, other: "Timing") -> Spread:
        """Divide by another contender's time."""
        return Spread.of([mine / theirs for mine, theirs in self._beside(other)])

    def excess(self, other: "Timing", scale: float = 1) -> Spread:
        """Subtract another contender's time."""
        return Spread.of([(mine - theirs) / scale for mine, theirs in self._beside(other)])

    def _beside(self, other: "Timing") -> Iterator[tuple[float, float]]:
        for mine, theirs in zip(self.rounds, other.rounds, strict=True):
            if mine and theirs:
                yield median(mine), median(theirs)


def interleave(
    contenders: Mapping[Key, Iterator[Task]], rounds: int, batch: int, slow: Collection[Key] = ()
) -> dict[Key, Timing]:
    """Give every contender a turn in every round, and the slow ones only now and then."""
    timings = {name: Timing() for name in contenders}
    order = list(contenders)
    for number in range(rounds):
        for name in order:
            before, taken = bytes_written(), []
            tasks = batch if name not in slow else int(number % SELDOM == 0)
            for task in islice(contenders[name], tasks):
                start = perf_counter_ns()
                task()
                taken.append((perf_counter_ns() - start) / 1000)
            timings[name].rounds.append(taken)
            timings[name].written += bytes_written() - before
        order.append(order.pop(0))
    return timings


def measure(
    contenders: Mapping[Key, Iterator[Task]], rounds: int, batch: int, slow: Collection[Key] = ()
) -> dict[Key, Timing]:
    """Interleave after a round to warm up, which does not count."""
    interleave(contenders, 1, batch, slow)
    return interleave(contenders, rounds, batch, slow)


def bytes_written() -> int:
    """Return the bytes that this process has ever passed to `write` and similar calls; 0 if the system does not say."""
    try:
        counters = Path("/proc/self/io").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in counters.splitlines() if line.startswith("wchar:"))
