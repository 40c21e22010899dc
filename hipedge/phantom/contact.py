"""Draw contact sheets of simulated hips: grades in columns, hospitals in rows.

    python -m hipedge.phantom.contact docs/img [--real MANIFEST.csv FOLDER] [--seed 0]

This writes `phantom-CATEGORY.jpg` for each category. With `--real`, the last row of each sheet
shows real hips of films with a fine resolution (see `hipedge.phantom.real`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hipedge.phantom.film import crop_of, draw_film
from hipedge.phantom.hospitals import HOSPITALS
from hipedge.phantom.patient import GRADE_SHARES
from hipedge.phantom.real import real_crops
from hipedge.types import Category, CropGeometry, Side

GEOMETRY = CropGeometry(size_px=224, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
LABEL_PX = 14
WHITE = 255


def contact_sheet(
    category: Category, *, seed: int, columns: int = 5, real: Sequence[NDArray[np.uint8]] = ()
) -> Image.Image:
    """Draw hips of a category: grades in columns, hospitals in rows, then a row of `real` crops."""
    grades = list(GRADE_SHARES[category])
    size = GEOMETRY.size_px
    rows = len(HOSPITALS) + bool(real)
    sheet = Image.new("L", (columns * size, rows * (size + LABEL_PX)), WHITE)
    for row, hospital in enumerate(HOSPITALS):
        for column in range(columns):
            grade = grades[column % len(grades)]
            film = draw_film(
                np.random.SeedSequence([seed, list(Category).index(category), row, column]),
                categories={Side.RIGHT: category},
                grades={Side.RIGHT: grade},
                hospital=hospital,
                only=Side.RIGHT,
            )
            crop = crop_of(film, Side.RIGHT, GEOMETRY)[0]
            _put(sheet, crop, f"{grade}, {hospital}", row, column)
    for column, crop in enumerate(real[:columns]):
        _put(sheet, crop, "real", rows - 1, column)
    return sheet


def _put(sheet: Image.Image, crop: NDArray[np.uint8], label: str, row: int, column: int) -> None:
    size = GEOMETRY.size_px
    x, y = column * size, row * (size + LABEL_PX)
    sheet.paste(Image.fromarray(np.ascontiguousarray(crop)), (x, y + LABEL_PX))
    ImageDraw.Draw(sheet).text((x + 3, y + 1), label, fill=0)


def main() -> None:
    """Write a contact sheet for each category."""
    parser = argparse.ArgumentParser(description="Contact sheets of phantoms, one a category.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real", nargs=2, type=Path, metavar=("MANIFEST.csv", "FOLDER"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    real: list[NDArray[np.uint8]] = []
    if arguments.real:
        manifest, films = arguments.real
        pixel_mm = GEOMETRY.crop_mm / GEOMETRY.size_px
        real = real_crops(manifest, films, GEOMETRY, coarsest_mm=pixel_mm)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for category in Category:
        sheet = contact_sheet(category, seed=arguments.seed, real=real)
        sheet.save(arguments.folder / f"phantom-{category.value}.jpg", quality=82)


if __name__ == "__main__":
    main()
