"""Osteoarthritis of Kellgren–Lawrence grade 1 to 4 on a real hip.

The parameters are those of the phantoms (`hipedge.phantom.lesions.arthritis`).
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.contour import Floats
from hipedge.insertion.hip import Hip, distance_from
from hipedge.insertion.landmarks import ROOF_ARC_DEG
from hipedge.insertion.lesions.femur import femur_layer, shifted_femur, sunk_head, without_femur
from hipedge.insertion.lesions.painting import (
    bell,
    blob,
    capped,
    pulled,
    ramp,
    sector,
    trabecular,
)
from hipedge.insertion.sampling import Image, blurred, smooth_noise, warped
from hipedge.phantom.lesions.arthritis import Arthritis, draw_arthritis
from hipedge.phantom.lesions.base import draw_doubtful

USUAL_SPACE_MM = 4.2


def insert_arthritis(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the image with osteoarthritis of grade `kl2`, `kl3` or `kl4`."""
    return paint_arthritis(hip, image, draw_arthritis(grade, rng), rng)


def insert_doubtful(hip: Hip, image: Image, rng: np.random.Generator) -> Image:
    """Return the image with Kellgren–Lawrence grade 1: one doubtful sign, which is normal."""
    sign = draw_doubtful(rng)
    if sign.osteophyte_mm:
        return _head_osteophytes(hip, image, sign.osteophyte_mm, rng)
    return _narrowed(hip, image, sign.space_mm, float(rng.normal(5, 12)), 0.0, rng)


def paint_arthritis(hip: Hip, image: Image, signs: Arthritis, rng: np.random.Generator) -> Image:
    """Return the image with these signs.

    The femur is moved last, so that the signs painted on it move with it.
    """
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
    """Convert an angle from the vertical (lateral positive) to a bearing; lateral is left."""
    return float(np.radians(-90.0 - direction_deg))


def _roof_px(hip: Hip, bearing: float) -> float:
    """Return the distance of the roof from the head's centre at a bearing, in pixels."""
    return float(np.interp(np.degrees(bearing), ROOF_ARC_DEG, hip.found.roof_px))


def _narrowed(
    hip: Hip,
    image: Image,
    narrowest_mm: float,
    direction_deg: float,
    wear_mm: float,
    rng: np.random.Generator,
) -> Image:
    """Move the femur towards the roof until the joint space is `narrowest_mm`, or into it."""
    bearing = _bearing(direction_deg)
    space_px = np.clip(_roof_px(hip, bearing) - hip.found.radius_px, 3.5, 9.0)
    # The circle and the roof are located at the middle of their blurred edges, so the loss of joint
    # space is applied as a fraction of the measured width.
    lost = np.clip(1.0 - narrowest_mm / USUAL_SPACE_MM, 0.0, 1.0)
    way = 1.2 * float(space_px * lost) + 0.5 * wear_mm * hip.px_per_mm
    shift = way * np.array([np.cos(bearing), np.sin(bearing)])
    if way < 0.05:
        return image
    return shifted_femur(hip, image, shift, rng)


