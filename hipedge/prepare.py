"""prepare: from a hip on a radiograph to the square of bytes that the network sees."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.errors import Code, Refused
from hipedge.types import Box, Hip, Radiograph, Sample, Side

# The darkest and brightest percent of a crop are burnt-in markers, metal and bare detector;
# what lies between them is spread over the whole range of a byte.
CONTRAST_PERCENTILES = (1.0, 99.0)


def prepare(radiograph: Radiograph, hip: Hip, size_px: int) -> tuple[Sample, ...]:
    """Crop one hip for the network: one sample, or for a hip of unknown side one each way.

    Raises `Refused` (`hip_outside_image`) if no pixel of the film lies in the hip's box.
    """
    square = to_bytes(resample(radiograph.pixels, hip.box, size_px))
    plain = Sample(square[None], crop_affine(hip.box, size_px, mirrored=False))
    flipped = Sample(
        np.ascontiguousarray(square[None, :, ::-1]), crop_affine(hip.box, size_px, mirrored=True)
    )
    if hip.side is Side.UNKNOWN:
        return plain, flipped
    return (flipped,) if hip.mirrored else (plain,)


def resample(pixels: NDArray[np.uint16], box: Box, size_px: int) -> NDArray[np.float32]:
    """Average `pixels` (H, W) over `box` into a square of `size_px`; NaN where there is no film.

    Shrinking, each output pixel is the exact mean over its area; enlarging, it is interpolated.
    """
    height, width = pixels.shape
    x0, x1 = max(0, math.floor(box.x0) - 1), min(width, math.ceil(box.x1) + 1)
    y0, y1 = max(0, math.floor(box.y0) - 1), min(height, math.ceil(box.y1) + 1)
    if min(box.x1, width) <= max(box.x0, 0) or min(box.y1, height) <= max(box.y0, 0):
        raise Refused(Code.HIP_OUTSIDE_IMAGE)
    columns = _covered(box.x0, box.x1, width, size_px)
    rows = _covered(box.y0, box.y1, height, size_px)
    inside = Box(
        box.x0 + columns.start * box.width / size_px - x0,
        box.y0 + rows.start * box.height / size_px - y0,
        box.x0 + columns.stop * box.width / size_px - x0,
        box.y0 + rows.stop * box.height / size_px - y0,
    )
    shrinks = box.width >= size_px and box.height >= size_px
    image = Image.fromarray(pixels[y0:y1, x0:x1].astype(np.float32))
    square = np.full((size_px, size_px), np.nan, np.float32)
    square[rows, columns] = np.asarray(
        image.resize(
            (columns.stop - columns.start, rows.stop - rows.start),
            Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR,
            box=(inside.x0, inside.y0, inside.x1, inside.y1),
        )
    )
    return square


def _covered(start: float, stop: float, length: int, size_px: int) -> slice:
    """Return which of `size_px` cells from `start` to `stop` lie wholly on an axis of `length`."""
    cell = (stop - start) / size_px
    first = max(0, math.ceil(-start / cell - 1e-9))
    last = min(size_px, math.floor((length - start) / cell + 1e-9))
    if last <= first:
        raise Refused(Code.HIP_OUTSIDE_IMAGE)
    return slice(first, last)


def to_bytes(square: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the crop's contrast between its percentiles to 0–255; where there is no film, 0."""
    on_film = ~np.isnan(square)
    low, high = np.percentile(square[on_film], CONTRAST_PERCENTILES)
    scaled = (square - low) * (255.0 / max(float(high - low), 1.0))
    return np.where(on_film, np.clip(np.rint(scaled), 0, 255), 0).astype(np.uint8)


def crop_affine(box: Box, size_px: int, *, mirrored: bool) -> NDArray[np.float64]:
    """Return the 3×3 affine from a sample's coordinates to the film's, both (x, y, 1) columns."""
    sx, sy = box.width / size_px, box.height / size_px
    if mirrored:
        return np.array([[-sx, 0.0, box.x1], [0.0, sy, box.y0], [0.0, 0.0, 1.0]])
    return np.array([[sx, 0.0, box.x0], [0.0, sy, box.y0], [0.0, 0.0, 1.0]])
