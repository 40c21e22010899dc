"""A training of a few seconds by the real loop, in a process of its own that a test may kill.

    python -m tests.train.small_training FOLDER [--die-at STEP] [--delay-s S]

Under `torchrun` it is one of several processes.
"""

import argparse
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hipedge.train.augment import Strength
from hipedge.train.data import Crops
from hipedge.train.distributed import distributed_context
from hipedge.train.loop import Objective, Schedule, autocast, fit
from hipedge.train.manifest import Row
from hipedge.train.samples import CropSamples, Joined
from hipedge.types import CATEGORIES, Side

SCHEDULE = Schedule(steps=40, batch_size=8, learning_rate=3e-3, seed=3)


class SmallObjective(Objective):
    """A network with everything that has a state: convolution, normalisation, a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, 8),
        )

    def forward(self, pixels, categories, masks):
        with autocast(pixels.device):
            logits = self.network(pixels.float() / 255)
        return nn.functional.cross_entropy(logits.float(), categories)


def small_samples(count=52):
    """Squares whose brightest row says which category they are."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 60, (count, 1, 32, 32)).astype(np.uint8)
    rows = []
    for index in range(count):
        category = index % 8
        pixels[index, 0, 4 * category : 4 * category + 4] += 150
        rows.append(Row(index, Path(), Side.RIGHT, CATEGORIES[category], str(index), split="train"))
    crops = Crops(pixels, tuple(rows), tuple(map(str, range(count))), ())
    return Joined([CropSamples(crops, crops.of("train"), Strength(), 5)]), crops


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(exist_ok=True)
    samples, crops = small_samples()

    def validate(network):
        with torch.no_grad():
            logits = network(torch.from_numpy(crops.pixels).float() / 255)
        return float((logits.argmax(1).numpy() == crops.categories).mean())

    def on_progress(progress):
        if progress.step == arguments.die_at:
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    with distributed_context("cpu") as place:
        network, history = fit(
            SmallObjective(),
            samples,
            validate,
            SCHEDULE,
            arguments.folder,
            place=place,
            workers=arguments.workers,
            save_s=0.0 if arguments.die_at else 600.0,
            on_progress=on_progress,
        )
        if place.leads:
            torch.save(network.state_dict(), arguments.folder / "result.pt")
            (arguments.folder / "history.json").write_text(json.dumps(vars(history)))


if __name__ == "__main__":
    main()
