"""From heads on a film, its header, and what a person marked, to `Hip` values.

What a person marked wins. Otherwise the pixels determine how many hips there are, so that every hip
on a film is screened, and the header determines their sides: Patient Orientation for the image's
directions (PS3.3 C.7.6.1.1.1), Image Laterality for a single hip (PS3.3 C.8.11.7.1.1). Where they
contradict each other the film is marked for a person, and nothing is corrected: a side in doubt is
`unknown`, which is scored both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import Code, Refused
from hipedge.imaging.geometry import (
    crop_box,
    head_in_box,
    image_lateral,
    is_mirrored,
    is_turned,
)
from hipedge.locate import scale
from hipedge.locate.exposures import search
from hipedge.locate.given import GivenHip
from hipedge.locate.heads import Heads, find_heads
from hipedge.locate.scale import Spacing
from hipedge.types import Box, CropGeometry, Film, Hip, Laterality, Mark, Radiograph, Side

SIDES = {Laterality.RIGHT: Side.RIGHT, Laterality.LEFT: Side.LEFT}

Ages = tuple[float, float]


class FindHeads(Protocol):
    """A locator of femoral heads, such as `find_heads`."""

    def __call__(self, pixels: NDArray[np.uint16], spacing_mm: Spacing | None, /) -> Heads | None:
        """Return the heads on a film (H, W) with bone bright, or None where there are none."""


@dataclass(frozen=True)
class Located:
    """The hips of a film, and the marks for a person about where they are."""

    hips: tuple[Hip, ...]
    marks: frozenset[Mark]


def locate(
    radiograph: Radiograph,
    geometry: CropGeometry,
    given: Sequence[GivenHip] = (),
    *,
    find: FindHeads = find_heads,
    age_range_years: Ages | None = None,
) -> Located:
    """Return where the hips of a film are, the side of each, and the box that the network sees.

    Hips that are given are taken as they are; no other is then searched for. A hip's confidence is
    the likeness that `find` gives (`Heads`), or 1 for a given hip: it is no probability.
    `age_range_years` is the ages that the model was made for: a spacing that none of them can have
    is replaced (`spacing_doubtful`).

    Raises `Refused` (`no_hip_found`) where the pixels show nothing like a hip.
    """
    film = radiograph.film
    range_mm = scale.head_distance_range_mm(film.age_years, age_range_years)
    if given:
        marked, doubtful = _given_hips(radiograph, geometry, given, find, range_mm)
        return Located(marked, _marks(film, marked) | doubtful)
    found = search(radiograph, lambda part: _find(part, film.spacing_mm, find))
    if not found.heads and film.spacing_mm:
        # `find` may have searched at the sizes only that a wrong spacing allows.
        found = search(radiograph, lambda part: _find(part, None, find))
    if not found.heads:
        raise Refused(Code.NO_HIP_FOUND)
    hips, marks = list[Hip](), set[Mark]()
    for heads in found.heads:
        hips += _found_hips(film, geometry, heads, range_mm)
        if film.spacing_mm and not scale.is_credible(film.spacing_mm, heads.distance_px, range_mm):
            marks.add(Mark.SPACING_DOUBTFUL)
        if _lies_on_the_wrong_side(film, heads):
            marks.add(Mark.HEADER_DISAGREES)
    if not found.complete:
        marks.add(Mark.HIPS_MAY_BE_MISSING)
    return Located(tuple(hips), _marks(film, tuple(hips)) | marks)


def _find(radiograph: Radiograph, spacing_mm: Spacing | None, find: FindHeads) -> Heads | None:
    """Return the heads, in pixels of the film, that `find` sees on its overview."""
    overview = radiograph.overview
    heads = find(overview.pixels, overview.spacing_mm(spacing_mm))
    if heads is None:
        return None
    left, right = (
        overview.on_film(head) if head else None for head in (heads.image_left, heads.image_right)
    )
    return Heads(left, right, heads.distance_px * overview.step_px, heads.likeness)


def _found_hips(
    film: Film, geometry: CropGeometry, heads: Heads, range_mm: tuple[float, float]
) -> list[Hip]:
    spacing_mm = film.spacing_mm
    if spacing_mm is None or not scale.is_credible(spacing_mm, heads.distance_px, range_mm):
        spacing_mm = scale.by_distance(heads.distance_px)
    sides = _sides(film, heads)
    found = ((heads.image_left, -1), (heads.image_right, 1))
    return [
        Hip(
            side=side,
            centre_px=centre,
            box=crop_box(centre, spacing_mm, geometry, lateral=lateral),
            confidence=heads.likeness,
            mirrored=is_mirrored(side, film.orientation),
        )
        for side, (centre, lateral) in zip(sides, found, strict=True)
        if centre is not None
    ]


def _sides(film: Film, heads: Heads) -> tuple[Side, Side]:
    """Return the patient's side of the head at the image's left and of that at its right."""
    if is_turned(film.orientation):
        return Side.UNKNOWN, Side.UNKNOWN
    left, right = _sides_by_position(film)
    if heads.image_left and heads.image_right:
        return left, right
    # A single hip may have been exposed from behind or stored flipped: its side is known only where
    # the header states it and the half of the pelvis beside it lies where that side has it.
    stated = SIDES.get(film.laterality) if film.laterality else None
    return left if left is stated else Side.UNKNOWN, right if right is stated else Side.UNKNOWN


def _sides_by_position(film: Film) -> tuple[Side, Side]:
    usual = image_lateral(Side.RIGHT, film.orientation) == -1
    return (Side.RIGHT, Side.LEFT) if usual else (Side.LEFT, Side.RIGHT)


def _lies_on_the_wrong_side(film: Film, heads: Heads) -> bool:
    """Return whether a film's only hip lies on the image where one of the other side would."""
    if film.laterality not in SIDES or is_turned(film.orientation):
        return False
    left, right = _sides_by_position(film)
    stated = SIDES[film.laterality]
    return (heads.image_right is None and left is not stated) or (
        heads.image_left is None and right is not stated
    )


