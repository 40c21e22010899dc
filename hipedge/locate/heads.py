"""Localisation of the femoral heads by matching a pelvis template to the pixels of the film.

The method is a generalised Hough transform (Ballard, Pattern Recognition 13:111, 1981): the edge
directions of each half of the template are correlated with those of the film over a range of sizes.
The two halves are mirror images about the midline of the body, which is found together with them.
The result is two heads if both halves match, or one head if the other would be beyond the edge of
the film.

The constants were tuned on the `tuned` films of `tests/data/fracatlas_centres.csv`. A learned
locator returns `Heads` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.imaging.area import shrink_to
from hipedge.locate.pelvis import (
    HALF_DISTANCE_MM,
    HALF_DISTANCE_PX,
    HEAD_RADIUS_MM,
    REACH_PX,
    Array,
    edge_directions,
    half_pelvis,
)

Point = tuple[float, float]

# The film is searched as a thumbnail of `THUMBNAIL_PX` pixels along its longer side, without its
# collimated borders: rows and columns whose values vary by less than the fraction `FLAT` of the
# range of the film.
THUMBNAIL_PX = 160
FLAT = 0.02
# Range of sizes searched: half the distance between the heads as a fraction of the exposed field's
# width, from the whole trunk of a child to a single hip that fills the film; and in mm, from
# infants to adults. A log-normal prior favours sizes near that of a pelvic film.
SIZES = (0.09, 0.36)
SIZES_MM = (25.0, 125.0)
SIZE_STEP = 1.134
USUAL_SIZE = 0.22
SIZE_SPREAD = 1.0
# Smallest pixel of a search level, in thumbnail pixels; finer levels would add no detail.
FINEST = 0.5
# Factors on the template's height relative to its width: pelvic tilt foreshortens the projection.
TILTS = (1.0, 0.8)
# In pixels of a search level: the tolerance of each half's position against exact symmetry, and the
# least distance of a head's centre from the film's edge for the head to count as on the film.
GIVE_PX = 1
MARGIN_PX = round(HEAD_RADIUS_MM / HALF_DISTANCE_MM * HALF_DISTANCE_PX)
# Factor on the likeness of a single half. It favours two heads, since scoring a second position
# that is not a hip costs little, while missing a hip may mean missing a fracture.
ALONE = 0.8
# Below this likeness no pelvis is found: an empty, evenly shaded cassette has 0.1. Real hips have
# 0.3 to 0.8, but so may a chest or noise, which only a learned locator can reject.
SHAPELESS = 0.2


@dataclass(frozen=True)
class Heads:
    """Centres (x, y) of the femoral heads on a film, in pixels.

    `image_left` and `image_right` refer to the image, not to the patient's sides; at least one is
    not None. `distance_px` is the distance between the heads, estimated if only one is on the film.
    `likeness` measures how well the film's edges match those of a pelvis, from 0 (no better than
    chance) to 1 (all edges match). It is not a probability.
    """

    image_left: Point | None
    image_right: Point | None
    distance_px: float
    likeness: float


def find_heads(
    pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None = None
) -> Heads | None:
    """Find the femoral heads on a film (H, W) with bone bright; return None if no pelvis is found.

    `spacing_mm` (between rows, between columns), if known, restricts the range of sizes searched.
    """
    thumbnail = shrink(pixels, spacing_mm or (1.0, 1.0))
    rows, columns = exposed_field(thumbnail)
    scale = np.array(pixels.shape[::-1]) / thumbnail.shape[::-1]
    column_mm = spacing_mm[1] * scale[0] if spacing_mm else None
    matches = _matches(thumbnail[rows, columns], column_mm)
    best = max(matches, key=lambda match: match.weight, default=None)
    if best is None or best.likeness < SHAPELESS:
        return None

    def on_film(head: Point | None) -> Point | None:
        if head is None:
            return None
        x, y = (np.array(head) * best.pixel + (columns.start, rows.start)) * scale
        return float(x), float(y)

    left, right = on_film(best.left), on_film(best.right)
    distance_px = 2 * HALF_DISTANCE_PX * best.pixel * float(scale[0])
    if left and right:
        distance_px = math.dist(left, right)
    return Heads(left, right, distance_px, min(1.0, best.likeness))


def shrink(pixels: NDArray[np.uint16], spacing_mm: tuple[float, float]) -> Array:
    """Resample a film (H, W) to square pixels, `THUMBNAIL_PX` of them along its longer side."""
    height, width = pixels.shape[0] * spacing_mm[0], pixels.shape[1] * spacing_mm[1]
    zoom = THUMBNAIL_PX / max(height, width)
    return shrink_to(pixels, max(1, round(width * zoom)), max(1, round(height * zoom)))


def exposed_field(values: Array) -> tuple[slice, slice]:
    """Return the rows and columns of an image (H, W) inside its collimated or empty borders."""
    threshold = FLAT * float(np.ptp(values))
    return _lively(values, threshold), _lively(values.T, threshold)


def _lively(lines: Array, threshold: float) -> slice:
    """Return the range of lines whose first and ninth decile differ by more than `threshold`.

    It extends from the first to the last such line.
    """
    low, high = np.quantile(lines, (0.1, 0.9), axis=1)
    (lively,) = np.nonzero(high - low > threshold)
    return slice(int(lively[0]), int(lively[-1]) + 1) if len(lively) else slice(0, 0)


@dataclass(frozen=True)
class _Match:
    """A match of the template at one size, with heads (x, y) in pixels of that search level.

    `pixel` is the size of a pixel of the level in pixels of the exposed field. `weight` is the
    likeness times the prior of the size, reduced for a single head.
    """

    left: Point | None
    right: Point | None
    pixel: float
    likeness: float
    weight: float


def _matches(field: Array, column_mm: float | None) -> Iterator[_Match]:
    """Yield the best match of both halves and of each half alone, at each size and tilt."""
    height, width = field.shape
    for half_distance in _half_distances(width, column_mm):
        pixel = half_distance / HALF_DISTANCE_PX
        size = round(width / pixel), round(height / pixel)
        if min(size) < 2 * HALF_DISTANCE_PX or pixel < FINEST:
            continue
        resampling = Image.Resampling.BOX if pixel > 1 else Image.Resampling.BILINEAR
        edges = edge_directions(np.asarray(Image.fromarray(field).resize(size, resampling)))
        unusual = np.log(half_distance / width / USUAL_SIZE) / SIZE_SPREAD
        prior = float(np.exp(-(unusual**2) / 2))
        for left, right in correlations(edges):
            for left_head, right_head, likeness in _fits(left, right):
                alone = left_head is None or right_head is None
                weight = likeness * prior * (ALONE if alone else 1.0)
                yield _Match(left_head, right_head, pixel, likeness, weight)


def _half_distances(width: int, column_mm: float | None) -> list[float]:
    """Return the half distances to search, in pixels of an exposed field of this width."""
    low, high = SIZES[0] * width, SIZES[1] * width
    if column_mm is not None:
        low, high = max(low, SIZES_MM[0] / column_mm), min(high, SIZES_MM[1] / column_mm)
    if low >= high:
        return []
    steps = round(np.log(high / low) / np.log(SIZE_STEP)) + 1
    return [float(size) for size in np.geomspace(low, high, steps)]


def correlations(edges: Array) -> Iterator[tuple[Array, Array]]:
    """Yield, for each tilt, the correlations (H, W) of edges (2, H, W) with each half template.

    The value at a pixel is the correlation with the half whose head's centre is at that pixel.
    """
    _, height, width = edges.shape
    shape = _fast(height + REACH_PX), _fast(width + REACH_PX)
    film = np.fft.rfft2(edges, shape)
    for tilt in TILTS:
        left, right = (
            np.fft.irfft2((film * _spectrum(tilt, side, shape)).sum(axis=0), shape)
            for side in (-1, 1)
        )
        yield left[:height, :width], right[:height, :width]


@lru_cache(maxsize=128)
def _spectrum(tilt: float, side: int, shape: tuple[int, int]) -> NDArray[np.complexfloating[Any]]:
    """Return the conjugate spectra (2, H, W) of a half template with its head at pixel (0, 0)."""
    edges, (x, y) = half_pelvis(tilt, side)
    padded = np.zeros((2, *shape), np.float32)
    padded[:, : edges.shape[1], : edges.shape[2]] = edges
    spectrum: NDArray[np.complexfloating[Any]] = np.fft.rfft2(
        np.roll(padded, (-y, -x), (1, 2))
    ).conj()
    return spectrum


def _fast(length: int) -> int:
    """Return the next length with no prime factor above 5, for which an FFT is fast."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _fast(length + 1)


