"""The learned locator: femoral heads and the orientation of a film, from a small network.

The input is a thumbnail. The outputs are heat maps for the heads at the left and at the right of
the image (the patient's right and left hip on a usual film), the probability that each is on the
film, the distance between them, the quarter turns that turn the film upright, and the probability
that it shows a hip upright. A film on which heads are found is looked at a second time, closer
about them; both looks together decide whether there is a hip, and which.
This module makes the thumbnails and decodes the outputs; `hipedge.locate.session` runs the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.imaging.area import shrink_to
from hipedge.locate.heads import Heads

THUMBNAIL_PX = 256
HEAT_PX = 64
PERCENTILES = (1.0, 99.0)

# Least probability that a hip is on a film, and that the second hip is on it too. The latter is
# lower, since scoring a second position that is not a hip costs little, while missing a hip may
# mean missing a fracture.
PRESENT = 0.5
PRESENT_BESIDE = 0.3
# Least probability by both looks that a film shows a hip, and that a second head is on it too; and
# at the first look alone that any head is. On the calibration films whole second heads have 0.93 or
# more.
HIP = 0.5
PRESENT_BESIDE_TWICE = 0.75
PRESENT_AT_FIRST = 0.2
# Of two heads one this near to the film's left or right edge, in pixels of the first thumbnail, is
# cut off: its neck and trochanters lie beyond the film, and there is no hip to screen.
EDGE_PX = 6.0
# The side of the second look, by the distance between the heads: about both, or about a single one.
CLOSER_BOTH, CLOSER_SINGLE = 2.2, 1.8
# Least probability at which a film is turned: turning an upright film by mistake costs more than
# leaving a rotated one, as rotated films are rare. From `SURE` on, no further thumbnail is scored.
TURNED = 0.8
SURE = 0.95
# The peak is the weighted mean over this many cells of the heat map on each side of its maximum.
PEAK_CELLS = 2
# Scores that are kept: more than the thumbnails of a picture's parts in their four orientations,
# and the closer looks at them.
MOST_SCORED = 32

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class LocatorScores:
    """The outputs of the network for one thumbnail.

    `heat` (2, 64, 64) holds the logits of each head's centre over the cells, `present` (2,) the
    logits that each head is on the film, and `turns` (4,) the logits of the quarter turns.
    `log_distance` is the logarithm of the distance between the heads in units of the thumbnail's
    side. `hip` is the logit that the thumbnail shows a hip upright, or None for a network without
    this output: then one look decides.
    """

    heat: NDArray[np.float32]
    present: NDArray[np.float32]
    turns: NDArray[np.float32]
    log_distance: float
    hip: float | None = None


class ScoreThumbnail(Protocol):
    """Runs the network, as `hipedge.locate.session.OnnxLocator` does."""

    def __call__(self, thumbnail: NDArray[np.uint8], /) -> LocatorScores:
        """Score one thumbnail uint8 (256, 256)."""


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """The network's input for a film, uint8 (S, S), with the transform to the film's coordinates.

    A point (x, y) of the thumbnail is at `origin_px` + `step_px` × (x, y) on the film.
    """

    pixels: NDArray[np.uint8]
    origin_px: Point
    step_px: Point

    def on_film(self, point: Point) -> Point:
        """Return the coordinates on the film of a point of the thumbnail."""
        return (
            self.origin_px[0] + self.step_px[0] * point[0],
            self.origin_px[1] + self.step_px[1] * point[1],
        )

    def from_film(self, point: Point) -> Point:
        """Return the coordinates on the thumbnail of a point of the film."""
        return (
            (point[0] - self.origin_px[0]) / self.step_px[0],
            (point[1] - self.origin_px[1]) / self.step_px[1],
        )


def make_thumbnail(
    pixels: NDArray[np.uint16],
    spacing_mm: tuple[float, float] | None = None,
    size_px: int = THUMBNAIL_PX,
) -> Thumbnail:
    """Resample a film (H, W) to square pixels, centred in a square and padded with black."""
    height, width = pixels.shape
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    side_mm = max(height * row_mm, width * column_mm)
    step_x, step_y = side_mm / column_mm / size_px, side_mm / row_mm / size_px
    columns, rows = max(1, round(width / step_x)), max(1, round(height / step_y))
    small = shrink_to(pixels, columns, rows)
    left, top = (size_px - columns) // 2, (size_px - rows) // 2
    square = np.zeros((size_px, size_px), np.uint8)
    square[top : top + rows, left : left + columns] = stretch(small)
    step = width / columns, height / rows
    return Thumbnail(square, (-left * step[0], -top * step[1]), step)


def stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rescale values between `PERCENTILES` to the range of uint8."""
    low, high = np.percentile(values, PERCENTILES)
    scaled = (values - low) * (255.0 / max(float(high - low), 1.0))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


