"""Crop real hips at known femoral heads, for comparison with simulated ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.read import read
from hipedge.imaging.geometry import crop_box
from hipedge.imaging.prepare import resample, to_bytes
from hipedge.types import CropGeometry


def real_crops(
    manifest: Path, folder: Path, geometry: CropGeometry, *, coarsest_mm: float = float("inf")
) -> list[NDArray[np.uint8]]:
    """Crop the hips of adults without a fracture, as the pipeline does.

    `manifest` is a CSV file like `hipedge/insertion/data/fracatlas.csv`, with a row for each hip of
    the films in `folder`: `path`, `age_class`, `side`, the centre of the head `x` and `y` in pixels
    of the upright film, `mm_per_px` and `quarter_turns`. Films with pixels larger than
    `coarsest_mm` are left out: they hold no detail finer than that. Each crop is uint8 (S, S),
    oriented as a right hip.
    """
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["age_class"] == "adult"]
    found = []
    for row in rows:
        mm_per_px = float(row["mm_per_px"])
        if mm_per_px > coarsest_mm:
            continue
        pixels = np.rot90(read(folder / row["path"]).pixels, int(row["quarter_turns"]))
        lateral = -1 if row["side"] == "right" else 1
        head = float(row["x"]), float(row["y"])
        box = crop_box(head, (mm_per_px, mm_per_px), geometry, lateral=lateral)
        crop = to_bytes(resample(np.ascontiguousarray(pixels), box, geometry.size_px))
        found.append(crop if lateral < 0 else crop[:, ::-1])
    return found
