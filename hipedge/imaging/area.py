"""Parts of a film at the resolution that is needed: in memory, turned, or cropped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.types import Area, Box, Pixels

Render = Callable[[NDArray[Any]], NDArray[np.uint16]]

# A block of 128 × 128 values of 16 bits adds up to less than 31 bits hold.
MAX_HALVINGS = 7


@dataclass(frozen=True, eq=False)
class WholePixels:
    """A film's pixels (H, W), all in memory and rendered (`Pixels`)."""

    pixels: NDArray[np.uint16]

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W)."""
        return self.pixels

    def area(self, box: Box, step_px: float) -> Area:
        """Return means of the film's pixels around `box`, no coarser than `step_px`."""
        return means_around(box, self.pixels, step_px, lambda means: means)


@dataclass(frozen=True, eq=False)
class TurnedPixels:
    """A film's pixels turned by 90° counterclockwise; `width` is that of the film before."""

    pixels: Pixels
    width: int

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels, turned: (W, H)."""
        return np.ascontiguousarray(np.rot90(self.pixels.whole()))

    def area(self, box: Box, step_px: float) -> Area:
        """Return the turned film's pixels around `box`, no coarser than `step_px`.

        What is at (x, y) of the turned film was at (width - y, x) before.
        """
        before = Box(self.width - box.y1, box.x0, self.width - box.y0, box.x1)
        area = self.pixels.area(before, step_px)
        x, y = area.on_film((area.pixels.shape[1], 0))
        return Area(np.ascontiguousarray(np.rot90(area.pixels)), (y, self.width - x), area.step_px)


@dataclass(frozen=True, eq=False)
class CroppedPixels:
    """The part of a film's pixels with its first pixel at `origin_px` (x, y), `shape` (H, W)."""

    pixels: Pixels
    origin_px: tuple[int, int]
    shape: tuple[int, int]

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels of the part (H, W)."""
        (x, y), (height, width) = self.origin_px, self.shape
        return self.pixels.whole()[y : y + height, x : x + width]

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, a box of the part, no coarser than `step_px`.

        The area may reach beyond the part, by pixels of its own.
        """
        x, y = self.origin_px
        area = self.pixels.area(Box(box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y), step_px)
        origin = area.origin_px[0] - x, area.origin_px[1] - y
        return Area(area.pixels, origin, area.step_px)


def means_around(
    box: Box,
    values: NDArray[Any],
    step_px: float,
    render: Render,
) -> Area:
    """Return rendered means of the values (H, W) around `box`, half as coarse as `step_px` or less.

    The caller averages the area over cells of its own. Blocks of half their size blur the edges of
    these cells little, and averaging values in memory costs next to nothing.
    """
    step = 1 << halvings(step_px / 2)
    rows, columns = blocks_around(box, values.shape, step)
    means = block_means(values[rows, columns], step)
    return Area(render(means), (columns.start, rows.start), step)


def shrink_to(pixels: NDArray[np.uint16], columns: int, rows: int) -> NDArray[np.float32]:
    """Average a film (H, W) into an image float32 (rows, columns), smaller than it or as large.

    Of a large film every few pixels are averaged: a cell still has at least two each way.
    """
    height, width = pixels.shape
    skip = max(1, int(min(width / columns, height / rows)) // 2)
    sparse = pixels[skip // 2 :: skip, skip // 2 :: skip].astype(np.float32)
    return np.asarray(Image.fromarray(sparse).resize((columns, rows), Image.Resampling.BOX))


def halvings(step_px: float) -> int:
    """Return how often a film can be halved before its pixels are coarser than `step_px`."""
    return min(MAX_HALVINGS, max(0, math.floor(math.log2(step_px))))


def blocks_around(box: Box, shape: tuple[int, int], step: int) -> tuple[slice, slice]:
    """Return the rows and columns of whole blocks around `box` and one more, within a film."""
    return (
        _blocks_between(box.y0, box.y1, shape[0], step),
        _blocks_between(box.x0, box.x1, shape[1], step),
    )


def _blocks_between(start: float, stop: float, length: int, step: int) -> slice:
    first = math.floor(start / step) - 1
    last = math.ceil(stop / step) + 1
    return slice(max(0, first * step), min(length, last * step))


def block_means(values: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the means of blocks of `step` × `step` values of at most 16 bits, rounded.

    A block that is cut off at the lower or right end is filled with its last row or column.
    """
    if step == 1:
        return values
    height, width = values.shape
    if height % step or width % step:
        values = np.pad(values, ((0, -height % step), (0, -width % step)), mode="edge")
    sums = np.empty((len(values) // step, values.shape[1]), _sum_type(values, step))
    _add_up([values[line::step] for line in range(step)], sums)
    blocks = np.empty((len(sums), sums.shape[1] // step), sums.dtype)
    _add_up([sums[:, line::step] for line in range(step)], blocks)
    bits = 2 * (step.bit_length() - 1)
    half, shift = blocks.dtype.type(1 << bits >> 1), blocks.dtype.type(bits)
    means: NDArray[Any] = ((blocks + half) >> shift).astype(values.dtype)
    return means


def _sum_type(values: NDArray[Any], step: int) -> type[np.integer[Any]]:
    """Return the narrowest type that holds a block's sum, and half a block for rounding.

    Films of 12 bits are summed in 16 bits, in half the time that 32 bits take.
    """
    if values.dtype.kind == "i":
        return np.int32
    fits = (int(values.max()) + 1) * step * step <= 1 << 16
    return np.uint16 if fits else np.uint32


def _add_up(terms: Sequence[NDArray[Any]], total: NDArray[Any]) -> None:
    np.add(terms[0], terms[1], out=total, dtype=total.dtype)
    for term in terms[2:]:
        np.add(total, term, out=total)
