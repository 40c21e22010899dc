"""Parts of a film at a lower resolution: of pixels in memory, and of a turned film.

A film is halved by the low-pass filter of the reversible 5/3 wavelet (ITU-T T.800 annex F), which
is how JPEG 2000 stores lower resolutions: what a decoder gives at one of them and what is computed
here from all pixels are the same numbers, so that a film has one finding in every lossless
encoding.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.types import Area, Box, Pixels

# Halved so often, the largest film that is read has less than a hundred pixels a side.
MAX_HALVINGS = 7
# The sums of the lifting steps, at most three times the span of the values, then fit 16 bits, in
# half the time of 32.
_SPAN_IN_16_BITS = 10_900
# Filtered in chunks of so many rows, the intermediate results stay in the processor's cache.
_CHUNK_ROWS = 128
_WIDER = {np.dtype(np.int16): np.int32, np.dtype(np.int32): np.int64}


@dataclass(frozen=True, eq=False)
class WholePixels:
    """A film's pixels (H, W), all in memory and rendered (`Pixels`)."""

    pixels: NDArray[np.uint16]
    damaged: bool = False

    @cached_property
    def _bands(self) -> Bands:
        return Bands(self.pixels)

    def whole(self) -> NDArray[np.uint16]:
        """Return all pixels (H, W)."""
        return self.pixels

    def area(self, box: Box, step_px: float) -> Area:
        """Return the film's pixels around `box`, at most half as coarse as `step_px`."""
        count = halvings(step_px / 2)
        rows, columns = lines_around(box, self.pixels.shape, 1 << count)
        band = self._bands.part(count, rows, columns)
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


class Bands:
    """A film's values (H, W) and their 5/3 low-pass bands, each computed when it is asked for.

    A band has one value for each multiple of 2^count, and may exceed the range of the film's values
    by some overshoot. `within` are a least and a greatest value of the film, if they are known.
    """

    def __init__(self, values: NDArray[Any], within: tuple[int, int] | None = None) -> None:
        self._values, self._within = values, within
        self._bands = dict[int, NDArray[Any]]()

    def whole(self, count: int) -> NDArray[Any]:
        """Return the band of the whole film, halved `count` times: (⌈H / 2^count⌉, …)."""
        if count == 0:
            return self._values
        if count not in self._bands:
            finer = self.whole(count - 1)
            within = self._within if count == 1 else None
            self._bands[count] = _halve(finer, _lifting_type(finer, within))
        return self._bands[count]

    def part(self, count: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Return what of a band lies between rows and columns of the film."""
        step = 1 << count
        return self.whole(count)[multiples(rows, step), multiples(columns, step)]


def multiples(lines: slice, step: int) -> slice:
    """Return which multiples of `step` lie in rows or columns."""
    return slice(-(-lines.start // step), -(-lines.stop // step))


def _lifting_type(values: NDArray[Any], within: tuple[int, int] | None) -> np.dtype[Any]:
    """Return the type for values and the sums of their lifting steps."""
    if within is None or not _fit_16_bits(*within):
        within = int(values.min()) if values.dtype.kind != "u" else 0, int(values.max())
    return np.dtype(np.int16 if _fit_16_bits(*within) else np.int32)


def _fit_16_bits(least: int, greatest: int) -> bool:
    return max(greatest, -least, greatest - least) <= _SPAN_IN_16_BITS


def _halve(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the low-pass band of values (H, W) as (⌈H/2⌉, ⌈W/2⌉), rows first (T.800 F.4)."""
    if values.dtype == np.uint16 and dtype == np.int16:
        values = values.view(np.int16)
    height, width = (-(-length // 2) for length in values.shape)
    halved = np.empty((height, width), dtype)
    for first in range(0, height, _CHUNK_ROWS):
        last = min(first + _CHUNK_ROWS, height)
        start = max(0, 2 * first - 2)
        low = _halved_rows(values[start : 2 * last + 1].astype(dtype, copy=False))
        even, odd = _column_pairs(low[first - start // 2 :][: last - first])
        halved[first:last] = _low_pass_along_rows(even, odd, values.shape[1])
    return halved


def _halved_rows(lines: NDArray[Any]) -> NDArray[Any]:
    """Filter lines (N, M) along the columns by lifting (T.800 F.4.8.1), mirrored at both ends.

    Returns (⌈N/2⌉, M), or M + 1 columns where M is odd, the last of which has any values.
    """
    even, odd = lines[::2], lines[1::2]
    count, columns = odd.shape
    padded = np.empty((len(even), -(-columns // 2) * 2), lines.dtype)
    low = padded[:, :columns]
    if not count:
        low[:] = even
        return padded
    high = np.empty_like(odd)
    inner = high[: len(even) - 1]  # between two even lines
    np.add(even[:-1], even[1:], out=inner)
    inner >>= 1
    np.subtract(odd[: len(inner)], inner, out=inner)
    if count == len(even):
        np.subtract(odd[-1], even[-1], out=high[-1])
    low[0] = 2 * high[0]
    np.add(high[:-1], high[1:], out=low[1:count])
    if count < len(even):
        low[-1] = 2 * high[-1]
    low += 2
    low >>= 2
    low += even
    return padded


def _column_pairs(lines: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the even and the odd columns of lines (N, M) with an even M, which lie contiguously.

    Each two neighbours are read as one integer, in a third of the time that every second takes.
    """
    pairs = lines.view(_WIDER[lines.dtype])
    first, second = pairs.astype(lines.dtype), (pairs >> 8 * lines.itemsize).astype(lines.dtype)
    return (first, second) if sys.byteorder == "little" else (second, first)


def _low_pass_along_rows(even: NDArray[Any], odd: NDArray[Any], length: int) -> NDArray[Any]:
    """Filter rows of `length` by lifting, mirrored at both ends, and return their low-pass band.

    `even` and `odd` (N, M) are contiguous: neighbours are added as those of flat arrays, and what
    then is wrong at the ends of the rows is put right.
    """
    if length == 1:
        return even
    low = np.empty_like(even)
    np.add(even.ravel()[:-1], even.ravel()[1:], out=low.ravel()[:-1])
    low >>= 1
    last = odd[:, -1] - even[:, -1]
    high = np.subtract(odd, low, out=odd)
    high[:, -1] = high[:, -2] if length % 2 else last
    np.add(high.ravel()[:-1], high.ravel()[1:], out=low.ravel()[1:])
    low[:, 0] = 2 * high[:, 0]
    low += 2
    low >>= 2
    low += even
    return low
