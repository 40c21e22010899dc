"""Small drawn films and a manifest of them: hips as discs, categories as what lies in the disc."""

import csv

import numpy as np
from PIL import Image

from hipedge.types import CATEGORIES, Side

SHAPE = (240, 320)
CENTRES = {Side.RIGHT: (100.0, 120.0), Side.LEFT: (220.0, 120.0)}


def draw_film(categories, rng):
    """A film uint8 (H, W) with a hip each side; category k is a bar at its own angle."""
    height, width = SHAPE
    rows, columns = np.mgrid[:height, :width] + 0.5
    film = 60 + 10 * rng.standard_normal(SHAPE)
    for side, category in categories.items():
        x, y = CENTRES[side]
        inwards = 1 if side is Side.RIGHT else -1
        dx, dy = (columns - x) * inwards, rows - y
        film[np.hypot(dx, dy) < 24] += 70
        film[(dx < 0) & (dx > -20) & (dy > 0)] += 50
        angle = np.pi * CATEGORIES.index(category) / len(CATEGORIES)
        across = np.abs(dx * np.sin(angle) - dy * np.cos(angle))
        film[(across < 4) & (np.hypot(dx, dy) < 40)] = 230
    return np.clip(film, 0, 255).astype(np.uint8)


def write_films(folder, patients, *, seed=0, splits=None, sites=("one", "two")):
    """Write a PNG a patient and `manifest.csv`; every category comes in turn."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        kinds = {
            Side.RIGHT: CATEGORIES[number % 8],
            Side.LEFT: CATEGORIES[(number // 2 + 3) % 8],
        }
        Image.fromarray(draw_film(kinds, rng)).save(folder / f"{number:03}.png")
        for side, category in kinds.items():
            x, y = CENTRES[side]
            row = {
                "path": f"{number:03}.png",
                "side": side.value,
                "category": category.value,
                "patient": f"p{number}",
                "site": sites[number % len(sites)],
                "age": 40 + number,
                "x": x,
                "y": y,
            }
            if splits:
                row["split"] = splits[number % len(splits)]
            rows.append(row)
    return write_manifest(folder / "manifest.csv", rows)


def write_manifest(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
