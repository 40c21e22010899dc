"""Whether activation maps point at the evidence: inserted lesions, and occlusion of real films.

    python -m benchmarks.reference.pointing MODEL --fracatlas DIR --cache DIR [--samples 400]

Inserted lesions of the test patients have a mask of the pixels that were changed: of the correct
predictions, in what share does the highest cell of the predicted category's map touch it? On real
hips outside training: does hiding the region of the highest evidence lower the logit more than
hiding any other region of the same size?
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference.markdown import markdown
from benchmarks.reference.real import share
from hipedge import backends
from hipedge.backends.base import Backend
from hipedge.insertion.generate import DrawInserted, InsertedSample
from hipedge.model import ModelFolder, open_model
from hipedge.study.estimates import Cell, Table
from hipedge.train.insertions import InsertionSource
from hipedge.train.manifest import TEST
from hipedge.train.reference import BACKGROUNDS
from hipedge.types import ABNORMAL, CATEGORIES, Category, Scores

# Regions along a side of the crop that are hidden, one after the other.
REGIONS = 4
BATCH = 32
SEED = 11


@dataclass(frozen=True)
class Pointing:
    """Of one correct prediction: its category, and whether the highest cell touches the mask."""

    category: Category
    touches: bool


def touches_mask(activation: NDArray[np.float32], mask: NDArray[np.bool_]) -> bool:
    """Return whether the highest cell of a map (h, w) holds a pixel of a mask (S, S)."""
    row, column = np.unravel_index(int(activation.argmax()), activation.shape)
    height, width = (
        side // cells for side, cells in zip(mask.shape, activation.shape, strict=True)
    )
    cell = mask[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return bool(cell.any())


def point_at_lesions(samples: Sequence[InsertedSample], backend: Backend) -> list[Pointing]:
    """Return the correct predictions of inserted lesions, and whether each points at its lesion."""
    pointed = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        scored = backend.infer(np.stack([sample.pixels for sample in batch]))
        for sample, scores in zip(batch, scored, strict=True):
            k = CATEGORIES.index(sample.category)
            if int(scores.logits.argmax()) == k and sample.mask.any():
                pointed.append(
                    Pointing(sample.category, touches_mask(scores.maps[k], sample.mask[0]))
                )
    return pointed


def highest_region_counts_most(pixels: NDArray[np.uint8], backend: Backend) -> bool:
    """Return whether hiding the region of the highest evidence lowers the logit the most.

    `pixels` is one crop (1, S, S); a hidden region has the crop's mean gray.
    """
    (scores,) = backend.infer(pixels[None])
    k = int(scores.logits.argmax())
    side = pixels.shape[-1] // REGIONS
    hidden = np.repeat(pixels[None], REGIONS**2, axis=0)
    for number in range(REGIONS**2):
        row, column = divmod(number, REGIONS)
        region = np.s_[0, row * side : (row + 1) * side, column * side : (column + 1) * side]
        hidden[number][region] = round(float(pixels.mean()))
    logits = np.array([score.logits[k] for score in backend.infer(hidden)])
    return int(logits.argmin()) == int(evidence_by_region(scores, k).argmax())


def evidence_by_region(scores: Scores, k: int) -> NDArray[np.float64]:
    """Return the sum of a category's map over each region (REGIONS²,)."""
    height, width = scores.maps.shape[1:]
    blocks = scores.maps[k].reshape(REGIONS, height // REGIONS, REGIONS, width // REGIONS)
    return np.asarray(blocks.sum((1, 3)).ravel(), np.float64)


def pointing_table(pointed: Sequence[Pointing], occluded: Sequence[bool]) -> Table:
    """Tabulate both measures, with Wilson's intervals."""
    rows: list[tuple[Cell, ...]] = []
    for category in ABNORMAL:
        found = np.array([p.touches for p in pointed if p.category is category], bool)
        rows.append((f"inserted, {category.value.replace('_', ' ')}", share(found), len(found)))
    every = np.array([p.touches for p in pointed], bool)
    rows.append(("inserted, all", share(every), len(every)))
    rows.append(("real, by occlusion", share(np.array(occluded, bool)), len(occluded)))
    return Table(
        "pointing",
        "Whether activation maps point at the evidence",
        ("", "share", "hips"),
        tuple(rows),
        "Inserted: of correct predictions, those whose highest cell touches the lesion's mask. "
        f"Real: hips where hiding the region of the highest evidence, of {REGIONS**2}, lowers the "
        "logit of the predicted category the most.",
    )


def measure(
    model: ModelFolder, backend: Backend, fracatlas: Path, cache: Path, count: int
) -> Table:
    """Measure both on the test patients' backgrounds."""
    source = InsertionSource.open(BACKGROUNDS, fracatlas, model.card.input, cache)
    shares = {category: float(category is not Category.NORMAL) for category in CATEGORIES}
    generator = DrawInserted(source.backgrounds, model.card.input, TEST, shares)
    pointed = point_at_lesions(list(generator.samples(SEED, count)), backend)
    occluded = [
        highest_region_counts_most(generator.original(int(number)), backend)
        for number in source.backgrounds.of(TEST)
    ]
    return pointing_table(pointed, occluded)


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--fracatlas", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for backgrounds")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--backend", default="onnxruntime")
    given = parser.parse_args()
    model = open_model(given.model)
    with backends.open_backend(given.backend, model) as backend:
        print(markdown(measure(model, backend, given.fracatlas, given.cache, given.samples)))


if __name__ == "__main__":
    main()
