"""How like real radiographs the phantoms are: three statistics of hip crops, and one distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

LEVELS = 256
WINDOW_PX = 9
# One distance of 1: that many grey levels, decades and grey levels apart on average.
SCALES = (10.0, 0.5, 5.0)


@dataclass(frozen=True, eq=False)
class CropStatistics:
    """What a set of crops looks like on average.

    `histogram` (256,) is the share of each grey level; `spectrum` (S/2,) the mean power in rings
    of spatial frequency, in decades; `contrast` (101,) the percentiles of the standard deviation
    in windows of 9 pixels.
    """

    histogram: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    contrast: NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """How far two sets of crops are apart: in grey levels, decades and grey levels, and in all."""

    histogram: float
    spectrum: float
    contrast: float

    @property
    def total(self) -> float:
        """The mean of the three, each by its scale."""
        parts = (self.histogram, self.spectrum, self.contrast)
        return float(np.mean([part / scale for part, scale in zip(parts, SCALES, strict=True)]))


def crop_statistics(crops: NDArray[np.uint8]) -> CropStatistics:
    """Measure crops (N, S, S)."""
    size = crops.shape[-1]
    histogram = np.bincount(crops.ravel(), minlength=LEVELS) / crops.size
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    y, x = np.indices((size, size)) - size // 2
    ring = np.hypot(x, y).astype(int)
    inside = ring < size // 2
    power = np.zeros(size // 2)
    deviation = []
    for crop in crops.astype(np.float64):
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2((crop - crop.mean()) * window))) ** 2
        sums = np.bincount(ring[inside], spectrum[inside], minlength=size // 2)
        power += np.log10(sums / np.bincount(ring[inside], minlength=size // 2) + 1e-9)
        mean = uniform_filter(crop, WINDOW_PX)
        variance = uniform_filter(crop**2, WINDOW_PX) - mean**2
        deviation.append(np.sqrt(np.maximum(variance, 0.0))[::4, ::4].ravel())
    return CropStatistics(
        histogram=histogram,
        spectrum=power / len(crops),
        contrast=np.percentile(np.concatenate(deviation), np.arange(101)),
    )


def distance(a: CropStatistics, b: CropStatistics) -> Distance:
    """Compare two sets of crops of one size.

    The histograms by the earth mover's distance, the spectra by the root mean square of their
    difference, the local contrasts by the mean difference of their percentiles.
    """
    return Distance(
        histogram=float(np.abs(np.cumsum(a.histogram - b.histogram)).sum()),
        spectrum=float(np.sqrt(np.mean((a.spectrum - b.spectrum)[1:] ** 2))),
        contrast=float(np.abs(a.contrast - b.contrast).mean()),
    )
