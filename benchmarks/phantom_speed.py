"""Radiographs and hip crops a second of the simulator, on one core.

    python -m benchmarks.phantom_speed [--films 20] [--crops 60]

Times are of the processor, so that other work on the machine counts little: the median over films
of drawing, developing and writing one, per million pixels, and over crops of 256 pixels. What is
done once a process (compiling, textures) is done before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from hipedge.phantom import crop, develop, draw_film, write_film
from hipedge.types import CropGeometry

GEOMETRY = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


def seconds(work: Callable[[int], float], count: int) -> list[float]:
    """Return the processor's seconds for each of `count` pieces of work, over the work's size."""
    taken = []
    for number in range(count):
        start = time.process_time()
        size = work(number)
        taken.append((time.process_time() - start) / size)
    return taken


def write_one(folder: Path, number: int) -> float:
    """Write a film; return its size in million pixels."""
    film = draw_film(np.random.SeedSequence([0, number]), number=number)
    write_film(folder / f"{number}.dcm", film, develop(film))
    return film.view.shape[0] * film.view.shape[1] / 1e6


def crop_one(number: int) -> float:
    crop(number, GEOMETRY)
    return 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the simulator.")
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--crops", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        seconds(lambda number: write_one(place, number), 5)
        films = seconds(lambda number: write_one(place, number), arguments.films)
    seconds(crop_one, 10)
    crops = seconds(crop_one, arguments.crops)
    result = {
        "films_of_1000x1000_per_s_and_core": round(1 / statistics.median(films), 2),
        "crops_of_256_px_per_s_and_core": round(1 / statistics.median(crops), 1),
        "environment": environment(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
