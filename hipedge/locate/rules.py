"""From heads on a film, its header, and what a person marked, to `Hip` values.

What a person marked wins. Otherwise the pixels say how many hips there are, so that all that are
on a film are screened, and the header says whose they are: Patient Orientation for the image's
directions (PS3.3 C.7.6.1.1.1), Image Laterality for a single hip (PS3.3 C.8.11.7.1.1). Where both
disagree the film is marked for a person, and nothing is corrected: a side in doubt is `unknown`,
which is scored both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import Code, Refused
from hipedge.imaging.geometry import (
    HEAD_DISTANCE_MM,
    PELVIC_FILM_WIDTH_MM,
    SINGLE_HIP_FILM_WIDTH_MM,
    crop_box,
    head_in_box,
    image_lateral,
    is_mirrored,
    is_turned,
)
from hipedge.locate.given import GivenHip
from hipedge.locate.heads import Heads, find_heads
from hipedge.types import Box, CropGeometry, Film, Hip, Laterality, Mark, Radiograph, Side

SIDES = {Laterality.RIGHT: Side.RIGHT, Laterality.LEFT: Side.LEFT}


class FindHeads(Protocol):
    """What looks for the femoral heads on a film, such as `find_heads`."""

    def __call__(
        self, pixels: NDArray[np.uint16], spacing_mm: tuple[float, float] | None, /
    ) -> Heads | None:
        """Return the heads on a film (H, W) with bone bright, or None where there are none."""


@dataclass(frozen=True)
class Located:
    """The hips of a film, one or two, and what a person must know about where they are."""

    hips: tuple[Hip, ...]
    marks: frozenset[Mark]


def locate(
    radiograph: Radiograph,
    geometry: CropGeometry,
    given: Sequence[GivenHip] = (),
    *,
    find: FindHeads = find_heads,
) -> Located:
    """Say where the hips of a film are, whose side each is, and what of each the network sees.

    Hips that are given are taken as they are; no other is then looked for. A hip's confidence is
    the likeness that `find` gives (`Heads`), or 1 for a given hip: it is no probability.

    Raises `Refused` (`no_hip_found`) where the pixels show nothing like a hip.
    """
    film = radiograph.film
    if given:
        hips = _given_hips(radiograph, geometry, given, find)
        return Located(hips, _marks(film, hips))
    heads = _find(radiograph, film.spacing_mm, find)
    if heads is None:
        raise Refused(Code.NO_HIP_FOUND)
    hips = _found_hips(film, geometry, heads)
    marks = _marks(film, hips)
    if _lies_on_the_wrong_side(film, heads):
        marks |= {Mark.HEADER_DISAGREES}
    return Located(hips, marks)


def _find(
    radiograph: Radiograph, spacing_mm: tuple[float, float] | None, find: FindHeads
) -> Heads | None:
    """Return the heads, in pixels of the film, that `find` sees on its overview."""
    overview = radiograph.overview
    heads = find(overview.pixels, overview.spacing_mm(spacing_mm))
    if heads is None:
        return None
    left, right = (
        overview.on_film(head) if head else None for head in (heads.image_left, heads.image_right)
    )
    return Heads(left, right, heads.distance_px * overview.step_px, heads.likeness)


def _found_hips(film: Film, geometry: CropGeometry, heads: Heads) -> tuple[Hip, ...]:
    mm = HEAD_DISTANCE_MM / heads.distance_px
    spacing_mm = film.spacing_mm or (mm, mm)
    sides = _sides(film, heads)
    found = ((heads.image_left, -1), (heads.image_right, 1))
    return tuple(
        Hip(
            side=side,
            centre_px=centre,
            box=crop_box(centre, spacing_mm, geometry, lateral=lateral),
            confidence=heads.likeness,
            mirrored=is_mirrored(side, film.orientation),
        )
        for side, (centre, lateral) in zip(sides, found, strict=True)
        if centre is not None
    )


def _sides(film: Film, heads: Heads) -> tuple[Side, Side]:
    """Return whose heads those at the image's left and right are, if they are there."""
    if is_turned(film.orientation):
        return Side.UNKNOWN, Side.UNKNOWN
    left, right = _sides_by_position(film)
    if heads.image_left and heads.image_right:
        return left, right
    # A single hip may have been taken from behind or stored flipped: its header must say its side,
    # and the half of the pelvis beside it must lie where that side has it.
    stated = SIDES.get(film.laterality) if film.laterality else None
    return left if left is stated else Side.UNKNOWN, right if right is stated else Side.UNKNOWN


