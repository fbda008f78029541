"""The command that shows how many tokens were used: `usage`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from ..database.database import Database
from ..sessions.usage import UsageSummary, usage
from . import layout, output

_BAR = 30  # columns at most
_SHORTEST = 5


def usage_(database: Database, arguments: argparse.Namespace) -> None:
    """Print the tokens that were used, with a bar for each row on a terminal."""
    summaries = usage(
        database, by=arguments.by, metadata=dict(arguments.metadata), after=arguments.since, before=arguments.before
    )
    if arguments.json:
        for summary in summaries:
            output.print_json(asdict(summary))
        return
    headings = (arguments.by, "sessions", "answers", "input", "output", "total")
    rows = [_cells("(none)" if summary.key is None else summary.key, summary) for summary in summaries]
    if len(rows) > 1 and arguments.by != "session":
        rows.append(_cells("total", *summaries, sessions=""))
    elif len(rows) > 1:
        rows.append(_cells("total", *summaries))
    output.print_table(headings, rows, _bars(headings, rows, [summary.total_tokens for summary in summaries]))


def _cells(name: str, *summaries: UsageSummary, sessions: str | None = None) -> tuple[str, ...]:
    """Return a row of sums; pass `sessions` if their sum would count a session twice."""
    numbers = (
        sum(getattr(summary, column) for summary in summaries)
        for column in ("sessions", "answers", "input_tokens", "output_tokens", "total_tokens")
    )
    first, *others = (f"{number:,}" for number in numbers)
    return (name, first if sessions is None else sessions, *others)


def _bars(headings: Sequence[str], rows: Sequence[Sequence[str]], totals: Sequence[int]) -> list[str]:
    if layout.space() is None or not any(totals):
        return []
    used = sum(max(map(layout.width, column)) + 2 for column in zip(headings, *rows, strict=True))
    longest = min((layout.space() or 0) - used, _BAR)
    if longest < _SHORTEST:
        return []
    most = max(totals)
    return [output.style("█" * round(total / most * longest), "cyan") for total in totals]
