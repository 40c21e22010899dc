"""Detect seams in the pixels of a damaged JPEG whose entropy-coded data have the right length.

In a sequential JPEG each block stores the difference of its DC coefficient from that of the block
before it. A damaged difference makes all following blocks brighter or darker. The result is a step,
straight across the film along one row of blocks. It differs from an edge of the image in that the
film continues below it as above. Edges of collimators and shutters, and printed labels, have a flat
side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hipedge.dicom.lines import means_of_parts, medians_of_rows

_BLOCK = 8
# Thresholds set on 500 undamaged films, each also compressed at two qualities and shifted by three
# rows: no seam is detected in any of the 2,570 images.
_LARGEST_STEP = 0.06
_LARGEST_RATIO = 22.0
# Damage changes all following blocks by the same amount, whereas the step along an edge varies.
_MOST_UNEVEN = 0.2
_CORRELATED = 0.85
_SMALLEST_STEP = 0.012
# Images with a gray-level range below this share of the range of their bit depth are not checked,
# since they are not radiographs.
_LEAST_SPREAD = 1 / 16
# The roughness above and below a seam is alike, measured over this many rows of blocks on each
# side.
_SIDE_ROWS = 6
_ALIKE = 0.4


def has_seam(samples: NDArray[np.integer[Any]], bits: int) -> bool:
    """Return whether a film (H, W) of 8 × 8 blocks has a step across it that is not an edge.

    `bits` is the bit depth of the samples.
    """
    rows, columns = (length // _BLOCK for length in samples.shape)
    if min(rows, columns) < 3 * _SIDE_ROWS:
        return False
    samples = samples[: rows * _BLOCK, : columns * _BLOCK]
    middle = samples[3::_BLOCK].astype(np.float32)
    spread = float(np.subtract(*np.percentile(middle[:, ::_BLOCK], (99.5, 0.5))))
    if spread < (1 << bits) * _LEAST_SPREAD:
        return False
    first, last = (means_of_parts(samples[line::_BLOCK], _BLOCK) for line in (0, 7))
    between = (first[1:] - last[:-1]) / spread
    # The damage begins somewhere within a row of blocks: to the right of that position the step
    # lies above the row, to the left of it below the row.
    steps = between[:-1] + between[1:]
    step = np.abs(medians_of_rows(steps))
    size = medians_of_rows(np.abs(between))
    largest = np.maximum(size[:-1], size[1:])
    if step.max() <= _LARGEST_STEP and largest.max() <= _SMALLEST_STEP:
        return False  # as nearly all films
    means = means_of_parts(samples[3::_BLOCK], _BLOCK)
    within = (means_of_parts(samples[4::_BLOCK], _BLOCK) - means) / spread
    beside = np.abs(middle[:, 1::_BLOCK] - middle[:, ::_BLOCK])
    alike = _alike(medians_of_rows(beside))
    spread_of_step = medians_of_rows(np.abs(np.abs(steps) - step[:, None]))
    even = spread_of_step < _MOST_UNEVEN * step
    usual = max(float(np.median(size)), float(np.median(np.abs(within))), 1e-3)
    torn = (largest > _SMALLEST_STEP) & (largest > _LARGEST_RATIO * usual)
    seams = np.flatnonzero(alike & ((even & (step > _LARGEST_STEP)) | torn))
    return any(_goes_on(means, int(row)) for row in seams)


def _goes_on(profiles: NDArray[np.float32], row: int) -> bool:
    """Return whether the profile below a seam and its damaged row correlates with that above."""
    above = profiles[row]
    belows = profiles[row + 2 : row + 2 + _SIDE_ROWS]
    return any(
        above.std() > 0 and below.std() > 0 and np.corrcoef(above, below)[0, 1] > _CORRELATED
        for below in belows
    )


def _alike(roughness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each pair of rows of blocks whether the roughness above and below is alike."""
    sides = np.median(np.lib.stride_tricks.sliding_window_view(roughness, _SIDE_ROWS), axis=1)
    alike = np.zeros(len(roughness) - 2, np.bool_)
    # The side above row n is the _SIDE_ROWS rows that end with it; the side below begins three rows
    # after it.
    above, below = sides[: -_SIDE_ROWS - 2], sides[_SIDE_ROWS + 2 :]
    rows = slice(_SIDE_ROWS - 1, _SIDE_ROWS - 1 + len(above))
    alike[rows] = np.minimum(above, below) > _ALIKE * np.maximum(above, below)
    return alike