class LearnedLocator:
    """Finds heads on upright films (a `FindHeads`) and the turns that turn a film upright.

    One for each film: it remembers what it has seen of it.
    """

    def __init__(self, score: ScoreThumbnail) -> None:
        self._score = score
        self._latest: tuple[NDArray[np.uint16], tuple[float, float] | None, Thumbnail] | None = None
        # The latest scores: the thumbnails on which the heads are found, those of a picture's parts
        # too, have usually been scored already for the quarter turns.
        self._scored: dict[bytes, LocatorScores] = {}

    def __call__(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None = None, /
    ) -> Heads | None:
        """Return the heads on a film (H, W) with bone bright, or None if there are none."""
        thumbnail = self._thumbnail_of(pixels, spacing_mm)
        scores = self._score_once(thumbnail.pixels)
        if scores.hip is None:
            return read_heads(scores, thumbnail)
        heads = read_heads(scores, thumbnail, PRESENT_AT_FIRST)
        if heads is None:
            return None
        closer = look_closer(pixels, heads, spacing_mm, thumbnail)
        return both_looks(scores, thumbnail, self._score_once(closer.pixels), closer)

    def quarter_turns(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None = None
    ) -> int:
        """Return the counterclockwise quarter turns (`numpy.rot90`) that turn a film upright."""
        thumbnail = self._thumbnail_of(pixels, spacing_mm).pixels
        return read_turns(
            self._score_once(np.ascontiguousarray(np.rot90(thumbnail, k))) for k in range(4)
        )

    def _thumbnail_of(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None
    ) -> Thumbnail:
        """Return the thumbnail of a film: of an upright one the heads are found on the same."""
        if self._latest is not None and self._latest[0] is pixels and self._latest[1] == spacing_mm:
            return self._latest[2]
        thumbnail = make_thumbnail(pixels, spacing_mm)
        self._latest = pixels, spacing_mm, thumbnail
        return thumbnail

    def _score_once(self, thumbnail: NDArray[np.uint8]) -> LocatorScores:
        key = thumbnail.tobytes()
        if key not in self._scored:
            if len(self._scored) >= MOST_SCORED:
                self._scored.clear()
            self._scored[key] = self._score(thumbnail)
        return self._scored[key]


