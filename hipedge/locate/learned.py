"""The learned locator: femoral heads and the way a film is turned, by a small network.

The network sees a thumbnail and gives a heat map for the head at the image's left and one for the
head at its right (the patient's right and left hip on a usual film), whether each is there, how far
they lie apart, and by how many quarter turns the film is upright. This module makes the thumbnail
and reads the answer; the network runs in `hipedge.locate.session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hipedge.locate.heads import Heads

THUMBNAIL_PX = 256
HEAT_PX = 64
PERCENTILES = (1.0, 99.0)

# A hip is on a film from this probability on; where one is, so is the other from a lower one: to
# look at a second place that is no hip costs little, to leave out a hip may cost a fracture.
PRESENT = 0.5
PRESENT_BESIDE = 0.3
# A film is turned from this probability on: to turn one that is upright costs more than to leave
# one that is not, of which there are few. From a higher one on no further look is needed.
TURNED = 0.8
SURE = 0.95
# The peak is the mean over so many cells of the heat map around its maximum.
PEAK_CELLS = 2

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class LocatorScores:
    """What the network says of one thumbnail.

    `heat` is (2, 64, 64): how likely each head's centre is in each cell, as logits; `present` (2,)
    the logits that each is on the film; `turns` (4,) the logits of the quarter turns; and
    `log_distance` the logarithm of the heads' distance in thumbnail sides.
    """

    heat: NDArray[np.float32]
    present: NDArray[np.float32]
    turns: NDArray[np.float32]
    log_distance: float


class ScoreThumbnail(Protocol):
    """What runs the network, such as `hipedge.locate.session.OnnxLocator`."""

    def __call__(self, thumbnail: NDArray[np.uint8], /) -> LocatorScores:
        """Score one thumbnail uint8 (256, 256)."""


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A film as the network sees it: uint8 (S, S), and where its pixels lie on the film.

    A point (x, y) of the thumbnail is at `origin_px` + `step_px` × (x, y) of the film.
    """

    pixels: NDArray[np.uint8]
    origin_px: Point
    step_px: Point

    def on_film(self, point: Point) -> Point:
        """Return where a point of the thumbnail lies on the film."""
        return (
            self.origin_px[0] + self.step_px[0] * point[0],
            self.origin_px[1] + self.step_px[1] * point[1],
        )

    def from_film(self, point: Point) -> Point:
        """Return where a point of the film lies on the thumbnail."""
        return (
            (point[0] - self.origin_px[0]) / self.step_px[0],
            (point[1] - self.origin_px[1]) / self.step_px[1],
        )


