"""Detect where bytes were inserted into uncompressed Pixel Data, lost from them or blanked.

The length of the data does not tell when the file around them was kept together, and neither does a
decoder. But after a change of an odd number of bytes the high and the low bytes of 16-bit samples
have changed places, after one of an even number the film continues some columns to the side, and
blanked bytes begin and end within a row, where a shutter's edge does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.integer[Any]]

# Every so many rows are looked at for exchanged bytes, and columns for displaced rows.
_STRIDE = 4
# Rows of a single value have it in every so many columns: all are looked at in these rows alone.
_SPARSE = 64
# Neighbouring samples have the same high byte far more often than the same low byte. A row tells
# the order of its bytes if so many of one byte differ from their neighbour, and this many times
# more than of the other byte.
_LEAST_CHANGES = 0.2
_RATIO = 2
_LEAST_ROWS = 4
# A displaced film: the step between two rows is so many times the usual one of the rows around it,
# and nearly vanishes once the rows below are moved sideways.
_STEP_RATIO = 4
_AROUND = 16
_SIDE_ROWS = 4
_LEFT_OVER = 0.4
_MOST_STEPS = 8
# A blanked run of samples ends where so much of the row beyond it is not blank.
_NOT_BLANK = 0.5
_LEAST_TORN = 8


def is_displaced(samples: Samples) -> bool:
    """Return whether samples (H, W), unsigned, show lost, inserted or blanked bytes."""
    rows, columns = samples.shape
    if rows < 4 * _AROUND or columns < 4 * _AROUND:
        return False
    exchanged = samples.dtype.itemsize == 2 and _bytes_change_places(samples)
    return exchanged or _is_torn(samples) or _moves_sideways(samples)


def _bytes_change_places(samples: Samples) -> bool:
    """Return whether all rows from one on have their high and low bytes exchanged."""
    rows = samples[::_STRIDE]
    changed = np.bitwise_xor(rows[:, 1:], rows[:, :-1])
    first, second = (
        np.array([np.count_nonzero(row) for row in byte]) / rows.shape[1]
        for byte in (changed.astype(np.uint8), changed > np.iinfo(np.uint8).max)
    )
    order = (first > np.maximum(_LEAST_CHANGES, _RATIO * second)).astype(np.int8)
    order -= second > np.maximum(_LEAST_CHANGES, _RATIO * first)
    told = order[order != 0]
    changes = np.flatnonzero(np.diff(told))
    return len(changes) == 1 and _LEAST_ROWS <= changes[0] + 1 <= len(told) - _LEAST_ROWS


def _is_torn(samples: Samples) -> bool:
    """Return whether rows of a single value begin or end within a row that is otherwise none."""
    candidates = (samples[:, ::_SPARSE] == samples[:, :1]).all(axis=1)
    blank = np.zeros(len(samples) + 2, np.int8)
    for row in np.flatnonzero(candidates):
        blank[row + 1] = (samples[row] == samples[row, 0]).all()
    edges = np.diff(blank)
    for first, after in zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True):
        value = samples[first, 0]
        if first >= 2 and _tears(samples[first - 1, ::-1], samples[first - 2, ::-1], value):
            return True
        if after + 2 <= len(samples) and _tears(samples[after], samples[after + 1], value):
            return True
    return False


def _tears(row: Samples, beyond: Samples, value: np.integer[Any]) -> bool:
    """Return whether a row begins with `value` where the row beyond it does not."""
    length = int((row != value).argmax())
    return length >= _LEAST_TORN and bool(np.mean(beyond[:length] != value) > _NOT_BLANK)


def _moves_sideways(samples: Samples) -> bool:
    """Return whether the film below a row continues some columns to the side."""
    sparse = np.ascontiguousarray(samples[:, ::_STRIDE])
    apart = np.maximum(sparse[1:], sparse[:-1]) - np.minimum(sparse[1:], sparse[:-1])
    steps = apart.sum(axis=1, dtype=np.uint32) / apart.shape[1]
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(steps, _AROUND // 2, mode="reflect"), _AROUND + 1
    )
    usual = np.partition(around, _AROUND // 2, axis=1)[:, _AROUND // 2]  # the median
    ratios = steps / np.maximum(usual, 1e-6)
    inner = slice(_SIDE_ROWS + 1, len(steps) - _SIDE_ROWS - 1)
    largest = np.argsort(ratios[inner])[::-1][:_MOST_STEPS] + inner.start
    return any(ratios[row] > _STEP_RATIO and _fits_moved(samples, int(row)) for row in largest)


def _fits_moved(samples: Samples, row: int) -> bool:
    """Return whether the rows below a step fit those above it, moved by some columns."""
    above = samples[row - _SIDE_ROWS : row].mean(axis=0)
    below = samples[row + 2 : row + 2 + _SIDE_ROWS].mean(axis=0)
    spectra = (np.fft.rfft(np.diff(line)) for line in (above, below))
    first, second = spectra
    move = int(np.fft.irfft(first * second.conj(), len(above) - 1).argmax())
    apart = float(np.abs(above - below).mean())
    return bool(np.abs(above - np.roll(below, move)).mean() < _LEFT_OVER * apart)