def read_turns(scores: Iterable[LocatorScores]) -> int:
    """Return the quarter turns that turn a film upright, or 0 if the scores are inconclusive.

    `scores` are those of the thumbnail as it is and after one, two and three quarter turns. They
    are consumed only until the result is certain, and at least two of them before a film is turned.
    A film that needs `k` turns needs `k - j` after `j` turns: the aligned probabilities are
    combined by their geometric mean.
    """
    rolled = list[NDArray[np.floating]]()
    for j, turned in enumerate(scores):
        rolled.append(np.roll(log_probabilities(turned.turns), j))
        probabilities = np.exp(log_probabilities(np.mean(rolled, axis=0)))
        turns = int(probabilities.argmax())
        if probabilities[turns] >= SURE and (j or not turns):
            return turns
    return turns if probabilities[turns] >= TURNED else 0


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the log-softmax of logits (N,)."""
    return np.asarray(logits - np.logaddexp.reduce(logits))


def read_heads(scores: LocatorScores, thumbnail: Thumbnail, least: float = PRESENT) -> Heads | None:
    """Decode the network's outputs to heads in pixels of the film.

    Returns None if no head is present with a probability of at least `least`.
    """
    present = _probability(scores.present)
    if present.max() < least:
        return None
    left, right = (
        thumbnail.on_film(peak(heat)) if there >= min(PRESENT_BESIDE, least) else None
        for heat, there in zip(scores.heat, present, strict=True)
    )
    distance_px = float(np.exp(scores.log_distance)) * len(thumbnail.pixels) * thumbnail.step_px[0]
    if left and right:
        distance_px = _distance(left, right, thumbnail)
    return Heads(left, right, distance_px, float(present.max()))


def _probability(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))


def _distance(left: Point, right: Point, thumbnail: Thumbnail) -> float:
    """Return the distance between two points of the film, in pixels along its rows."""
    aspect = thumbnail.step_px[0] / thumbnail.step_px[1]
    return float(np.hypot(right[0] - left[0], (right[1] - left[1]) * aspect))


def look_closer(
    pixels: NDArray[np.uint16],
    heads: Heads,
    spacing_mm: tuple[float, float] | None,
    thumbnail: Thumbnail,
) -> Thumbnail:
    """Return a thumbnail of the part of a film (H, W) about its heads.

    That is `thumbnail`, the film's, where the part is all of it.
    """
    height, width = pixels.shape
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    points = [point for point in (heads.image_left, heads.image_right) if point]
    x, y = np.mean(points, axis=0)
    wide = (CLOSER_BOTH if len(points) == 2 else CLOSER_SINGLE) * heads.distance_px
    high = wide * column_mm / row_mm
    x0, x1 = _within(x - wide / 2, x + wide / 2, width)
    y0, y1 = _within(y - high / 2, y + high / 2, height)
    if (x0, y0, x1, y1) == (0, 0, width, height):
        return thumbnail
    part = make_thumbnail(np.ascontiguousarray(pixels[y0:y1, x0:x1]), spacing_mm)
    return Thumbnail(part.pixels, (part.origin_px[0] + x0, part.origin_px[1] + y0), part.step_px)


def _within(start: float, stop: float, length: int) -> tuple[int, int]:
    """Return the part of a range that is on the film, of at least one pixel."""
    first = min(max(0, int(start)), length - 1)
    return first, max(first + 1, min(length, math.ceil(stop)))


def both_looks(
    first: LocatorScores, thumbnail: Thumbnail, second: LocatorScores, closer: Thumbnail
) -> Heads | None:
    """Return the heads by a look at a film and one closer about its heads; None without a hip.

    The mean of the logits decides whether a hip is there, and each head. A head's place is that of
    the second look, which has more pixels of it. Of two heads one that the film's edge cuts off
    does not count, but for the distance between them.
    """
    assert first.hip is not None
    assert second.hip is not None
    present = _probability((first.present + second.present) / 2)
    hip = float(_probability(np.array((first.hip + second.hip) / 2)))
    if present.max() < PRESENT or hip < HIP:
        return None
    least = min(PRESENT_BESIDE_TWICE, float(present.max()))
    left, right = (
        closer.on_film(peak(heat)) if there >= least else None
        for heat, there in zip(second.heat, present, strict=True)
    )
    if left and right:
        distance_px = _distance(left, right, closer)
        left, right = _whole(left, right, thumbnail)
    else:
        distances = [
            float(np.exp(scores.log_distance)) * len(seen.pixels) * seen.step_px[0]
            for scores, seen in ((first, thumbnail), (second, closer))
        ]
        distance_px = math.sqrt(math.prod(distances))
    return Heads(left, right, distance_px, min(hip, float(present.max())))


def _whole(left: Point, right: Point, film: Thumbnail) -> tuple[Point | None, Point | None]:
    """Return two heads without one that the film's left or right edge cuts off."""
    first_px = film.from_film((0.0, 0.0))[0] + EDGE_PX
    last_px = len(film.pixels) - first_px
    cut = [not first_px <= film.from_film(head)[0] <= last_px for head in (left, right)]
    if all(cut):
        return left, right
    return (None if cut[0] else left), (None if cut[1] else right)


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
