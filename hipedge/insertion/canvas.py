"""A real hip resampled to a fixed pixel spacing, oriented as a right hip, for lesion insertion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.insertion.sampling import Image, averaged

STEP_MM = 0.625  # a crop of 160 mm has 256 pixels
# 230 by 210 mm: a crop of 160 mm with a margin, so that crops can be shifted and fragments moved.
# The margin is largest above, where a dislocated head lies.
SHAPE = (368, 336)
HEAD_PX = (184.0, 168.0)  # position of the given centre of the head


@dataclass(frozen=True, eq=False)
class Canvas:
    """A hip image of `SHAPE`, bone bright, lateral to the left, with 1/`STEP_MM` pixels per mm.

    `pixels` is linear in the pixel values of the radiograph, with 0 and 255 at the 1st and 99th
    percentiles of the area `on_film`; it is 0 elsewhere.
    """

    pixels: Image
    on_film: NDArray[np.bool_]


def cut_canvas(
    film: NDArray[np.integer] | NDArray[np.floating],
    centre_px: tuple[float, float],
    mm_per_px: float,
    *,
    mirrored: bool,
) -> Canvas:
    """Resample a radiograph (H, W), bone bright, about the femoral head's centre (x, y).

    Coordinates follow `hipedge.types`: the first pixel's centre is (0.5, 0.5). `mirrored` flips a
    hip whose lateral side is on the right of the image. Raises `ValueError` if no pixel of the
    radiograph lies within the canvas.
    """
    step = STEP_MM / mm_per_px
    sign = -1.0 if mirrored else 1.0
    x = centre_px[0] - 0.5 - sign * HEAD_PX[0] * step
    y = centre_px[1] - 0.5 - HEAD_PX[1] * step
    matrix = np.array([[sign * step, 0.0, x], [0.0, step, y]])
    taps = max(1, round(step))
    values = np.ascontiguousarray(film, np.float32)
    still = np.zeros(values.shape, np.float32)
    # `averaged` measures positions from the corner of the first pixel, the canvas from its centre.
    matrix[:, 2] -= 0.5 * (matrix[:, 0] + matrix[:, 1])
    square = averaged(values, matrix, still, still, SHAPE, taps)
    on_film = ~np.isnan(square)
    if not on_film.any():
        raise ValueError("no pixel of the film lies about this hip")
    low, high = np.percentile(square[on_film], (1.0, 99.0))
    scaled = (square - low) * (255.0 / max(float(high - low), 1.0))
    return Canvas(np.where(on_film, scaled, 0.0).astype(np.float32), on_film)
