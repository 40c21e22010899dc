"""Samples a second of lesion insertion, on one core, by category.

    python -m benchmarks.insertion_speed --backgrounds MANIFEST --films FOLDER --cache FOLDER

Times are of the processor, so that other work on the machine counts little. Backgrounds are
prepared before, and what is done once a process (compiling, the outline model) too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from hipedge.insertion import DrawInserted, prepare_backgrounds, read_manifest
from hipedge.types import Category, CropGeometry


def per_second(draw: DrawInserted, count: int, category: Category | None) -> float:
    """Return samples per second of the processor; `category` None draws as training does."""
    start = time.process_time()
    for number in range(count):
        draw.sample(np.random.SeedSequence((1, number)), category=category)
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of lesion insertion.")
    parser.add_argument("--backgrounds", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--films", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=200)
    given = parser.parse_args()
    geometry = CropGeometry(given.size, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
    rows = read_manifest(given.backgrounds, given.films)
    draw = DrawInserted(prepare_backgrounds(rows, given.cache), geometry)
    for category in Category:
        per_second(draw, 4, category)
    figures = {
        category.value: round(per_second(draw, given.samples // 8, category), 1)
        for category in Category
    }
    figures["as drawn for training"] = round(per_second(draw, given.samples, None), 1)
    print(json.dumps({"size_px": given.size, "per_second": figures, **environment()}, indent=2))


if __name__ == "__main__":
    main()
