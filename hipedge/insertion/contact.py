"""Contact sheets of insertions: one row per grade of a category, each beside its original.

    python -m hipedge.insertion.contact OUT --backgrounds MANIFEST [--films FOLDER] [--seed 0]

writes `OUT/insertion-CATEGORY.png`, and prints the hips that were left out and the reasons. The
sheets reproduce the background radiographs, so their licence applies (FracAtlas: CC BY 4.0).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hipedge.insertion.backgrounds import prepare_backgrounds
from hipedge.insertion.generate import DrawInserted
from hipedge.insertion.manifest import SPLITS, read_manifest
from hipedge.phantom.patient import GRADE_SHARES
from hipedge.types import Category, CropGeometry

GEOMETRY = CropGeometry(size_px=224, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
LABEL_PX = 14
PAIRS = 3


def contact_sheet(draw: DrawInserted, category: Category, seed: int) -> Image.Image:
    """Draw a category: one row per grade, with pairs of the original and the insertion."""
    grades = list(GRADE_SHARES[category])
    size = draw.geometry.size_px
    sheet = Image.new("L", (2 * PAIRS * size, len(grades) * (size + LABEL_PX)), 255)
    labels = ImageDraw.Draw(sheet)
    for row, grade in enumerate(grades):
        for pair in range(PAIRS):
            number = np.random.SeedSequence([seed, list(Category).index(category), row, pair])
            sample = draw.sample(number, category=category, grade=grade)
            hip = draw.backgrounds.hips.index(sample.background)
            x, y = 2 * pair * size, row * (size + LABEL_PX)
            for column, pixels in enumerate((draw.original(hip), sample.pixels)):
                sheet.paste(Image.fromarray(pixels[0]), (x + column * size, y + LABEL_PX))
            text = f"{Path(sample.background.path).stem} {sample.background.side.value} | {grade}"
            labels.text((x + 3, y + 1), text, fill=0)
    return sheet


def main() -> None:
    """Write the contact sheets."""
    parser = argparse.ArgumentParser(description="Contact sheets of inserted lesions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backgrounds", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--films", type=Path, help="the folder that the manifest's paths are in")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = read_manifest(given.backgrounds, given.films)
    backgrounds = prepare_backgrounds(rows, given.folder / "cache")
    for left_out in backgrounds.left_out:
        print(f"left out: {left_out.path} {left_out.side}: {left_out.reason}")
    draw = DrawInserted(backgrounds, GEOMETRY, given.split)
    for category in Category:
        sheet = contact_sheet(draw, category, given.seed)
        sheet.save(given.folder / f"insertion-{category.value}.png")


if __name__ == "__main__":
    main()
