"""Means and medians along lines of samples, as the checks for damage need them of whole films."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def means_of_parts(lines: NDArray[np.integer[Any]], width: int) -> NDArray[np.float32]:
    """Average lines (N, width * M) over parts of `width` samples; return (N, M).

    Exact where the sums are below 2^24. Sums of pairs, of pairs of those and so on take a quarter
    of the time that numpy's mean over a short axis takes. A product with a vector would take less
    still, but in threads of BLAS, for which worker processes have no cores.
    """
    sums, left = lines.astype(np.float32), width
    while left % 2 == 0:
        sums, left = sums[:, ::2] + sums[:, 1::2], left // 2
    means: NDArray[np.float32] = sums[:, ::left].copy()
    for offset in range(1, left):
        means += sums[:, offset::left]
    means /= width
    return means


def medians_of_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each row of (N, M), in a quarter of the time that numpy's takes."""
    middle = values.shape[1] // 2
    parts = np.partition(values, middle, axis=1)
    medians: NDArray[np.float32] = parts[:, middle]
    if values.shape[1] % 2 == 0:
        medians = (parts[:, :middle].max(axis=1) + medians) / np.float32(2)
    return medians
