"""A film that lies on its side or its head, turned upright for the network, and marked as such."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hipedge.imaging.area import TurnedPixels
from hipedge.imaging.geometry import is_turned
from hipedge.types import Mark, Radiograph

# By quarter turns counterclockwise.
MARKS = {1: Mark.TURNED_90, 2: Mark.TURNED_180, 3: Mark.TURNED_270}
# The directions of Patient Orientation (PS3.3 C.7.6.1.1.1), and where each ends up reversed.
OPPOSITE = str.maketrans("ALHPRF", "PRFALH")


def turn_upright(radiograph: Radiograph, quarter_turns: int) -> Radiograph:
    """Return a radiograph turned counterclockwise, with a mark that says by how much.

    Spacing and Patient Orientation turn with the pixels. Where the header then still says that the
    film is not upright, it disagrees with the pixels and is marked: the sides are then unclear.
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
