"""What each enhancement of the study brings on one small budget: plain, each alone, all three.

    python -m benchmarks.ablation MANIFEST.csv --folder DIR [--epochs 10] [--size 96] [--seeds 0 1]

All trainings have the same hips, order, augmentation and number of steps; a seed is another start
and another order. Measured on the split test: accuracy and macro-F1, mean over the seeds, and their
least and most. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.environment import environment
from hipedge.train.network import Checkpoint
from hipedge.train.recipe import train
from hipedge.train.settings import Settings

NOTHING = {"cbam": False, "gem": False, "balanced_focal": False}
VARIANTS = {
    "ResNet-50": NOTHING,
    "+ CBAM": {**NOTHING, "cbam": True},
    "+ GeM": {**NOTHING, "gem": True},
    "+ class-balanced focal loss": {**NOTHING, "balanced_focal": True},
    "all three": dict.fromkeys(NOTHING, True),
}
METRICS = ("test_accuracy", "test_macro_f1")


def main() -> None:
    """Train every variant with every seed, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--pool", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    default = Settings()
    settings = replace(
        default,
        geometry=replace(default.geometry, size_px=arguments.size),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        phantoms=arguments.phantoms,
        pool=arguments.pool,
        imagenet=False,
    )
    figures: dict[str, list[dict[str, float]]] = {}
    for name, enhancements in VARIANTS.items():
        figures[name] = []
        for seed in arguments.seeds:
            run = arguments.folder / f"{name.strip('+ ').replace(' ', '-')}-{seed}"
            checkpoint = train(
                arguments.manifest,
                run,
                replace(settings, seed=seed, **enhancements),
                cache=arguments.folder / "cache",
            )
            metrics = Checkpoint.load(checkpoint).card.metrics
            figures[name].append({metric: metrics[metric] for metric in METRICS})
        print(f"{name}: {figures[name]}", file=sys.stderr)
    content = {
        "environment": environment(),
        "command": " ".join(sys.argv[1:]),
        "figures": figures,
    }
    (arguments.folder / "ablation.json").write_text(json.dumps(content, indent=2) + "\n")
    print(table(figures))


def table(figures: dict[str, list[dict[str, float]]]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| network and loss | accuracy | macro-F1 |", "| --- | --- | --- |"]
    for name, runs in figures.items():
        cells = []
        for metric in METRICS:
            values = np.array([run[metric] for run in runs])
            spread = f" ({values.min():.3f}–{values.max():.3f})" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