def make_thumbnail(
    pixels: NDArray[np.uint16],
    spacing_mm: tuple[float, float] | None = None,
    size_px: int = THUMBNAIL_PX,
) -> Thumbnail:
    """Shrink a film (H, W) into a square with square pixels, centred, with black where none is."""
    height, width = pixels.shape
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    side_mm = max(height * row_mm, width * column_mm)
    step_x, step_y = side_mm / column_mm / size_px, side_mm / row_mm / size_px
    columns, rows = max(1, round(width / step_x)), max(1, round(height / step_y))
    # Of a large film every few pixels are enough: what lies between is finer than the thumbnail.
    skip = max(1, int(min(step_x, step_y)) // 2)
    sparse = pixels[skip // 2 :: skip, skip // 2 :: skip].astype(np.float32)
    small = np.asarray(Image.fromarray(sparse).resize((columns, rows), Image.Resampling.BOX))
    left, top = (size_px - columns) // 2, (size_px - rows) // 2
    square = np.zeros((size_px, size_px), np.uint8)
    square[top : top + rows, left : left + columns] = stretch(small)
    step = width / columns, height / rows
    return Thumbnail(square, (-left * step[0], -top * step[1]), step)


def stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Spread values between their percentiles over the range of a byte."""
    low, high = np.percentile(values, PERCENTILES)
    scaled = (values - low) * (255.0 / max(float(high - low), 1.0))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


class LearnedLocator:
    """Finds heads on upright films (a `FindHeads`), and says how a film is to be turned."""

    def __init__(self, score: ScoreThumbnail) -> None:
        self._score = score
        # What the network said of the film whose turns were asked for: to find the heads on it as
        # it then lies is to look at one of these thumbnails again.
        self._seen: dict[bytes, LocatorScores] = {}

    def __call__(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None = None, /
    ) -> Heads | None:
        """Return the heads on a film (H, W) with bone bright; None where the network sees none."""
        thumbnail = make_thumbnail(pixels, spacing_mm)
        scores = self._look(thumbnail.pixels)
        self._seen = {thumbnail.pixels.tobytes(): scores}
        return read_heads(scores, thumbnail)

    def quarter_turns(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None = None
    ) -> int:
        """Return how often a film is to be turned by 90° counterclockwise (`numpy.rot90`)."""
        self._seen.clear()
        thumbnail = make_thumbnail(pixels, spacing_mm).pixels
        return read_turns(
            self._look(np.ascontiguousarray(np.rot90(thumbnail, k))) for k in range(4)
        )

    def _look(self, thumbnail: NDArray[np.uint8]) -> LocatorScores:
        key = thumbnail.tobytes()
        if key not in self._seen:
            self._seen[key] = self._score(thumbnail)
        return self._seen[key]


def read_turns(looks: Iterable[LocatorScores]) -> int:
    """Return the quarter turns that the answers mean: none where they are not sure together.

    `looks` are at the thumbnail as it is, and after one, two and three quarter turns; no more are
    taken than it needs to be sure, and two at least for a film that is to be turned. What is `k`
    turns from upright is `k - j` from it after `j`. Their geometric mean decides.
    """
    rolled = list[NDArray[np.floating]]()
    for j, one in enumerate(looks):
        rolled.append(np.roll(log_probabilities(one.turns), j))
        probabilities = np.exp(log_probabilities(np.mean(rolled, axis=0)))
        turns = int(probabilities.argmax())
        if probabilities[turns] >= SURE and (j or not turns):
            return turns
    return turns if probabilities[turns] >= TURNED else 0


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the logarithms of the probabilities that logits (N,) mean."""
    return np.asarray(logits - np.logaddexp.reduce(logits))


def read_heads(scores: LocatorScores, thumbnail: Thumbnail) -> Heads | None:
    """Return the heads that the network's answer means, in pixels of the film."""
    present = 1 / (1 + np.exp(-scores.present.astype(np.float64)))
    if present.max() < PRESENT:
        return None
    left, right = (
        thumbnail.on_film(peak(heat)) if there >= PRESENT_BESIDE else None
        for heat, there in zip(scores.heat, present, strict=True)
    )
    distance_px = float(np.exp(scores.log_distance)) * len(thumbnail.pixels) * thumbnail.step_px[0]
    if left and right:
        aspect = thumbnail.step_px[0] / thumbnail.step_px[1]
        distance_px = float(np.hypot(right[0] - left[0], (right[1] - left[1]) * aspect))
    return Heads(left, right, distance_px, float(present.max()))


def peak(heat: NDArray[np.float32]) -> Point:
    """Return the peak (x, y) of a heat map (h, w) of logits, in thumbnail pixels."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows = slice(max(0, row - PEAK_CELLS), row + PEAK_CELLS + 1)
    columns = slice(max(0, column - PEAK_CELLS), column + PEAK_CELLS + 1)
    weights = np.exp(heat[rows, columns].astype(np.float64) - float(heat.max()))
    ys, xs = np.mgrid[
        rows.start : rows.start + len(weights), columns.start : columns.start + weights.shape[1]
    ]
    cell = THUMBNAIL_PX / len(heat)
    total = weights.sum()
    return (
        float((weights * (xs + 0.5)).sum() / total * cell),
        float((weights * (ys + 0.5)).sum() / total * cell),
    )
