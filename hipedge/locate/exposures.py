"""Pictures that hold more than one exposure, and long-leg films: the parts to search for hips.

A locator looks at a whole picture as one film: of two films in one picture it finds one hip each,
or the hips of one; the pelvis on a film of the whole leg is too small for it. Such a picture is
searched in parts, and what is found in them counts where it says something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hipedge.imaging.area import Bands, CroppedPixels, halvings
from hipedge.locate.heads import Heads, Point
from hipedge.types import Box, Radiograph

# Radiographic plates and detectors have sides of 1 : 1 to 1 : 1.25, collimated films of hips in
# the shared data up to 1 : 1.53. Two films of one size in a picture have 1 : 1.6 or more.
ELONGATED = 1.55
# An exposure is at least this part of a picture's length. What is lively but shorter is a label.
SHORTEST_PART = 0.2
# Blank bands are sought on an image of at least this many pixels along its longer side.
COARSE_PX = 128
# A line of pixels whose standard deviation is below this part of the picture's range is blank.
BLANK = 0.01
# A picture longer than this is searched in overlapping squares too, this part of a side apart.
LONG, STRIDE = 2.0, 0.5
# Heads nearer to each other than this part of the heads' distance are the same.
SAME_HEAD = 0.5
# Each half of a pelvis shows one head, from which the locator estimates the heads' distance: 0.79
# to 1.72 of that in the whole (1st to 99th percentile, 2.01 at most), on 200 real pelvic films
# cropped to 1 : 1.7. The whole of two films of one hip shows the distance between the films, which
# is more.
SAME_SIZE = 0.8, 2.1

# Asked for twice: before a film is turned upright, and when it is searched.
_bands = WeakKeyDictionary[Radiograph, list[Box]]()

Find = Callable[[Radiograph], "Heads | None"]


@dataclass(frozen=True)
class Search:
    """Heads by exposure, in pixels of the picture, and whether all hips are surely among them."""

    heads: tuple[Heads, ...]
    complete: bool = True


def search(radiograph: Radiograph, find: Find) -> Search:
    """Search a picture as a whole, and in parts where it may hold several exposures.

    The parts count where they show hips elsewhere, or of another size, than the picture as a whole
    does. Hips may then be missing, unless all that was found is both hips of one exposure and the
    picture as a whole showed none.
    """
    whole = find(radiograph)
    parts = parts_of(radiograph)
    if not parts:
        return Search((whole,) if whole else ())
    found = _distinct([heads for part in parts if (heads := _find_in(radiograph, part, find))])
    if not found:
        return Search((whole,) if whole else (), complete=whole is None)
    if whole and all(_is_explained(heads, whole) for heads in found):
        return Search((whole,))
    complete = whole is None and len(found) == 1 and len(_points(found[0])) == 2
    return Search(tuple(found), complete)


def parts_of(radiograph: Radiograph) -> list[Box]:
    """Return the parts of a picture to search besides the whole; [] for an ordinary film.

    They are what may be exposures of their own, and squares along what is long, which overlap.
    """
    height, width = radiograph.film.shape
    bands = _between_bands(radiograph)
    squares = [square for part in bands or [Box(0.0, 0.0, width, height)]
               for square in _squares(part)]  # fmt: skip
    return [*(bands or _halves(width, height)), *squares]


def exposures_of(radiograph: Radiograph) -> list[Box]:
    """Return what may be exposures of their own in a picture; [] for an ordinary film.

    The parts between blank bands, or else the halves of a picture that is as long as two films.
    """
    height, width = radiograph.film.shape
    return _between_bands(radiograph) or _halves(width, height)


def _halves(width: float, height: float) -> list[Box]:
    if height > ELONGATED * width:
        return [Box(0.0, 0.0, width, height / 2), Box(0.0, height / 2, width, height)]
    if width > ELONGATED * height:
        return [Box(0.0, 0.0, width / 2, height), Box(width / 2, 0.0, width, height)]
    return []


def _squares(part: Box) -> list[Box]:
    """Return overlapping squares along a part that is more than `LONG` times as long as wide."""
    side, length = sorted((part.width, part.height))
    if length <= LONG * side:
        return []
    starts = np.linspace(0.0, length - side, math.ceil((length - side) / (STRIDE * side)) + 1)
    if part.width > part.height:
        return [Box(part.x0 + x, part.y0, part.x0 + x + side, part.y1) for x in starts]
    return [Box(part.x0, part.y0 + y, part.x1, part.y0 + y + side) for y in starts]


def cropped(radiograph: Radiograph, part: Box) -> Radiograph:
    """Return a part of a picture as a film of its own, which begins with a whole pixel."""
    x, y = math.floor(part.x0), math.floor(part.y0)
    shape = math.ceil(part.y1) - y, math.ceil(part.x1) - x
    film = replace(radiograph.film, shape=shape)
    return Radiograph(film, CroppedPixels(radiograph.source, (x, y), shape))


def _between_bands(radiograph: Radiograph) -> list[Box]:
    """Return the parts between blank bands that run across a picture; [] where there are none."""
    if radiograph not in _bands:
        _bands[radiograph] = _parts_between_bands(radiograph)
    return _bands[radiograph]


def _parts_between_bands(radiograph: Radiograph) -> list[Box]:
    height, width = radiograph.film.shape
    overview = radiograph.overview.pixels
    overview = Bands(overview).whole(halvings(max(overview.shape) / COARSE_PX))
    rows, columns = _lively_runs(overview), _lively_runs(overview.T)
    if len(rows) > 1 and len(rows) >= len(columns):
        step = height / len(overview)
        return [Box(0.0, start * step, width, stop * step) for start, stop in rows]
    if len(columns) > 1:
        step = width / overview.shape[1]
        return [Box(start * step, 0.0, stop * step, height) for start, stop in columns]
    return []


def _lively_runs(lines: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the starts and ends of runs of lines (N, M) that show something, the short left out.

    The values of a line that shows something deviate by more than `BLANK` of the image's range.
    """
    lively = (lines.std(axis=1) > BLANK * np.ptp(lines)).astype(int)
    edges = np.flatnonzero(np.diff(lively, prepend=0, append=0))
    return [
        (int(start), int(stop))
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
        if stop - start >= SHORTEST_PART * len(lines)
    ]


