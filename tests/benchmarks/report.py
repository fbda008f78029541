"""The results: tables, printed as soon as they are ready, and a folder with all of them and the charts."""

import inspect
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from strands_sqlite_session_manager import __version__

from .timing import Spread

Curves = Mapping[str, Mapping[int, Spread]]  # by contender, and by position on the axis


@dataclass
class Chart:
    """Curves of the contenders, side by side for each of several cases.

    Attributes:
        name: The name of the file.
        title: What is shown.
        axes: What is counted from left to right, and what is measured.
        panels: The curves of each case.
        writes: Whether waiting for the disk matters.
    """

    name: str
    title: str
    axes: tuple[str, str]
    panels: Mapping[str, Curves]
    writes: bool


@dataclass
class Bars:
    """One figure for each contender.

    Attributes:
        name: The name of the file.
        title: What is shown.
        axis: What is measured.
        figures: How long the bars are.
        notes: What is written at their ends.
    """

    name: str
    title: str
    axis: str
    figures: Mapping[str, float]
    notes: Mapping[str, str]


class Report:
    """Everything that was measured."""

    def __init__(self, quick: bool) -> None:
        self._lines = ["# Figures", "", "Measured by `python -m tests.benchmarks`.", "", *_describe(quick)]
        self._charts: list[Chart | Bars] = []
        print("\n".join(self._lines[2:]))

    def begin(self, name: str, part: ModuleType) -> None:
        """Begin a part, with what it says about itself."""
        about = inspect.getdoc(part) or ""
        print(f"\n== {name}\n\n{about}", flush=True)
        self._lines += ["", f"## {name.capitalize()}", "", about]

    def table(self, title: str, header: Sequence[str], rows: Iterable[Sequence[str]], labels: int = 1) -> None:
        """Add rows that begin with this many labels, followed by figures."""
        lines = [header, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            [
                cell.ljust(width) if index < labels else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
        print(f"\n{title}")
        for cells in aligned:
            print("  " + "  ".join(cells).rstrip())
        sys.stdout.flush()
        rule = ["---" if index < labels else "--:" for index in range(len(header))]
        self._lines += ["", f"**{title}**", "", *(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines[1:]))]

    def chart(self, chart: Chart | Bars) -> None:
        """Add a chart."""
        self._charts.append(chart)
        self._lines += ["", f"![{chart.title}]({chart.name}.svg)"]

    def write(self, folder: Path) -> None:
        """Write all results so far."""
        from . import charts  # needs matplotlib, which nothing else does

        folder.mkdir(parents=True, exist_ok=True)
        for chart in self._charts:
            charts.draw(chart, folder / f"{chart.name}.svg")
        (folder / "results.md").write_text("\n".join(self._lines) + "\n", encoding="utf-8")


def verdict(figure: float, budget: float) -> str:
    """Say whether a figure is within its budget."""
    return f"{budget:g} {'ok' if figure <= budget else 'OVER'}"


def _describe(quick: bool) -> list[str]:
    """Say when and on which machine the figures were measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        f"{platform.system()} on {platform.machine()}, {cores} cores",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"strands-sqlite-session-manager {__version__}, strands-agents {version('strands-agents')}",
    ]
    return [*(f"- {fact}" for fact in facts), *(["- a quick run: smaller files, and too few rounds"] if quick else [])]
