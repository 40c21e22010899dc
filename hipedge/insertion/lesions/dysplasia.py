"""Developmental dysplasia, contained or of Crowe type I to IV, on a real hip.

The parameters are those of the phantoms (`hipedge.phantom.lesions.dysplasia`). The acetabular roof
is rotated upwards about the head; the head is reduced in size and displaced laterally and upwards
together with the femur.
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.contour import Floats
from hipedge.insertion.hip import Hip, mm
from hipedge.insertion.lesions.arthritis import paint_arthritis
from hipedge.insertion.lesions.femur import Fragment, femur_layer, moved_layer, without_femur
from hipedge.insertion.lesions.painting import capped, pulled, ramp
from hipedge.insertion.sampling import Image, warped
from hipedge.phantom.lesions.dysplasia import draw_dysplasia

# The canvas, with a crop around the head, leaves no more room above: larger displacements of
# Crowe IV are limited to this.
MOST_RAISED_MM = 58.0
MOST_ROOF_TURN_DEG = 32.0


def insert_dysplasia(
    hip: Hip, image: Image, grade: str, rng: np.random.Generator
) -> tuple[Image, Floats]:
    """Return the image with dysplasia, and the displacement (2,) of the head's centre, in pixels.

    `grade` is `crowe1_contained`, `crowe1`, `crowe2`, `crowe3` or `crowe4`.
    """
    signs = draw_dysplasia(grade, rng)
    scale = hip.px_per_mm
    if signs.secondary:
        image = paint_arthritis(hip, image, signs.secondary, rng)
    raised = min(signs.raised_mm * scale, mm(MOST_RAISED_MM))
    shift = np.array([-signs.lateral_mm * scale, -raised])
    # Rotate the roof so that it covers the displaced head by the drawn centre-edge angle.
    edge = _edge(hip) - shift
    now = np.degrees(np.arctan2(-edge[0], -edge[1]))
    turn = float(np.clip(now - signs.centre_edge_deg, 0.0, MOST_ROOF_TURN_DEG))
    return _with_femur_moved(hip, image, turn, signs.head_scale, shift, rng), shift


def insert_borderline(hip: Hip, image: Image, rng: np.random.Generator) -> Image:
    """Return the image with a borderline centre-edge angle of 20° to 25°, which is normal.

    The angle is approached as far as the limited rotation of the roof allows.
    """
    edge = _edge(hip)
    now = np.degrees(np.arctan2(-edge[0], -edge[1]))
    turn = float(np.clip(now - rng.uniform(20.0, 25.0), 0.0, 14.0))
    return _with_femur_moved(hip, image, turn, 1.0, np.array([-0.4, 0.0]), rng)


def _edge(hip: Hip) -> Floats:
    """Return the position (2,) of the roof's lateral edge relative to the head's centre."""
    bearing = np.radians(hip.found.roof_edge_deg)
    reach = hip.found.radius_px + max(hip.found.space_px, 2.0)
    return reach * np.array([np.cos(bearing), np.sin(bearing)])


def _with_femur_moved(
    hip: Hip,
    image: Image,
    roof_turn_deg: float,
    head_scale: float,
    shift: Floats,
    rng: np.random.Generator,
) -> Image:
    """Return the image with the roof rotated upwards, and the femur displaced, its head scaled."""
    bone = femur_layer(hip, image)
    rest = _roof_turned(hip, without_femur(hip, image), roof_turn_deg)
    if head_scale != 1.0:
        distance, _ = hip.polar
        radius = hip.found.radius_px
        shrink = (1.0 - head_scale) * np.minimum(distance, radius)
        fading = ramp(-distance, -1.6 * radius, -radius)
        bone = pulled(bone, hip.found.head, np.asarray(shrink * fading, np.float32))
    matrix = np.array([[1.0, 0.0, -shift[0]], [0.0, 1.0, -shift[1]]])
    out = rest + moved_layer(hip, [Fragment(bone, hip.femur, matrix)], rng)
    return np.where(hip.canvas.on_film, capped(out, image), 0.0).astype(np.float32)


def _roof_turned(hip: Hip, rest: Image, degrees: float) -> Image:
    """Rotate the lateral part of the roof about the head's centre, upwards and medially."""
    if degrees < 0.1:
        return rest
    distance, angle = hip.polar
    radius = hip.found.radius_px
    x, y = hip.found.head_px
    from_vertical = -np.degrees(angle) - 90.0  # lateral positive
    width = np.float32(34.0)
    middle = np.float32(-hip.found.roof_edge_deg - 90.0)
    weight = np.exp(-(((from_vertical - middle) / width) ** 2)).astype(np.float32)
    weight *= ramp(distance, radius - 2.0, radius + 3.0)
    weight *= np.exp(-((np.maximum(distance - radius - mm(9.0), 0.0) / mm(14.0)) ** 2))
    weight *= ramp(-angle, 0.2, 0.6)
    turn = np.radians(degrees) * weight
    dx = np.arange(rest.shape[1], dtype=np.float32)[None] - np.float32(x)
    dy = np.arange(rest.shape[0], dtype=np.float32)[:, None] - np.float32(y)
    # Sample from farther laterally: anticlockwise about the head in the orientation of a right hip.
    c, s = np.cos(turn), np.sin(turn)
    return warped(
        rest,
        np.asarray(c * dx + s * dy - dx, np.float32),
        np.asarray(-s * dx + c * dy - dy, np.float32),
    )
