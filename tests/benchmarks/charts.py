"""The charts, as SVG files that change only when the figures do."""

from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from .names import BARE, FILES, NOTHING, OPENAI, OURS, S3, SNAPSHOTS, waits, without_mode
from .report import Bars, Chart, Curves

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "strands-sqlite-session-manager",
        "font.sans-serif": ["DejaVu Sans", "Arial"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "legend.frameon": False,
    }
)

COLORS = {
    OURS["FULL"]: "#0b4f94",
    BARE["FULL"]: "#222222",
    OURS["NORMAL"]: "#3fa2e8",
    BARE["NORMAL"]: "#999999",
    FILES: "#e07b00",
    S3: "#2c9c4b",
    SNAPSHOTS: "#9246b0",
    OPENAI: "#b03060",
    NOTHING: "#bbbbbb",
}
DASHED = {*BARE.values(), NOTHING}


def draw(chart: Chart | Bars, path: Path) -> None:
    """Draw a chart into a file."""
    figure = _draw_curves(chart) if isinstance(chart, Chart) else _draw_bars(chart)
    figure.suptitle(chart.title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path, facecolor="white", metadata={"Date": None, "Creator": None})


def _draw_curves(chart: Chart) -> Figure:
    """Draw curves with their quartiles over logarithmic axes, and a legend to the right."""
    figure = Figure(figsize=(4.9 + 2.9 * len(chart.panels), 3.8), layout="constrained")
    panels = figure.subplots(1, len(chart.panels), sharey=True, squeeze=False)[0]
    for axes, (title, curves) in zip(panels, chart.panels.items(), strict=True):
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(chart.axes[0])
        _draw_panel(axes, curves)
    panels[0].set_ylabel(f"{chart.axes[1]}, median and quartiles")
    names = dict.fromkeys(name for curves in chart.panels.values() for name in curves)
    if chart.writes:
        waiting, others = ([_handle(name, name) for name in names if waits(name) == word] for word in ("yes", "no"))
        panels[-1].add_artist(_legend(panels[-1], waiting, "waits for the disk", top=True))
        _legend(panels[-1], others, "does not wait", top=False)
    else:
        _legend(panels[-1], [_handle(name, without_mode(name)) for name in names], None, top=True)
    return figure


def _legend(axes: Axes, handles: list[Line2D], title: str | None, top: bool) -> Legend:
    """Draw the legend, to the right of a panel."""
    corner: Literal["upper left", "lower left"] = "upper left" if top else "lower left"
    place = (1.02, 1.0 if top else 0.0)
    return axes.legend(handles=handles, title=title, loc=corner, bbox_to_anchor=place, alignment="left")


def _draw_panel(axes: Axes, curves: Curves) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for name, curve in curves.items():
        # A value that is not above zero was lost in noise, and has no place on this axis.
        counts = [count for count, spread in curve.items() if spread.middle > 0]
        spreads = [curve[count] for count in counts]
        axes.errorbar(
            counts,
            [spread.middle for spread in spreads],
            yerr=(
                [spread.middle - spread.low for spread in spreads],
                [spread.high - spread.middle for spread in spreads],
            ),
            elinewidth=0.8,
            **_style(name),
        )
    axes.xaxis.set_major_locator(FixedLocator(sorted({count for curve in curves.values() for count in curve})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    if high < 100 * low:  # powers of ten would be one or two
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda figure, _: f"{figure:,.9g}"))


def _draw_bars(chart: Bars) -> Figure:
    """Draw a bar for each contender, the first on top."""
    figure = Figure(figsize=(7.8, 0.8 + 0.4 * len(chart.figures)), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    bars = axes.barh(
        [without_mode(name) for name in chart.figures],
        list(chart.figures.values()),
        color=[COLORS[name] for name in chart.figures],
        height=0.65,
    )
    axes.bar_label(bars, [chart.notes[name] for name in chart.figures], padding=4)
    axes.margins(x=0.95)
    axes.set_xlabel(chart.axis)
    return figure


def _handle(name: str, label: str) -> Line2D:
    return Line2D([], [], label=label, **_style(name))


def _style(name: str) -> dict[str, Any]:
    linestyle = "--" if name in DASHED else "-"
    return {"color": COLORS[name], "linestyle": linestyle, "linewidth": 1.6, "marker": "o", "markersize": 4}
