"""Crop real films at manually marked femoral heads, for comparison with simulated films."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom import read
from hipedge.imaging.geometry import HEAD_DISTANCE_MM, crop_box
from hipedge.imaging.prepare import resample, to_bytes
from hipedge.types import CropGeometry


def real_crops(centres: Path, folder: Path, geometry: CropGeometry) -> list[NDArray[np.uint8]]:
    """Crop the hips of real adult films, as the pipeline does for films without pixel spacing.

    `centres` is a CSV file that lists films in `folder` or its subfolders, with the columns `file`,
    `left_x`, `left_y`, `right_x`, `right_y` (the femoral heads on the left and right of the image)
    and `kind`. Only films of kind `bilateral` are used. Each crop is uint8 (S, S), oriented as a
    right hip.
    """
    found = []
    with centres.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "bilateral"]
    for row in rows:
        path = next(folder.rglob(row["file"]))
        pixels = read(path).pixels
        heads = {
            -1: (float(row["left_x"]), float(row["left_y"])),
            1: (float(row["right_x"]), float(row["right_y"])),
        }
        spacing = HEAD_DISTANCE_MM / float(np.hypot(*np.subtract(heads[1], heads[-1])))
        for lateral, head in heads.items():
            box = crop_box(head, (spacing, spacing), geometry, lateral=lateral)
            crop = to_bytes(resample(pixels, box, geometry.size_px))
            found.append(crop if lateral < 0 else crop[:, ::-1])
    return found
