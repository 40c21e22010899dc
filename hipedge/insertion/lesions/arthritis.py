"""Osteoarthritis of Kellgren–Lawrence grade 1 to 4 on a real hip.

The measures are those of the phantoms' (`hipedge.phantom.lesions.arthritis`).
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.hip import Hip
from hipedge.insertion.landmarks import ROOF_ARC_DEG
from hipedge.insertion.lesions.femur import shifted_femur, sunk_head
from hipedge.insertion.lesions.painting import (
    bell,
    blob,
    capped,
    ramp,
    sector,
    trabecular,
)
from hipedge.insertion.sampling import Image, smooth_noise
from hipedge.phantom.lesions.arthritis import Arthritis, draw_arthritis
from hipedge.phantom.lesions.base import draw_doubtful

USUAL_SPACE_MM = 4.2


def insert_arthritis(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the film with osteoarthritis of `kl2`, `kl3` or `kl4`."""
    return paint_arthritis(hip, image, draw_arthritis(grade, rng), rng)


def insert_doubtful(hip: Hip, image: Image, rng: np.random.Generator) -> Image:
    """Return the film with Kellgren–Lawrence 1: one doubtful sign, which is normal."""
    sign = draw_doubtful(rng)
    if sign.osteophyte_mm:
        return _head_osteophytes(hip, image, sign.osteophyte_mm, rng)
    return _narrowed(hip, image, sign.space_mm, float(rng.normal(5, 12)), 0.0, rng)


def paint_arthritis(hip: Hip, image: Image, signs: Arthritis, rng: np.random.Generator) -> Image:
    """Return the film with these signs, the femur moved last so that its own signs go along."""
    bearing = _bearing(signs.direction_deg)
    if signs.flattening_mm:
        image = sunk_head(hip, image, bearing, 0.7, signs.flattening_mm * hip.px_per_mm, rng)
    image = _sclerosis(hip, image, bearing, signs.sclerosis_mm, rng)
    for cyst in signs.cysts:
        image = _cyst(hip, image, cyst.angle_deg, cyst.diameter_mm, cyst.in_socket, rng)
    image = _head_osteophytes(hip, image, signs.head_osteophyte_mm, rng)
    image = _rim_osteophyte(hip, image, signs.rim_osteophyte_mm, rng)
    return _narrowed(hip, image, signs.narrowest_mm, signs.direction_deg, signs.wear_mm, rng)


def _bearing(direction_deg: float) -> float:
    """Turn an angle from the vertical, lateral positive, into a bearing: lateral is at the left."""
    return float(np.radians(-90.0 - direction_deg))


def _roof_px(hip: Hip, bearing: float) -> float:
    """Return how far the roof lies from the head's centre at a bearing."""
    return float(np.interp(np.degrees(bearing), ROOF_ARC_DEG, hip.found.roof_px))


def _narrowed(
    hip: Hip,
    image: Image,
    narrowest_mm: float,
    direction_deg: float,
    wear_mm: float,
    rng: np.random.Generator,
) -> Image:
    """Move the femur towards the roof until the space there is `narrowest_mm`, or into it."""
    bearing = _bearing(direction_deg)
    space_px = np.clip(_roof_px(hip, bearing) - hip.found.radius_px, 3.5, 9.0)
    # The circle and the roof are found at their edges' middles: what counts is how much is lost.
    lost = np.clip(1.0 - narrowest_mm / USUAL_SPACE_MM, 0.0, 1.0)
    way = float(space_px * lost) + 0.5 * wear_mm * hip.px_per_mm
    shift = way * np.array([np.cos(bearing), np.sin(bearing)])
    if way < 0.05:
        return image
    return shifted_femur(hip, image, shift, rng)


def _sclerosis(
    hip: Hip, image: Image, bearing: float, depth_mm: float, rng: np.random.Generator
) -> Image:
    """Thicken bone on both sides of the joint, most at the narrow place."""
    distance, angle = hip.polar
    depth = max(depth_mm, 0.3) * hip.px_per_mm
    strength = (16.0 + 12.0 * depth_mm) * rng.uniform(0.55, 1.3)
    about = sector(angle, bearing + rng.normal(0, 0.12), rng.uniform(0.55, 1.0))
    uneven = 1.0 + 0.35 * trabecular(rng, image.shape)
    roof = np.interp(np.degrees(angle), ROOF_ARC_DEG, hip.found.roof_px, left=np.nan, right=np.nan)
    roof = np.nan_to_num(roof, nan=hip.found.radius_px + 6.0).astype(np.float32)
    above = np.where(
        distance > roof, np.exp(-(((distance - roof) / (1.3 * depth + 1.5)) ** 2)), 0.0
    ) * ramp(distance - roof, -0.8, 0.6)
    inner = hip.found.radius_px
    below = np.where(distance < inner, np.exp(-(((inner - distance) / (depth + 1.2)) ** 2)), 0.0)
    share = rng.uniform(0.4, 0.9)
    return capped(image + strength * about * uneven * (above + share * below), image)


