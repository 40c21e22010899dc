"""The effect of each enhancement of the study on one small budget: plain, each alone, all three.

    python -m benchmarks.ablation MANIFEST.csv --folder DIR [--epochs 5] [--seeds 0 1] [--page PAGE]

All trainings have the same hips, order, augmentation and number of steps; a seed changes the
initial weights and the order. Macro-F1 is measured on the splits test (inside) and external
(outside) and compared with that of the plain network on the same hips, with 95 % intervals by a
bootstrap of patients: an interval that contains zero means that this budget does not tell the two
apart. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from timm.models.resnet import Bottleneck
from torch import nn

from benchmarks.environment import environment
from benchmarks.reference.joint import joint_macro_f1
from benchmarks.reference.markdown import markdown, replace_part
from benchmarks.reference.simulated import SPLITS, in_split
from hipedge.study.cases import Cases, match_predictions
from hipedge.study.estimates import Cell, Estimate, Table
from hipedge.study.inputs import read_labels, read_predictions
from hipedge.study.paired import paired_difference
from hipedge.study.report.export import write_json
from hipedge.study.resampling import percentile_interval
from hipedge.train.classifier import Classification
from hipedge.train.finish import PREDICTIONS
from hipedge.train.network import GeneralizedMean
from hipedge.train.recipe import Listener, train, untrained_objective
from hipedge.train.settings import TrainingSettings


@dataclass(frozen=True)
class Variant:
    """Which of the study's enhancements a training has."""

    cbam: bool = False
    gem: bool = False
    balanced_focal: bool = False

    def objective(self, settings: TrainingSettings, counts: Sequence[int]) -> Classification:
        """Return HipNet and its loss with this variant's enhancements alone.

        Without CBAM its blocks are those of a plain ResNet-50; without GeM pooling is by the
        mean, which is GeM with p held at 1.
        """
        objective = untrained_objective(settings, counts)
        network = objective.network
        if not self.cbam:
            for block in network.backbone.modules():
                if isinstance(block, Bottleneck):
                    block.se = None
        if not self.gem:
            network.pool = GeneralizedMean(1.0, learned=False)
        if not self.balanced_focal:
            return Classification(network, nn.CrossEntropyLoss())
        return objective


VARIANTS = {
    "ResNet-50": Variant(),
    "+ CBAM": Variant(cbam=True),
    "+ GeM": Variant(gem=True),
    "+ class-balanced focal loss": Variant(balanced_focal=True),
    "all three": Variant(cbam=True, gem=True, balanced_focal=True),
}
REPLICATES = 2000


@dataclass(frozen=True, eq=False)
class Trained:
    """One training's predictions for the hips inside and outside, and its duration in minutes."""

    cases: Mapping[str, Cases]
    minutes: float


def main() -> None:
    """Train every variant with every seed, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--phantoms", type=int, default=0, help="drawn for each epoch, besides")
    parser.add_argument("--pool", type=int, help="of so many different ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--page", type=Path, help="document whose part `ablation` to write")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    default = TrainingSettings()
    settings = replace(
        default,
        geometry=replace(default.geometry, size_px=arguments.size),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        phantoms=arguments.phantoms,
        pool=arguments.pool,
        imagenet=False,
    )
    trained = {
        (name, seed): train_one(
            arguments.manifest,
            arguments.folder,
            name,
            replace(settings, seed=seed),
        )
        for name in VARIANTS
        for seed in arguments.seeds
    }
    table = ablation_table(trained, arguments.seeds, settings)
    about = {"environment": environment(), "command": " ".join(sys.argv[1:])}
    write_json(arguments.folder / "ablation.json", about, {"ablation": [table]})
    print(markdown(table))
    if arguments.page:
        replace_part(arguments.page, "ablation", markdown(table))


def train_one(manifest: Path, folder: Path, name: str, settings: TrainingSettings) -> Trained:
    """Train one variant; show progress on standard error."""
    run, start = folder / f"{name.strip('+ ').replace(' ', '-')}-{settings.seed}", time.monotonic()
    steps = Listener(
        on_progress=lambda p: print(
            f"\r{name}, seed {settings.seed}: step {p.step} of {p.steps}, loss {p.loss:.3f}",
            end="",
            file=sys.stderr,
            flush=True,
        )
    )
    train(
        manifest,
        run,
        settings,
        cache=folder / "cache",
        make_objective=VARIANTS[name].objective,
        listener=steps,
    )
    minutes = (time.monotonic() - start) / 60
    print(f", {minutes:.1f} minutes", file=sys.stderr)
    labels = [label for label in read_labels(manifest) if label.split in SPLITS.values()]
    cases = match_predictions(labels, read_predictions(run / PREDICTIONS))
    return Trained(
        {where: cases.select(in_split(labels, split)) for where, split in SPLITS.items()}, minutes
    )


def ablation_table(
    trained: Mapping[tuple[str, int], Trained], seeds: Sequence[int], settings: TrainingSettings
) -> Table:
    """Compare every variant, the mean over the seeds, with the first on the same hips."""
    names = list(dict.fromkeys(name for name, _ in trained))
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for where in SPLITS:
        raters = [trained[name, seed].cases[where] for name in names for seed in seeds]
        drawn = joint_macro_f1(raters, replicates=REPLICATES)
        of_name = {}
        for i, name in enumerate(names):
            of_seeds = drawn[i * len(seeds) : (i + 1) * len(seeds)]
            of_name[name] = (
                float(np.mean([value for value, _ in of_seeds])),
                np.mean([replicates for _, replicates in of_seeds], axis=0),
            )
        for name in names:
            value, replicates = of_name[name]
            interval = {"percentile": percentile_interval(replicates)}
            difference, _ = paired_difference(of_name[name], of_name[names[0]])
            cells[name] += [
                Estimate(value, interval, len(raters[0])),
                difference if name != names[0] else None,
            ]
    hips = {where: len(cases) for where, cases in trained[names[0], seeds[0]].cases.items()}
    return Table(
        "ablation",
        "Macro-F1 by enhancement",
        ("network and loss", *(head for where in SPLITS for head in (where, "less the plain"))),
        tuple((name, *cells[name]) for name in names),
        f"{settings.epochs} epochs of {settings.batch_size} crops of {settings.geometry.size_px} "
        f"pixels a step, {_phantoms(settings)}, seeds {', '.join(map(str, seeds))}; "
        f"{hips['inside']} hips inside, {hips['outside']} outside. Intervals are 95 %, by a "
        "bootstrap of patients; they leave out what another seed would change.",
    )


def _phantoms(settings: TrainingSettings) -> str:
    if not settings.phantoms:
        return "the manifest's hips"
    return f"the manifest's hips and {settings.phantoms} phantoms of {settings.phantom_pool}"


if __name__ == "__main__":
    main()
