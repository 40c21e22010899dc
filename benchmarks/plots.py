"""The plots of speed: films a second of each contender, and long runs over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.names import (
    CAREFUL,
    CAREFUL_FASTEST,
    CAREFUL_ORT,
    CAREFUL_TORCH,
    HIPEDGE,
    MONAI,
    NAIVE,
    ONE_PROCESS,
    SAME_WORK,
    XRAYVISION,
)

Rates = Mapping[str, Mapping[str, float]]

# As people look for them.
LEGEND = (
    HIPEDGE,
    SAME_WORK,
    ONE_PROCESS,
    CAREFUL,
    CAREFUL_FASTEST,
    CAREFUL_ORT,
    NAIVE,
    MONAI,
    XRAYVISION,
)
INK, MUTED, GRID = "#1c2430", "#5b6675", "#e3e7ec"
BLUE = "#1667b7"
# Colour, marker, filled; what a name begins with decides. Colours that colour-blind people tell
# apart (Okabe and Ito, 2008), and markers that differ in print.
STYLES = {
    ONE_PROCESS: (BLUE, "o", False),
    SAME_WORK: (BLUE, "*", True),
    HIPEDGE: (BLUE, "o", True),
    CAREFUL_ORT: (INK, "P", True),
    CAREFUL_FASTEST: (INK, "s", False),
    CAREFUL: (INK, "s", True),
    NAIVE: ("#d55e00", "D", True),
    MONAI: ("#009e73", "^", True),
    XRAYVISION: ("#cc79a7", "v", True),
}
# The same figures give the same file, byte for byte.
mpl.rcParams["svg.hashsalt"] = "hipedge"
METADATA = {"Date": None, "Creator": None}
FONT = {"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "path"}


def draw_peers(crops: Rates, screened: Rates, path: Path) -> None:
    """Draw films a second for each transfer syntax: to the network's crops, and to its scores."""
    with mpl.rc_context(FONT):
        figure = Figure(figsize=(10, 0.36 * len(crops) + 2.1), facecolor="white")
        left, right = figure.subplots(1, 2, sharey=True)
        _rates(left, crops, CAREFUL, "From a file to the network's crops")
        _rates(right, screened, CAREFUL_TORCH, "With the network, PyTorch’s unless said")
        handles, labels = _legend(left, right)
        figure.legend(
            handles, labels, loc="lower center", ncols=-(-len(labels) // 2), frameon=False,
            handletextpad=0.2, columnspacing=1.4, labelcolor=INK,
        )  # fmt: skip
        figure.subplots_adjust(left=0.155, right=0.945, top=0.87, bottom=0.21, wspace=0.16)
        figure.savefig(path, metadata=METADATA)


def _rates(axes: Axes, rates: Rates, reference: str, title: str) -> None:
    """Draw a row of dots for each syntax, and beside it hipedge's rate over the reference's."""
    for row, by_name in enumerate(rates.values()):
        ends = by_name[reference], by_name[HIPEDGE]
        axes.plot(ends, (row, row), color=BLUE, alpha=0.25, linewidth=5, solid_capstyle="butt")
        for name, rate in by_name.items():
            colour, marker, filled = _style(name)
            axes.plot(
                rate, row, marker, color=colour, markersize=7 if name == HIPEDGE else 5.5,
                markerfacecolor=colour if filled else "white", markeredgewidth=1.2,
                zorder=4 if name == HIPEDGE else 3,
            )  # fmt: skip
        axes.text(
            1.02, row, f"×{rounded(ends[1] / ends[0])}", transform=axes.get_yaxis_transform(),
            va="center", color=BLUE, fontweight="bold",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(rates)), list(rates), color=INK)
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.set_xlabel("films a second (logarithmic)", color=MUTED)
    axes.set_title(title, loc="left", color=INK, fontweight="bold", pad=18)
    axes.text(
        0, 1.025, f"×: hipedge ÷ {reference}", transform=axes.transAxes, color=BLUE, fontsize=8
    )
    _plain(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def rounded(value: float) -> str:
    """Return a rate or ratio with two digits that mean something."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def _style(name: str) -> tuple[str, str, bool]:
    return next(style for start, style in STYLES.items() if name.startswith(start))


def _legend(*panels: Axes) -> tuple[list[Any], list[str]]:
    """Return one handle for each style, and its name."""
    drawn = {
        (line.get_color(), line.get_marker(), line.get_markerfacecolor() != "white"): line
        for axes in panels
        for line in axes.lines
        if line.get_marker() != "None"
    }
    names = [name for name in LEGEND if STYLES[name] in drawn]
    return [drawn[STYLES[name]] for name in names], names


def draw_scaling(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw rate and memory over the longest run, and the rate by the number of workers."""
    longest = max(runs, key=lambda run: run["films"])
    compared = [run for run in runs if run["films"] == runs[-1]["films"]]
    with mpl.rc_context(FONT):
        figure = Figure(figsize=(10, 2.6), facecolor="white")
        rate, memory, workers = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        parts = longest["films_per_s_by_part"]
        rate.stairs(
            parts, np.linspace(0, longest["films"], len(parts) + 1), color=BLUE, lw=2, baseline=None
        )
        rate.set_title("films a second", loc="left", color=INK, fontweight="bold")
        rate.set_xlabel("films", color=MUTED)
        rate.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        resident = longest["resident_mb"]
        seconds = np.linspace(0, longest["seconds"], len(resident))
        memory.plot(seconds, resident, color=BLUE, linewidth=1.6)
        memory.set_title("memory of all processes, MB", loc="left", color=INK, fontweight="bold")
        memory.set_xlabel("seconds", color=MUTED)
        by_workers = sorted(compared, key=lambda run: int(run["workers"]))
        heights = {str(run["workers"]): run["films_per_s"] for run in by_workers}
        bars = workers.bar(list(heights), list(heights.values()), color=BLUE, width=0.6)
        workers.bar_label(bars, [f"{value:.0f}" for value in heights.values()], color=INK)
        workers.set_title("films a second", loc="left", color=INK, fontweight="bold")
        workers.set_xlabel("workers", color=MUTED)
        for axes in (rate, memory, workers):
            axes.set_ylim(0, 1.2 * axes.dataLim.y1)
            _plain(axes)
        for axes in (rate, memory):
            axes.set_xlim(left=0)
            axes.grid(axis="y", color=GRID, linewidth=0.8)
        figure.subplots_adjust(left=0.055, right=0.985, top=0.88, bottom=0.19, wspace=0.2)
        figure.savefig(path, metadata=METADATA)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(which="both", length=0, colors=MUTED)
    axes.set_axisbelow(True)
    for label in axes.get_yticklabels():
        label.set_color(INK)
