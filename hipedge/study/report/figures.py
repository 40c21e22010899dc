"""The figures as SVG: reproducible to the byte, and readable without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hipedge.study.calibration import Reliability
from hipedge.study.comparisons import NonInferiority
from hipedge.study.estimates import CATEGORY_LABELS, PLAIN, Estimate
from hipedge.study.evaluate import RocCurve
from hipedge.study.report.html import number
from hipedge.study.resampling import Array
from hipedge.study.scores import N_BINS

# Okabe and Ito's colour-blind safe palette; line styles distinguish the curves as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#000000")
DASHES = ("-", "--", "-.", ":")
TEXT_COLOUR, MUTED_COLOUR, GRID_COLOUR = "#1b2430", "#5b6776", "#d9dee5"
_ROC_POINTS = 300

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "hipedge",
    "axes.edgecolor": MUTED_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": TEXT_COLOUR,
    "xtick.color": MUTED_COLOUR,
    "ytick.color": MUTED_COLOUR,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}


def roc_figure(rocs: Sequence[RocCurve]) -> str:
    """Draw ROC curves, in full and enlarged in the upper left corner."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 4.1), layout="constrained")
        whole, corner = figure.subplots(1, 2)
        for index, roc in enumerate(rocs):
            false, true = _decimated(roc)
            for axes in (whole, corner):
                axes.plot(
                    false, true, DASHES[index // len(COLOURS)], lw=1.5,
                    color=COLOURS[index % len(COLOURS)],
                    label=f"{roc.name}  {number(roc.auc.value, PLAIN)}",
                )  # fmt: skip
        whole.plot([0, 1], [0, 1], color=GRID_COLOUR, lw=1, zorder=0)
        whole.set(title="ROC curves", xlim=(-0.02, 1), ylim=(0, 1.02))
        corner.set(title="Upper left corner", xlim=(-0.006, 0.3), ylim=(0.7, 1.006))
        for axes in (whole, corner):
            axes.set(xlabel="1 − specificity", ylabel="sensitivity")
            axes.grid(color=GRID_COLOUR, lw=0.5)
        whole.legend(loc="lower right", title="area under the curve", alignment="left")
        return _svg(figure)


def reliability_figure(curve: Reliability) -> str:
    """Draw the reliability curve over a histogram of the top probability."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 4.6), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        axes.plot([0, 1], [0, 1], color=MUTED_COLOUR, lw=1, ls="--", label="perfect")
        nonempty = curve.hips > 0
        axes.plot(
            curve.confidence[nonempty], curve.accuracy[nonempty], "o-", color=COLOURS[0], ms=4,
            lw=1.5, label="model",
        )  # fmt: skip
        axes.set(title="Reliability", ylabel="accuracy", ylim=(0, 1.03))
        axes.grid(color=GRID_COLOUR, lw=0.5)
        axes.legend(loc="upper left")
        centres = (np.arange(N_BINS) + 0.5) / N_BINS
        below.bar(centres, curve.hips, width=0.9 / N_BINS, color=COLOURS[5])
        below.set(xlabel="top probability", ylabel="hips", xlim=(0, 1.01))
        return _svg(figure)


def confusion_figure(confusion: Array) -> str:
    """Draw the confusion matrix (K, K + 1): counts, shaded by the fraction of each row."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 5.6), layout="constrained")
        axes = figure.subplots()
        total = confusion.sum(axis=1, keepdims=True)
        share = np.divide(confusion, total, out=np.zeros_like(confusion), where=total > 0)
        columns = (*CATEGORY_LABELS, "no answer")
        _heat_map(
            axes,
            share,
            CATEGORY_LABELS,
            columns,
            [[f"{int(n):,}" for n in row] for row in confusion],
        )
        axes.set(title="Confusion matrix", ylabel="truth", xlabel="model")
        return _svg(figure)


def agreement_figure(kappas: Array, readers: Sequence[str], phases: Sequence[str]) -> str:
    """Draw pairwise κ (P, R, R), one heat map per phase."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.2 * len(phases), 3.9), layout="constrained")
        for axes, matrix, phase in zip(
            figure.subplots(1, len(phases), squeeze=False)[0], kappas, phases, strict=True
        ):
            texts = [["" if np.isnan(k) else f"{k:.2f}" for k in row] for row in matrix]
            _heat_map(axes, matrix, readers, readers, texts)
            axes.set(title=f"Cohen's κ, {phase}")
        return _svg(figure)


def forest_figure(
    rows: Sequence[tuple[str, str, Estimate]], title: str, reference: float | None = None
) -> str:
    """Draw a forest plot of (name, phase, estimate): alone hollow, otherwise filled."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 0.9 + 0.27 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, (_, phase, estimate) in enumerate(rows):
            if not estimate.defined:
                continue
            interval = estimate.shown
            if interval is not None:
                axes.plot(
                    [100 * interval.low, 100 * interval.high],
                    [y] * 2,
                    color=MUTED_COLOUR,
                    lw=1.4,
                )
            hollow = phase == "alone"
            axes.plot(
                100 * estimate.value, y, "o", ms=6, mew=1.5, color=COLOURS[0],
                mfc="white" if hollow else COLOURS[0],
            )  # fmt: skip
        if reference is not None:
            axes.axvline(100 * reference, color=COLOURS[1], lw=1, ls="--", zorder=0)
        names = [f"{name}, {phase}" if phase else name for name, phase, _ in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(title=title, xlabel="%")
        axes.invert_yaxis()
        axes.grid(axis="x", color=GRID_COLOUR, lw=0.5)
        return _svg(figure)


def non_inferiority_figure(verdicts: Sequence[tuple[str, str, NonInferiority]]) -> str:
    """Draw differences with their intervals, zero and the margin."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 0.9 + 0.27 * len(verdicts)), layout="constrained")
        axes = figure.subplots()
        for y, (_, _, verdict) in enumerate(verdicts):
            if verdict.interval is None:
                continue
            ends = [100 * verdict.interval.low, 100 * verdict.interval.high]
            axes.plot(ends, [y] * 2, color=MUTED_COLOUR, lw=1.4)
            good = verdict.verdict in ("non-inferior", "superior")
            axes.plot(
                100 * verdict.difference, y, "s", ms=5, color=COLOURS[2 if good else 1],
                mfc=COLOURS[2] if good else "white", mew=1.5,
            )  # fmt: skip
        if verdicts:
            margin = -100 * verdicts[0][2].margin
            axes.axvline(margin, color=COLOURS[1], lw=1.2, ls="--", zorder=0)
            axes.text(margin, -0.8, " margin", color=COLOURS[1], fontsize=7.5)
        axes.axvline(0, color=TEXT_COLOUR, lw=0.8, zorder=0)
        axes.set_yticks(range(len(verdicts)), [f"{name}, {metric}" for name, metric, _ in verdicts])
        axes.set(title="Model less reader", xlabel="points")
        axes.set_ylim(len(verdicts) - 0.4, -1.2)
        axes.grid(axis="x", color=GRID_COLOUR, lw=0.5)
        return _svg(figure)


def reader_roc_figure(
    roc: RocCurve | None,
    points: Sequence[tuple[str, Mapping[str, tuple[float, float]]]],
    title: str,
) -> str:
    """Draw readers as points over the model's curve: alone hollow, otherwise filled.

    `points` are (reader, (1 − specificity, sensitivity) by phase).
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes = figure.subplots()
        if roc is not None:
            axes.plot(*_decimated(roc), color=MUTED_COLOUR, lw=1.6, label="model")
        for index, (name, of_phases) in enumerate(points):
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(*zip(*of_phases.values(), strict=True), "-", color=colour, lw=1)
            *_, last = of_phases
            for phase, rates in of_phases.items():
                axes.plot(
                    *rates, "o", color=colour, ms=6, mew=1.5,
                    mfc="white" if phase == "alone" else colour,
                    label=name if phase == last else None,
                )  # fmt: skip
        rates_of_all = [rates for _, of_phases in points for rates in of_phases.values()]
        width = max([0.1, *(1.3 * false for false, _ in rates_of_all)])
        depth = max([0.1, *(1.3 * (1 - true) for _, true in rates_of_all)])
        axes.set(
            title=title, xlabel="1 − specificity", ylabel="sensitivity",
            xlim=(-0.03 * width, min(width, 1)), ylim=(1 - min(depth, 1), 1 + 0.03 * depth),
        )  # fmt: skip
        axes.grid(color=GRID_COLOUR, lw=0.5)
        axes.legend(loc="lower right", ncols=2)
        return _svg(figure)


def _heat_map(
    axes: Axes,
    values: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[Sequence[str]],
) -> None:
    axes.imshow(np.nan_to_num(values), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            dark = values[i, j] > 0.55
            axes.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                color="white" if dark else TEXT_COLOUR,
                fontsize=8,
            )


def _decimated(roc: RocCurve) -> tuple[Array, Array]:
    """Return the vertices of the curve, at most `_ROC_POINTS` of them."""
    turn = np.diff(roc.false[:-1]) * np.diff(roc.true[1:])
    straight = np.isclose(turn, np.diff(roc.true[:-1]) * np.diff(roc.false[1:]), atol=1e-12)
    corners = np.flatnonzero(np.concatenate([[True], ~straight, [True]]))
    kept = np.unique(np.linspace(0, corners.size - 1, _ROC_POINTS).round().astype(int))
    return roc.false[corners[kept]], roc.true[corners[kept]]


def _svg(figure: Figure) -> str:
    """Return the figure as an SVG element in the page's font."""
    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Arial")
