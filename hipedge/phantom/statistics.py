"""Measure the distance between simulated and real hip crops, from three image statistics.

    python -m hipedge.phantom.statistics MANIFEST.csv FOLDER [--count 60] [--seed 0]

This prints the distance of each hospital's simulated hips from real hips (see
`hipedge.phantom.real`), and the distance between two halves of the real hips. Distances below the
latter are not distinguishable. Histogram and contrast are compared with all real hips, the spectrum
with those whose film has pixels no larger than the crop's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from hipedge.phantom.crop import crop
from hipedge.phantom.hospitals import HOSPITALS
from hipedge.phantom.real import real_crops
from hipedge.types import Category, CropGeometry

LEVELS = 256
WINDOW_PX = 9
# Mean differences equivalent to a distance of 1, in grey levels, decades and grey levels.
SCALES = (10.0, 0.5, 5.0)
# Spatial frequency above which detail is fine, and the width of a band, in cycles per crop.
FINE_CYCLES = 64
BAND_CYCLES = 16
GEOMETRY = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)


@dataclass(frozen=True, eq=False)
class CropStatistics:
    """Mean image statistics of a set of crops.

    `histogram` (256,) is the relative frequency of each grey level. `spectrum` (S/2,) is the mean
    power in rings of spatial frequency, in decades. `contrast` (101,) are the percentiles of the
    local standard deviation in windows of 9 × 9 pixels, in grey levels.
    """

    histogram: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    contrast: NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """Distance between two sets of crops, by statistic and in total.

    `histogram` and `contrast` are in grey levels, `spectrum` in decades.
    """

    histogram: float
    spectrum: float
    contrast: float

    @property
    def total(self) -> float:
        """Mean of the three distances, each divided by its scale in `SCALES`."""
        parts = (self.histogram, self.spectrum, self.contrast)
        return float(np.mean([part / scale for part, scale in zip(parts, SCALES, strict=True)]))


def crop_statistics(crops: NDArray[np.uint8]) -> CropStatistics:
    """Compute the statistics of crops (N, S, S)."""
    size = crops.shape[-1]
    histogram = np.bincount(crops.ravel(), minlength=LEVELS) / crops.size
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    y, x = np.indices((size, size)) - size // 2
    ring = np.hypot(x, y).astype(int)
    inside = ring < size // 2
    power = np.zeros(size // 2)
    deviation = []
    for image in crops.astype(np.float64):
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * window))) ** 2
        sums = np.bincount(ring[inside], spectrum[inside], minlength=size // 2)
        power += np.log10(sums / np.bincount(ring[inside], minlength=size // 2) + 1e-9)
        mean = uniform_filter(image, WINDOW_PX)
        variance = uniform_filter(image**2, WINDOW_PX) - mean**2
        deviation.append(np.sqrt(np.maximum(variance, 0.0))[::4, ::4].ravel())
    return CropStatistics(
        histogram=histogram,
        spectrum=power / len(crops),
        contrast=np.percentile(np.concatenate(deviation), np.arange(101)),
    )


def distance(a: CropStatistics, b: CropStatistics) -> Distance:
    """Compare two sets of crops of the same size.

    Histograms are compared by the earth mover's distance, spectra by the root mean square of their
    difference, and local contrasts by the mean absolute difference of their percentiles.
    """
    return Distance(
        histogram=float(np.abs(np.cumsum(a.histogram - b.histogram)).sum()),
        spectrum=float(np.sqrt(np.mean((a.spectrum - b.spectrum)[1:] ** 2))),
        contrast=float(np.abs(a.contrast - b.contrast).mean()),
    )


def fine_factor(a: CropStatistics, b: CropStatistics) -> float:
    """Return by what factor the power of fine detail differs most, over bands of 16 cycles."""
    apart = (a.spectrum - b.spectrum)[FINE_CYCLES:]
    bands = apart[: len(apart) // BAND_CYCLES * BAND_CYCLES].reshape(-1, BAND_CYCLES).mean(axis=1)
    return float(10.0 ** np.abs(bands).max())


def main() -> None:
    """Print a row for the halves of the real crops, for each hospital, and for all hospitals."""
    parser = argparse.ArgumentParser(description="How far phantoms are from real radiographs.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    real = np.array(real_crops(arguments.manifest, arguments.folder, GEOMETRY))
    pixel_mm = GEOMETRY.crop_mm / GEOMETRY.size_px
    sharp = real_crops(arguments.manifest, arguments.folder, GEOMETRY, coarsest_mm=pixel_mm)
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    print(
        "| crops | histogram, grey levels | spectrum, decades | contrast, grey levels | total "
        "| power above 64 cycles, factor |"
    )
    print("|---|---|---|---|---|---|")
    # The two hips of a film are similar, so the halves are split by film.
    halves = np.arange(len(real)) // 2 % 2 == 0
    _print_row("real, half against half", crop_statistics(real[halves]), real[~halves])
    measured = replace(crop_statistics(real), spectrum=crop_statistics(np.array(sharp)).spectrum)
    drawn = {}
    for hospital in HOSPITALS:
        crops = [crop(seed, GEOMETRY, Category.NORMAL, hospital)[0][0] for seed in seeds]
        drawn[hospital] = np.array(crops)
        _print_row(hospital, measured, drawn[hospital])
    _print_row("all hospitals", measured, np.concatenate(list(drawn.values())))


def _print_row(name: str, measured: CropStatistics, crops: NDArray[np.uint8]) -> None:
    drawn = crop_statistics(crops)
    apart = distance(measured, drawn)
    print(
        f"| {name} | {apart.histogram:.1f} | {apart.spectrum:.2f} | {apart.contrast:.1f} "
        f"| {apart.total:.2f} | {fine_factor(measured, drawn):.2f} |"
    )


if __name__ == "__main__":
    main()