def _sclerosis(
    hip: Hip, image: Image, bearing: float, depth_mm: float, rng: np.random.Generator
) -> Image:
    """Add sclerosis on both sides of the joint, strongest at the narrowest point."""
    distance, angle = hip.polar
    depth = max(depth_mm, 0.3) * hip.px_per_mm
    strength = (16.0 + 12.0 * depth_mm) * rng.uniform(0.55, 1.3)
    about = sector(angle, bearing + rng.normal(0, 0.12), rng.uniform(0.55, 1.0))
    uneven = 1.0 + 0.4 * blurred(trabecular(rng, image.shape), hip.blur_px)
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
    """Add a subchondral cyst with a dense rim, within the bone beside the joint."""
    bearing = _bearing(angle_deg)
    radius = 0.5 * diameter_mm * hip.px_per_mm
    gap = radius * rng.uniform(1.1, 1.7)
    if in_socket:
        reach = _roof_px(hip, bearing) + gap
        # There is no bone lateral to the roof's edge.
        bearing = max(bearing, float(np.radians(hip.found.roof_edge_deg)) + 1.6 * radius / reach)
    else:
        reach = hip.found.radius_px - gap
    centre = hip.found.head + reach * np.array([np.cos(bearing), np.sin(bearing)])
    rough = 0.15 * smooth_noise(rng, (image.shape[0], image.shape[1]), max(radius, 2.0))
    deep = blob(
        image.shape, centre, (radius, radius * rng.uniform(0.6, 1.0)), rng.uniform(0, 3), rough
    )
    hole = ramp(deep, -0.1, 0.45)
    rim = bell(deep, -0.12, 0.25)
    visible = 0.006 * _level_at(image, centre)
    depth, edge = rng.uniform(12, 36), rng.uniform(3, 18)
    return np.asarray(image + visible * (edge * rim - depth * hole), np.float32)


def _level_at(image: Image, at: Floats, reach: int = 7) -> float:
    """Return the median brightness around a point (2,)."""
    x, y = (int(np.clip(round(v), 0, n - 1)) for v, n in zip(at, image.shape[::-1], strict=True))
    return float(np.median(image[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]))


def _head_osteophytes(hip: Hip, image: Image, height_mm: float, rng: np.random.Generator) -> Image:
    """Add beak-like osteophytes at the head–neck junction, inferomedially and superolaterally.

    The bone surface, including its cortex, is stretched in the femur's layer.
    """
    found = hip.found
    distance, angle = hip.polar
    neck = float(np.arctan2(found.neck_axis[1], found.neck_axis[0]))
    out = np.zeros(image.shape, np.float32)
    for side, share in ((-1.0, 1.0), (1.0, 0.75)):
        if rng.random() < 0.1:
            continue
        height = height_mm * share * rng.uniform(0.7, 1.3) * hip.px_per_mm
        bearing = neck + side * rng.uniform(0.75, 1.15)
        reach = found.radius_px * rng.uniform(0.9, 1.05)
        beak = sector(angle, bearing, rng.uniform(0.16, 0.3)) ** 0.5
        out += height * beak * bell(distance, reach + 0.5 * height, 0.35 * found.radius_px)
    if not out.any():
        return image
    layer = pulled(femur_layer(hip, image), found.head, -out)
    # New bone is slightly denser than the soft tissue included in the stretched layer.
    grown = ramp(out, 1.0, 4.0) * bell(distance, found.radius_px, 0.3 * found.radius_px)
    layer = layer + rng.uniform(2, 12) * grown * ramp(layer, 4.0, 20.0)
    return capped(without_femur(hip, image) + layer, image)


def _rim_osteophyte(hip: Hip, image: Image, height_mm: float, rng: np.random.Generator) -> Image:
    """Extend the lateral edge of the roof outwards and slightly downwards, without the femur."""
    height = height_mm * rng.uniform(0.8, 1.4) * hip.px_per_mm
    bearing = float(np.radians(hip.found.roof_edge_deg + rng.uniform(2, 8)))
    edge = hip.found.head + (_roof_px(hip, bearing) + 2.0) * np.array(
        [np.cos(bearing), np.sin(bearing)]
    )
    towards = np.array([-0.93, 0.37 + rng.normal(0, 0.15)])
    tip = edge + 0.6 * height * towards
    near = bell(distance_from(image.shape, tip[0], tip[1]), 0.0, 0.9 * height + 3.0)
    dx, dy = (np.asarray(-height * towards[k] * near, np.float32) for k in range(2))
    rest = warped(without_femur(hip, image), dx, dy)
    dense = rng.uniform(4, 16) * bell(distance_from(image.shape, *tip), 0.0, 0.5 * height + 1.5)
    return capped(rest + dense + femur_layer(hip, image), image)