def _fits(left: Array, right: Array) -> Iterator[tuple[Point | None, Point | None, float]]:
    """Yield the best heads (x, y) and their likeness: of both, the left alone, the right alone."""
    distance = 2 * HALF_DISTANCE_PX
    first, last = MARGIN_PX, left.shape[1] - MARGIN_PX
    if last - first > distance:
        pairs = _nearby_best(left)[:, first : last - distance]
        pairs = (pairs + _nearby_best(right)[:, first + distance : last]) / 2
        x, y = _best(pairs)
        likeness = float(pairs[y, x])
        yield _nearby(left, x + first, y), _nearby(right, x + first + distance, y), likeness
    # A single head is only accepted where its counterpart would be beyond the film's edge.
    start = max(first, last - distance)
    x, y = _best(left[:, start:last])
    yield (x + start + 0.5, y + 0.5), None, float(left[y, x + start])
    x, y = _best(right[:, first : min(last, first + distance)])
    yield None, (x + first + 0.5, y + 0.5), float(right[y, x + first])


def _best(scores: Array) -> tuple[int, int]:
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(x), int(y)


def _nearby_best(scores: Array) -> Array:
    """Return for each pixel the best score within `GIVE_PX` of it."""
    padded = np.pad(scores, GIVE_PX, constant_values=-1.0)
    span = range(2 * GIVE_PX + 1)
    rows = np.maximum.reduce([padded[i : i + scores.shape[0]] for i in span])
    best: Array = np.maximum.reduce([rows[:, i : i + scores.shape[1]] for i in span])
    return best


def _nearby(scores: Array, x: int, y: int) -> Point:
    """Return the centre of the pixel with the best score within `GIVE_PX` of (x, y)."""
    x0, y0 = max(0, x - GIVE_PX), max(0, y - GIVE_PX)
    dx, dy = _best(scores[y0 : y + GIVE_PX + 1, x0 : x + GIVE_PX + 1])
    return x0 + dx + 0.5, y0 + dy + 0.5
