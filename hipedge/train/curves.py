"""Training curves."""

from __future__ import annotations

from pathlib import Path

from hipedge.train.loop import History


def draw_curves(history: History, path: Path, *, score: str = "macro-F1") -> None:
    """Write a PNG of training loss and validation score over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, scores = figure.subplots(1, 2, sharex=True)
    loss.plot(history.steps, history.losses, color="#31688e", marker=".")
    loss.set(title="loss (training)", xlabel="steps")
    loss.set_ylim(bottom=0)
    scores.plot(history.steps, history.scores, color="#35b779", marker=".")
    scores.set(title=f"{score} (validation)", xlabel="steps", ylim=(0, 1))
    for axes in (loss, scores):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
