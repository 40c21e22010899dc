"""How far apart the pixels are at the hips, in mm: by the header, by the body, by what was marked.

A header's Pixel Spacing can be wrong: by ten (cm for mm), or because the film was enlarged or
shrunk after it was written. The distance between the femoral heads shows it, since patients differ
far less. The heads' radius would too, but is not measured: on 374 real hips the circle of the
steepest edge around a head had 0.08 to 0.23 of the heads' distance (5th to 95th percentile), where
anatomy has 0.14.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hipedge.imaging.geometry import (
    HEAD_DISTANCE_MM,
    HEAD_RADIUS_MM,
    PELVIC_FILM_WIDTH_MM,
    SINGLE_HIP_FILM_WIDTH_MM,
)
from hipedge.locate.given import GivenHip
from hipedge.types import Box, CropGeometry

Spacing = tuple[float, float]

# How far apart the centres of a patient's femoral heads may be on a film, in mm. Hip joint centres
# of adults lie 166 to 173 mm apart on average (see `HEAD_DISTANCE_MM`) with a standard deviation
# under 15 mm; a film magnifies them by up to 1.3, a rotated pelvis foreshortens them, and of a film
# of one hip the locator has to guess the distance. An infant's are 50 mm apart.
ADULT_HEAD_DISTANCE_MM = (110.0, 300.0)
CHILD_HEAD_DISTANCE_MM = (45.0, 300.0)
ADULT_YEARS = 18.0


def head_distance_range_mm(
    age_years: float | None, age_range_years: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the least and the greatest distance between the heads that a patient can have, in mm.

    By the patient's age where it is known, else by the ages that the model was made for; a card
    that makes no claim (None) allows children.
    """
    if age_years is None:
        age_years = age_range_years[0] if age_range_years else 0.0
    return ADULT_HEAD_DISTANCE_MM if age_years >= ADULT_YEARS else CHILD_HEAD_DISTANCE_MM


def is_credible(spacing_mm: Spacing, distance_px: float, range_mm: tuple[float, float]) -> bool:
    """Say whether a spacing puts heads that are `distance_px` apart where a patient has them."""
    low, high = range_mm
    return low <= distance_px * spacing_mm[1] <= high


def holds_hip(spacing_mm: Spacing, shape: tuple[int, int], geometry: CropGeometry) -> bool:
    """Say whether a film (H, W) is then as long as a crop of one hip, at least along one side."""
    return max(shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]) >= geometry.crop_mm


def agrees_with_marks(
    spacing_mm: Spacing, given: Sequence[GivenHip], range_mm: tuple[float, float]
) -> bool:
    """Say whether a spacing is credible by the radii and the distance of marked heads."""
    radii = [hip.radius_px * HEAD_DISTANCE_MM / HEAD_RADIUS_MM for hip in given if hip.radius_px]
    distance_px = marked_distance_px(given)
    distances_px = radii + ([distance_px] if distance_px else [])
    return all(is_credible(spacing_mm, distance, range_mm) for distance in distances_px)


def by_distance(distance_px: float) -> Spacing:
    """Return the spacing of square pixels that puts the heads an adult's distance apart."""
    mm = HEAD_DISTANCE_MM / distance_px
    return mm, mm


def by_marks(given: Sequence[GivenHip], geometry: CropGeometry) -> Spacing | None:
    """Return the spacing by what a person marked; None where that has no size.

    In this order: the side of a box, which is what the network is to see; the radius of a head;
    the distance between two centres. Of two boxes or radii their mean counts.
    """
    sides = [max(h.marked.width, h.marked.height) for h in given if isinstance(h.marked, Box)]
    radii = [hip.radius_px for hip in given if hip.radius_px]
    distance_px = marked_distance_px(given)
    if sides:
        mm = geometry.crop_mm / float(np.mean(sides))
    elif radii:
        mm = HEAD_RADIUS_MM / float(np.mean(radii))
    elif distance_px:
        return by_distance(distance_px)
    else:
        return None
    return mm, mm


def marked_distance_px(given: Sequence[GivenHip]) -> float | None:
    """Return the distance between two marked centres in pixels; None where there are not two."""
    centres = [hip.marked for hip in given if not isinstance(hip.marked, Box)]
    return math.dist(*centres) if len(centres) == 2 else None


def by_film(shape: tuple[int, int]) -> Spacing:
    """Guess the spacing of a film (H, W) by the widths that films usually have."""
    height, width = shape
    film_mm = PELVIC_FILM_WIDTH_MM if width >= height else SINGLE_HIP_FILM_WIDTH_MM
    return film_mm / width, film_mm / width