def _sides_by_position(film: Film) -> tuple[Side, Side]:
    usual = image_lateral(Side.RIGHT, film.orientation) == -1
    return (Side.RIGHT, Side.LEFT) if usual else (Side.LEFT, Side.RIGHT)


def _lies_on_the_wrong_side(film: Film, heads: Heads) -> bool:
    """Say whether a film's only hip lies on the image where one of the other side would."""
    if film.laterality not in SIDES or is_turned(film.orientation):
        return False
    left, right = _sides_by_position(film)
    stated = SIDES[film.laterality]
    return (heads.image_right is None and left is not stated) or (
        heads.image_left is None and right is not stated
    )


def _given_hips(
    radiograph: Radiograph, geometry: CropGeometry, given: Sequence[GivenHip], find: FindHeads
) -> tuple[Hip, ...]:
    film = radiograph.film
    hips = []
    for hip in given:
        lateral = image_lateral(hip.side, film.orientation)
        if isinstance(hip.marked, Box):
            box = _square(hip.marked, film.spacing_mm or (1.0, 1.0))
            centre = head_in_box(box, geometry, lateral=lateral)
        else:
            centre = hip.marked
            spacing_mm = film.spacing_mm or _ruler(radiograph, given, find)
            box = crop_box(centre, spacing_mm, geometry, lateral=lateral)
        hips.append(Hip(hip.side, centre, box, 1.0, is_mirrored(hip.side, film.orientation)))
    return tuple(hips)


def _square(box: Box, spacing_mm: tuple[float, float]) -> Box:
    """Return the smallest box around `box` that is square on the patient."""
    row_mm, column_mm = spacing_mm
    half_mm = max(box.width * column_mm, box.height * row_mm) / 2
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    half_x, half_y = half_mm / column_mm, half_mm / row_mm
    return Box(x - half_x, y - half_y, x + half_x, y + half_y)


def _ruler(
    radiograph: Radiograph, given: Sequence[GivenHip], find: FindHeads
) -> tuple[float, float]:
    """Return the spacing in mm of a film whose header has none, by the body on it."""
    centres = [hip.marked for hip in given if not isinstance(hip.marked, Box)]
    if len(centres) == 2:
        (x0, y0), (x1, y1) = centres
        mm = HEAD_DISTANCE_MM / np.hypot(x1 - x0, y1 - y0)
    elif heads := _find(radiograph, None, find):
        mm = HEAD_DISTANCE_MM / heads.distance_px
    else:
        height, width = radiograph.film.shape
        film_mm = PELVIC_FILM_WIDTH_MM if width >= height else SINGLE_HIP_FILM_WIDTH_MM
        mm = film_mm / width
    return float(mm), float(mm)


def _marks(film: Film, hips: tuple[Hip, ...]) -> frozenset[Mark]:
    marks = set[Mark]()
    if any(hip.side is Side.UNKNOWN for hip in hips):
        marks.add(Mark.SIDE_UNCLEAR)
    if len(hips) == 1 and film.laterality is Laterality.BOTH:
        marks |= {Mark.ONE_HIP_FOUND, Mark.HEADER_DISAGREES}
    if film.laterality in SIDES:
        (*others, hip) = hips
        if others or hip.side not in (SIDES[film.laterality], Side.UNKNOWN):
            marks.add(Mark.HEADER_DISAGREES)
    return frozenset(marks)
