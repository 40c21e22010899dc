"""Parts of a film at a lower resolution: of pixels in memory, and of a turned film.

A film is halved by the low-pass filter of the reversible 5/3 wavelet (ITU-T T.800 annex F), which
is how JPEG 2000 stores lower resolutions: what a decoder gives at one of them and what is computed
here from all pixels are the same numbers, so that a film has one finding in every lossless
encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.types import Area, Box, Pixels

# Halved so often, the largest film that is read has less than a hundred pixels a side.
MAX_HALVINGS = 7
# Sums of the lifting steps of so small values fit 16 bits, in half the time of 32.
_LARGEST_IN_16_BITS = 4095
# Filtered in chunks of so many rows, the intermediate results stay in the processor's cache.
_CHUNK_ROWS = 64


@dataclass(frozen=True, eq=False)
class WholePixels:
    """A film's pixels (H, W), all in memory and rendered (`Pixels`)."""

    pixels: NDArray[np.uint16]
    damaged: bool = False

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W)."""
        return self.pixels

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at most half as coarse as `step_px`."""
        count = halvings(step_px / 2)
        rows, columns = lines_around(box, self.pixels.shape, 1 << count)
        band = low_band(self.pixels, count, rows, columns)
        return Area(
            np.clip(band, 0, np.iinfo(np.uint16).max).astype(np.uint16),
            band_origin(rows, columns, count),
            1 << count,
        )


@dataclass(frozen=True, eq=False)
class TurnedPixels:
    """A film's pixels turned by 90° counterclockwise; `width` is that of the film before."""

    pixels: Pixels
    width: int

    @property
    def damaged(self) -> bool:
        """Whether the decoder noticed damage to what has been asked for so far."""
        return self.pixels.damaged

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

    @property
    def damaged(self) -> bool:
        """Whether the decoder noticed damage to what has been asked for so far."""
        return self.pixels.damaged

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


def lines_around(box: Box, shape: tuple[int, int], step: int) -> tuple[slice, slice]:
    """Return the rows and columns of a film (H, W) for the low-pass band around `box`.

    They begin and end with a multiple of `step`; as far as the film goes, the band's outermost
    pixels lie wholly beyond the box.
    """
    return (
        _lines_between(box.y0, box.y1, shape[0], step),
        _lines_between(box.x0, box.x1, shape[1], step),
    )


def _lines_between(start: float, stop: float, length: int, step: int) -> slice:
    # The centre of the band's pixel n is n * step + 1/2 of the film's.
    first = math.floor((start - (step + 1) / 2) / step)
    last = math.ceil((stop + (step - 1) / 2) / step)
    return slice(max(0, first * step), min(length, last * step + 1))


def band_origin(rows: slice, columns: slice, count: int) -> tuple[float, float]:
    """Return where a low-pass band's outer corner lies on the film (`Area.origin_px`).

    Each of its pixels has the centre of the film's pixel at the same multiple of 2^count.
    """
    shift = ((1 << count) - 1) / 2
    return columns.start - shift, rows.start - shift


def low_band(values: NDArray[Any], count: int, rows: slice, columns: slice) -> NDArray[Any]:
    """Return the 5/3 low-pass band of part of a film's values (H, W), halved `count` times.

    `rows` and `columns` begin at a multiple of 2^count; the band has one value for each multiple
    that lies in them. Its values may exceed the range of the film's by some overshoot.
    """
    if count == 0:
        return values[rows, columns]
    # What each level's filter reaches beyond the part adds up to less than 2^(count + 1).
    margin = 2 << count
    top, left = max(0, rows.start - margin), max(0, columns.start - margin)
    band = values[top : rows.stop + margin, left : columns.stop + margin]
    for _ in range(count):
        band = _halve(band)
    step = 1 << count
    return band[
        multiples(slice(rows.start - top, rows.stop - top), step),
        multiples(slice(columns.start - left, columns.stop - left), step),
    ]


def multiples(lines: slice, step: int) -> slice:
    """Return which multiples of `step` lie in rows or columns."""
    return slice(-(-lines.start // step), -(-lines.stop // step))


def _halve(values: NDArray[Any]) -> NDArray[Any]:
    """Return the low-pass band of values (H, W) as (⌈H/2⌉, ⌈W/2⌉), rows first (T.800 F.4)."""
    small = max(abs(int(values.min())), abs(int(values.max()))) <= _LARGEST_IN_16_BITS
    dtype = np.int16 if small else np.int32
    height = -(-len(values) // 2)
    halved = np.empty((height, -(-values.shape[1] // 2)), dtype)
    for first in range(0, height, _CHUNK_ROWS):
        last = min(first + _CHUNK_ROWS, height)
        start = max(0, 2 * first - 2)
        low = _low_pass(values[start : 2 * last + 1].astype(dtype))
        low = low[first - start // 2 :][: last - first]
        halved[first:last] = _low_pass(low.T).T
    return halved


def _low_pass(lines: NDArray[Any]) -> NDArray[Any]:
    """Filter and halve along the first axis by lifting (T.800 F.4.8.1), mirrored at both ends."""
    if len(lines) == 1:
        return lines
    even, odd = np.ascontiguousarray(lines[::2]), np.ascontiguousarray(lines[1::2])
    high = even[: len(odd)].copy()
    high[: len(even) - 1] += even[1:]
    if len(even) == len(odd):
        high[-1] += even[-1]
    high >>= 1
    np.subtract(odd, high, out=high)
    low = np.empty_like(even)
    low[0] = high[0]
    low[1:] = high[: len(even) - 1]
    low[: len(high)] += high
    if len(even) > len(odd):
        low[-1] += high[-1]
    low += 2
    low >>= 2
    low += even
    return low