def _cyst(
    hip: Hip,
    image: Image,
    angle_deg: float,
    diameter_mm: float,
    in_socket: bool,
    rng: np.random.Generator,
) -> Image:
    """Hollow out a cyst with a dense rim, beside the joint."""
    bearing = _bearing(angle_deg)
    radius = 0.5 * diameter_mm * hip.px_per_mm
    gap = radius * rng.uniform(1.1, 1.7)
    reach = _roof_px(hip, bearing) + gap if in_socket else hip.found.radius_px - gap
    centre = hip.found.head + reach * np.array([np.cos(bearing), np.sin(bearing)])
    rough = 0.15 * smooth_noise(rng, (image.shape[0], image.shape[1]), max(radius, 2.0))
    deep = blob(
        image.shape, centre, (radius, radius * rng.uniform(0.6, 1.0)), rng.uniform(0, 3), rough
    )
    hole = ramp(deep, -0.1, 0.45)
    rim = bell(deep, -0.12, 0.22)
    depth, edge = rng.uniform(14, 42), rng.uniform(6, 30)
    return np.asarray(image - depth * hole + edge * rim, np.float32)


def _spur(
    hip: Hip,
    image: Image,
    base: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    towards: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    height_px: float,
    rng: np.random.Generator,
) -> Image:
    """Add a beak of bone that stands `height_px` out of a surface at `base`."""
    along = np.arctan2(towards[1], towards[0])
    width = height_px * rng.uniform(0.55, 0.95) + 1.0
    centre = base + towards * height_px * 0.3
    rough = 0.12 * smooth_noise(rng, (image.shape[0], image.shape[1]), max(height_px, 3.0))
    deep = blob(image.shape, centre, (0.9 * height_px + 1.0, width), along, rough)
    x, y = (int(np.clip(round(v), 0, n - 1)) for v, n in zip(base, image.shape[::-1], strict=True))
    local = float(np.median(image[max(y - 9, 0) : y + 10, max(x - 9, 0) : x + 10]))
    density = rng.uniform(14, 36) + 0.08 * local
    body = ramp(deep, -0.05, 0.3) * (1.0 + 0.25 * trabecular(rng, image.shape, 3.0))
    cortex = bell(deep, 0.12, 0.13)
    return capped(image + density * body + 0.45 * density * cortex, image)


def _head_osteophytes(hip: Hip, image: Image, height_mm: float, rng: np.random.Generator) -> Image:
    """Raise osteophytes where head meets neck, below and medially first, above and laterally."""
    found = hip.found
    neck = float(np.arctan2(found.neck_axis[1], found.neck_axis[0]))
    for side, share in ((-1.0, 1.0), (1.0, 0.75)):
        height = height_mm * share * rng.uniform(0.7, 1.3) * hip.px_per_mm
        if height < 0.8 or rng.random() < 0.12:
            continue
        # Just beyond where the neck begins, on either side of its axis.
        bearing = neck + side * rng.uniform(0.85, 1.15)
        out = np.array([np.cos(bearing), np.sin(bearing)])
        tangent = np.array([-out[1], out[0]]) * -side
        lean = out + rng.uniform(0.1, 0.8) * -tangent * rng.choice([-1.0, 1.0])
        image = _spur(
            hip, image, found.head + 0.98 * found.radius_px * out, lean / np.hypot(*lean),
            height, rng,
        )  # fmt: skip
    return image


def _rim_osteophyte(hip: Hip, image: Image, height_mm: float, rng: np.random.Generator) -> Image:
    """Draw the roof's lateral edge outwards and a little down."""
    height = height_mm * rng.uniform(0.7, 1.2) * hip.px_per_mm
    if height < 0.8:
        return image
    bearing = np.radians(hip.found.roof_edge_deg + rng.uniform(0, 6))
    base = hip.found.head + (_roof_px(hip, float(bearing)) + 1.5) * np.array(
        [np.cos(bearing), np.sin(bearing)]
    )
    towards = np.array([-0.93, 0.37 + rng.normal(0, 0.15)])
    return _spur(hip, image, base, towards / np.hypot(*towards), height, rng)
