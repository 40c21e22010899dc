"""prepare: from a hip on a radiograph to the square of bytes that the network sees."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.errors import Code, Refused
from hipedge.types import Area, Box, Hip, Radiograph, Sample, Side

# The darkest and brightest percent of a crop are burnt-in markers, metal and bare detector;
# what lies between them is spread over the whole range of a byte.
CONTRAST_PERCENTILES = (1.0, 99.0)


def prepare(radiograph: Radiograph, hip: Hip, size_px: int) -> tuple[Sample, ...]:
    """Crop one hip for the network: one sample, or for a hip of unknown side one each way.

    Raises `Refused` (`hip_outside_image`) if no pixel of the film lies in the hip's box.
    """
    square = to_bytes(_resample(radiograph.source.area, radiograph.film.shape, hip.box, size_px))
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
    return _resample(lambda *_: Area(pixels), pixels.shape, box, size_px)


def _resample(
    area_of: Callable[[Box, float], Area], shape: tuple[int, int], box: Box, size_px: int
) -> NDArray[np.float32]:
    """Do so by the area (`Pixels.area`) of a film (H, W) that lies in the box."""
    columns, x = _covered(box.x0, box.x1, shape[1], size_px)
    rows, y = _covered(box.y0, box.y1, shape[0], size_px)
    cell_px = min(box.width, box.height) / size_px
    area = area_of(Box(x[0], y[0], x[-1], y[-1]), max(cell_px, 1.0))
    x = _on_area(x, area.origin_px[0], area.step_px, area.pixels.shape[1])
    y = _on_area(y, area.origin_px[1], area.step_px, area.pixels.shape[0])
    # With one pixel more all around, which interpolation reads.
    left, top = max(0, math.floor(x[0]) - 1), max(0, math.floor(y[0]) - 1)
    film = area.pixels[top : math.ceil(y[-1]) + 1, left : math.ceil(x[-1]) + 1]
    square = np.full((size_px, size_px), np.nan, np.float32)
    if cell_px >= 1:
        square[rows, columns] = area_means(area_means(film, y - top).T, x - left).T
    else:
        square[rows, columns] = _interpolate(film, x - left, y - top)
    return square


def _on_area(
    edges: NDArray[np.float64], origin_px: float, step_px: int, length: int
) -> NDArray[np.float64]:
    """Return where edges on the film lie on an area, which may end half a pixel before the film."""
    return np.clip((edges - origin_px) / step_px, 0, length)


def _covered(
    start: float, stop: float, length: int, size_px: int
) -> tuple[slice, NDArray[np.float64]]:
    """Return which of `size_px` cells from `start` to `stop` lie wholly on an axis of `length`.

    With them come their edges on that axis, one more than there are cells.
    """
    cell = (stop - start) / size_px
    first = max(0, math.ceil(-start / cell - 1e-9))
    last = min(size_px, math.floor((length - start) / cell + 1e-9))
    if last <= first:
        raise Refused(Code.HIP_OUTSIDE_IMAGE)
    edges = start + cell * np.arange(first, last + 1)
    return slice(first, last), np.clip(edges, 0, length)


def area_means(lines: NDArray[np.generic], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Average `lines` (N, M) over the cells between `edges` (K + 1,) along N: (K, M)."""
    first = np.floor(edges[:-1]).astype(np.intp)
    means = np.zeros((len(first), lines.shape[1]), np.float32)
    for step in range(int((np.ceil(edges[1:]) - first).max())):
        line = first + step
        inside = np.minimum(edges[1:], line + 1) - np.maximum(edges[:-1], line)
        weight = np.clip(inside, 0, None) / np.diff(edges)
        means += weight.astype(np.float32)[:, None] * lines[np.minimum(line, len(lines) - 1)]
    return means


def _interpolate(
    film: NDArray[np.uint16], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Interpolate `film` (H, W) at cells between edges `x` and `y`, as Pillow does: bilinear."""
    resized = Image.fromarray(film.astype(np.float32)).resize(
        (len(x) - 1, len(y) - 1),
        Image.Resampling.BILINEAR,
        box=(float(x[0]), float(y[0]), float(x[-1]), float(y[-1])),
    )
    return np.asarray(resized)


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