def _given_hips(
    radiograph: Radiograph,
    geometry: CropGeometry,
    given: Sequence[GivenHip],
    find: FindHeads,
    range_mm: tuple[float, float],
) -> tuple[tuple[Hip, ...], frozenset[Mark]]:
    film = radiograph.film
    hips, doubtful = list[Hip](), False
    if not all(isinstance(hip.marked, Box) for hip in given):
        spacing_mm, doubtful = _given_spacing(radiograph, geometry, given, find, range_mm)
    for hip in given:
        lateral = image_lateral(hip.side, film.orientation)
        if isinstance(hip.marked, Box):
            box = _square(hip.marked, film.spacing_mm or (1.0, 1.0))
            centre = head_in_box(box, geometry, lateral=lateral)
        else:
            centre = hip.marked
            box = crop_box(centre, spacing_mm, geometry, lateral=lateral)
        hips.append(Hip(hip.side, centre, box, 1.0, is_mirrored(hip.side, film.orientation)))
    return tuple(hips), frozenset({Mark.SPACING_DOUBTFUL} if doubtful else ())


def _given_spacing(
    radiograph: Radiograph,
    geometry: CropGeometry,
    given: Sequence[GivenHip],
    find: FindHeads,
    range_mm: tuple[float, float],
) -> tuple[Spacing, bool]:
    """Return the spacing for centres that a person marked, and whether it is doubtful.

    From the header unless the marks or the film's size contradict it, from the marks, or from the
    heads that `find` sees; at last by a film's usual width, which is a guess.
    """
    film = radiograph.film
    marked = scale.by_marks(given, geometry)
    contradicted = film.spacing_mm is not None and not (
        scale.holds_hip(film.spacing_mm, film.shape, geometry)
        and scale.agrees_with_marks(film.spacing_mm, given, range_mm)
    )
    if film.spacing_mm and not contradicted:
        return film.spacing_mm, False
    if marked:
        return marked, contradicted
    if heads := _find(radiograph, None, find):
        return scale.by_distance(heads.distance_px), contradicted
    return scale.by_film(film.shape), True


def _square(box: Box, spacing_mm: tuple[float, float]) -> Box:
    """Return the smallest box around `box` that is square on the patient."""
    row_mm, column_mm = spacing_mm
    half_mm = max(box.width * column_mm, box.height * row_mm) / 2
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    half_x, half_y = half_mm / column_mm, half_mm / row_mm
    return Box(x - half_x, y - half_y, x + half_x, y + half_y)


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
