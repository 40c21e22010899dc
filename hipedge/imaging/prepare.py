"""prepare: from a hip on a radiograph to the input of the network, a square of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.errors import Code, Refused
from hipedge.types import Area, Box, Hip, Radiograph, Sample, Side

# The darkest and brightest percent of a crop are burnt-in markers, metal and unattenuated detector;
# the values between them are spread over the range of a byte.
CONTRAST_PERCENTILES = (1.0, 99.0)


def prepare(radiograph: Radiograph, hip: Hip, size_px: int) -> tuple[Sample, ...]:
    """Crop one hip: one sample, or for a hip of unknown side two, plain and mirrored.

    Raises `Refused` (`hip_outside_image`) if no cell of the crop lies wholly on the film.
    """
    (samples,) = prepare_hips(radiograph, (hip,), size_px)
    return samples


def prepare_hips(
    radiograph: Radiograph, hips: Sequence[Hip], size_px: int
) -> tuple[tuple[Sample, ...], ...]:
    """Crop all hips of a film, as `prepare` does, from one area around them, decoded once."""
    shape = radiograph.film.shape
    grids = [_Grid.over(hip.box, shape, size_px) for hip in hips]
    cell_px = min(grid.cell_px for grid in grids)
    # An area has at least two pixels each way to a cell, which are averaged.
    around = _around([grid.box for grid in grids])
    area = radiograph.source.area(around, max(cell_px, 1.0))
    return tuple(_samples(grid.fill(area), hip) for grid, hip in zip(grids, hips, strict=True))


def _samples(square: NDArray[np.float32], hip: Hip) -> tuple[Sample, ...]:
    seen = to_bytes(square)
    plain = Sample(seen[None], crop_affine(hip.box, len(seen), mirrored=False))
    flipped = Sample(
        np.ascontiguousarray(seen[None, :, ::-1]), crop_affine(hip.box, len(seen), mirrored=True)
    )
    if hip.side is Side.UNKNOWN:
        return plain, flipped
    return (flipped,) if hip.mirrored else (plain,)


def _around(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.x0 for box in boxes),
        min(box.y0 for box in boxes),
        max(box.x1 for box in boxes),
        max(box.y1 for box in boxes),
    )


def resample(pixels: NDArray[np.uint16], box: Box, size_px: int) -> NDArray[np.float32]:
    """Average `pixels` (H, W) over `box` into a square of `size_px`; NaN where there is no film.

    Shrinking, each output pixel is the exact mean over its area; enlarging, it is interpolated.
    """
    return resample_area(Area(pixels), box, pixels.shape, size_px)


def resample_area(
    area: Area, box: Box, shape: tuple[int, int], size_px: int
) -> NDArray[np.float32]:
    """Average an area around `box` of a film of `shape` (H, W), as `resample` does the film."""
    return _Grid.over(box, shape, size_px).fill(area)


@dataclass(frozen=True, eq=False)
class _Grid:
    """The cells of a square of `size_px` over a box: those that lie wholly on the film.

    `x` and `y` are the edges of these `columns` and `rows` on the film, one more than there are.
    """

    size_px: int
    cell_px: float
    columns: slice
    rows: slice
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @classmethod
    def over(cls, box: Box, shape: tuple[int, int], size_px: int) -> _Grid:
        """Lay the cells over a box on a film (H, W). Raises `Refused` (`hip_outside_image`)."""
        columns, x = _covered(box.x0, box.x1, shape[1], size_px)
        rows, y = _covered(box.y0, box.y1, shape[0], size_px)
        return cls(size_px, min(box.width, box.height) / size_px, columns, rows, x, y)

    @property
    def box(self) -> Box:
        """The part of the film that the cells cover."""
        return Box(self.x[0], self.y[0], self.x[-1], self.y[-1])

    def fill(self, area: Area) -> NDArray[np.float32]:
        """Return the square from an area that contains the box; NaN where there is no film."""
        height, width = area.pixels.shape
        x, y = _on_area(self.x, area, 0, width), _on_area(self.y, area, 1, height)
        # One more pixel on each side, which interpolation reads.
        left, top = max(0, math.floor(x[0]) - 1), max(0, math.floor(y[0]) - 1)
        film = area.pixels[top : math.ceil(y[-1]) + 1, left : math.ceil(x[-1]) + 1]
        square = np.full((self.size_px, self.size_px), np.nan, np.float32)
        if self.cell_px >= 1:
            means = area_means(area_means(film, y - top).T, x - left).T
            square[self.rows, self.columns] = means
        else:
            square[self.rows, self.columns] = _interpolate(film, x - left, y - top)
        return square


def _covered(
    start: float, stop: float, length: int, size_px: int
) -> tuple[slice, NDArray[np.float64]]:
    """Return which of `size_px` cells from `start` to `stop` lie wholly on an axis of `length`.

    Also returns their edges on that axis, one more than there are cells.
    """
    cell = (stop - start) / size_px
    first = max(0, math.ceil(-start / cell - 1e-9))
    last = min(size_px, math.floor((length - start) / cell + 1e-9))
    if last <= first:
        raise Refused(Code.HIP_OUTSIDE_IMAGE)
    edges = start + cell * np.arange(first, last + 1)
    return slice(first, last), np.clip(edges, 0, length)


def _on_area(edges: NDArray[np.float64], area: Area, axis: int, length: int) -> NDArray[np.float64]:
    """Return where edges on the film are on an area, which may end half a pixel before the film."""
    return np.clip((edges - area.origin_px[axis]) / area.step_px, 0, length)


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
    """Stretch a crop's contrast between its percentiles to 0–255; 0 where there is no film."""
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
