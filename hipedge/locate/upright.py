"""Films that lie on their side or upside down: turned upright for the network, and marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hipedge.imaging.area import TurnedPixels
from hipedge.imaging.geometry import is_turned
from hipedge.locate.exposures import cropped, exposures_of
from hipedge.types import Mark, Radiograph

# By quarter turns counterclockwise.
MARKS = {1: Mark.TURNED_90, 2: Mark.TURNED_180, 3: Mark.TURNED_270}
# The directions of Patient Orientation (PS3.3 C.7.6.1.1.1), and where each ends up reversed.
OPPOSITE = str.maketrans("ALHPRF", "PRFALH")


QuarterTurns = Callable[[NDArray[np.uint16], "tuple[float, float] | None"], int]


def quarter_turns(radiograph: Radiograph, turns: QuarterTurns) -> int:
    """Return by how many quarter turns counterclockwise a film is upright.

    `turns` answers for pixels (H, W) and their spacing in mm. Of a picture with several
    exposures all must agree: as a whole it is unlike any film.
    """
    films = [cropped(radiograph, part) for part in exposures_of(radiograph)] or [radiograph]
    agreed: int | None = None
    for film in films:
        overview = film.overview
        answer = turns(overview.pixels, overview.spacing_mm(radiograph.film.spacing_mm))
        if agreed not in (None, answer):
            return 0
        agreed = answer
    return agreed or 0


def turn_upright(radiograph: Radiograph, quarter_turns: int) -> Radiograph:
    """Return a radiograph turned counterclockwise, with the mark of that turn.

    Spacing and Patient Orientation turn with the pixels. Where the film is still not upright by the
    header, header and pixels disagree: the film is marked, and its sides are unclear.
    """
    film, turns = radiograph.film, quarter_turns % 4
    if not turns and not is_turned(film.orientation):
        return radiograph
    orientation = turned_orientation(film.orientation, turns)
    marks = film.marks | ({MARKS[turns]} if turns else set())
    if is_turned(orientation):
        marks |= {Mark.HEADER_DISAGREES}
    spacing_mm = film.spacing_mm
    if spacing_mm and turns % 2:
        spacing_mm = spacing_mm[1], spacing_mm[0]
    source, (height, width) = radiograph.source, film.shape
    for _ in range(turns):
        source = TurnedPixels(source, width)
        height, width = width, height
    turned = replace(
        film,
        shape=(height, width),
        spacing_mm=spacing_mm,
        orientation=orientation,
        marks=frozenset(marks),
    )
    return Radiograph(turned, source)


def turns_of(marks: Iterable[Mark]) -> int:
    """Return by how many quarter turns a film was turned, by its marks."""
    by_mark = {mark: turns for turns, mark in MARKS.items()}
    return next((by_mark[mark] for mark in marks if mark in by_mark), 0)


def turned_orientation(
    orientation: tuple[str, str] | None, quarter_turns: int
) -> tuple[str, str] | None:
    """Return Patient Orientation (along rows, along columns) after turns counterclockwise.

    After a turn the rows run where the columns ran, and the columns where the rows came from.
    """
    for _ in range(quarter_turns % 4):
        if orientation is not None:
            rows, columns = orientation
            orientation = columns, rows.translate(OPPOSITE)
    return orientation
