"""Detect where damage begins or ends within a row of a JPEG's blocks.

Blocks are coded from left to right, each with the difference of its DC coefficient from that of the
block before it. Where damage begins, all following blocks are brighter, darker or other ones: up to
that column the film has a step below the row of blocks, from there on above it. No edge of an image
makes such a stair along the grid of blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.lines import means_of_parts

# A column of blocks has a step above or below if that is at least this share of the range of gray
# levels, so many times the other one, and sharp: so many times the changes within the blocks beside
# it.
_LEAST_STEP = 0.006
_RATIO = 4
_SHARPNESS = 2
# Share of the columns that agree with a stair, and with one whose steps are mostly of one height,
# as after a damaged DC coefficient. In 6,820 undamaged images (682 radiographs, also shifted by
# three rows and compressed at several qualities) it is below 0.7, and below 0.6 for the latter.
_LEAST_SHARE = 0.8
_LEAST_EVEN_SHARE = 0.6
_LEAST_EVEN_STEP = 0.012  # steps of one or two gray levels of 256 are all alike
_EVEN = 0.8
_SAME_HEIGHT = 0.35
_LEAST_COLUMNS = 24
# Of the columns that agree: this share at least on each side, and this share at most contradicts.
_LEAST_SIDE = 0.08
_MOST_CONTRARY = 0.05
# Steps between samples that are all within this share of black or of white say nothing.
_SATURATED = 1 / 256
# Images whose gray levels span less of their bit depth are no radiographs.
_LEAST_SPREAD = 1 / 16


class _Steps(NamedTuple):
    """Steps between rows of blocks (N - 1, M) as shares of the range, and whether they tell.

    A step is 0 where the samples above or below it change as much: there it is a blurred edge.
    """

    heights: NDArray[np.float32]
    telling: NDArray[np.bool_]


def has_stair(samples: NDArray[np.integer[Any]], bits: int, block: tuple[int, int]) -> bool:
    """Return whether a film (H, W) has a stair along a row of blocks of (rows, columns) samples."""
    rows, columns = (length // side for length, side in zip(samples.shape, block, strict=True))
    if rows < 3 or columns < _LEAST_COLUMNS:
        return False
    steps = _steps(samples[: rows * block[0], : columns * block[1]], bits, block)
    if steps is None:
        return False
    above, below = steps.heights[:-1], steps.heights[1:]
    telling = np.count_nonzero(steps.telling[:-1] | steps.telling[1:], axis=1)
    least = np.maximum(_LEAST_COLUMNS, _LEAST_EVEN_SHARE * telling)
    is_left, is_right = _is_step(below, above), _is_step(above, below)
    enough = np.count_nonzero(is_left, axis=1) + np.count_nonzero(is_right, axis=1) >= least
    return any(
        _is_stair(below[row], above[row], is_left[row], is_right[row], least[row], telling[row])
        for row in np.flatnonzero(enough)
    )


def _is_stair(
    below: NDArray[np.float32],
    above: NDArray[np.float32],
    is_left: NDArray[np.bool_],
    is_right: NDArray[np.bool_],
    least: np.floating[Any],
    telling: np.integer[Any],
) -> bool:
    """Return whether a row of blocks has steps below it up to one column, then above it.

    All are (M,): the heights of the steps, and where they are what is expected left and right of
    that column. `telling` is the number of columns that say anything, `least` that of those which
    must agree.
    """
    left, right = _counts_before(is_left), _counts_before(is_right)
    agree = left + right[-1] - right
    contrary = right + left[-1] - left
    start = int((agree - contrary).argmax())
    count = agree[start]
    if (
        count < least
        or min(left[start], count - left[start]) < _LEAST_SIDE * count
        or contrary[start] > _MOST_CONTRARY * count
    ):
        return False
    heights = np.concatenate((below[:start][is_left[:start]], above[start:][is_right[start:]]))
    return bool(count >= _LEAST_SHARE * telling) or _are_even(heights)


def _steps(samples: NDArray[np.integer[Any]], bits: int, block: tuple[int, int]) -> _Steps | None:
    """Return the steps between the rows of blocks; None if the film is too flat."""
    low, high = np.percentile(samples[:: block[0], :: block[1]], (0.5, 99.5))
    if high - low < (1 << bits) * _LEAST_SPREAD:
        return None
    first, second, last_but_one, last = (
        means_of_parts(samples[line :: block[0]], block[1])
        for line in (0, 1, block[0] - 2, block[0] - 1)
    )
    below, above = first[1:], last[:-1]
    white = (1 << bits) - 1
    is_black = np.maximum(below, above) <= white * _SATURATED
    is_white = np.minimum(below, above) >= white * (1 - _SATURATED)
    heights = below - above
    beside = np.maximum(np.abs(below - second[1:]), np.abs(above - last_but_one[:-1]))
    heights[np.abs(heights) < _SHARPNESS * beside] = 0
    return _Steps(heights / np.float32(high - low), ~(is_black | is_white))


def _is_step(here: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    step: NDArray[np.bool_] = (np.abs(here) > _LEAST_STEP) & (np.abs(here) > _RATIO * np.abs(other))
    return step


def _counts_before(found: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Count what is found to the left of each column: (M,) to (M + 1,)."""
    return np.cumsum(np.pad(found, (1, 0)))


def _are_even(heights: NDArray[np.float32]) -> bool:
    height = float(np.median(heights))
    alike = np.abs(heights - height) <= _SAME_HEIGHT * abs(height)
    return abs(height) >= _LEAST_EVEN_STEP and float(np.mean(alike)) >= _EVEN