def _find_in(radiograph: Radiograph, part: Box, find: Find) -> Heads | None:
    """Return the heads on a part of a picture, in pixels of the picture."""
    heads = find(cropped(radiograph, part))
    if heads is None:
        return None
    x, y = math.floor(part.x0), math.floor(part.y0)
    left, right = (
        head and (head[0] + x, head[1] + y) for head in (heads.image_left, heads.image_right)
    )
    return replace(heads, image_left=left, image_right=right)


def _distinct(found: Sequence[Heads]) -> list[Heads]:
    """Return the likeliest heads at each place, in reading order: down, then to the right."""
    kept = list[Heads]()
    for heads in sorted(found, key=lambda heads: -heads.likeness):
        if not any(_near(point, other) for point in _points(heads) for other in kept):
            kept.append(heads)
    return sorted(kept, key=lambda heads: _points(heads)[0][::-1])


def _points(heads: Heads) -> list[Point]:
    return [point for point in (heads.image_left, heads.image_right) if point]


def _near(point: Point, heads: Heads) -> bool:
    reach = SAME_HEAD * heads.distance_px
    return any(math.dist(point, other) < reach for other in _points(heads))


def _is_explained(part: Heads, whole: Heads) -> bool:
    """Say whether the heads of a part are heads of the whole picture, on the same side of it.

    The size of the part must not contradict that.
    """
    reach = SAME_HEAD * whole.distance_px
    smallest, largest = SAME_SIZE
    pairs = (part.image_left, whole.image_left), (part.image_right, whole.image_right)
    return smallest < part.distance_px / whole.distance_px < largest and all(
        known is not None and math.dist(head, known) < reach for head, known in pairs if head
    )
