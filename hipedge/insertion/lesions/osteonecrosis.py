"""Osteonecrosis of the femoral head of ARCO stage 2 to 4 on a real hip.

The parameters are those of the phantoms (`hipedge.phantom.lesions.osteonecrosis`). Factors that
apply to cancellous bone there are applied to the femur's layer here.
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.hip import Hip
from hipedge.insertion.lesions.arthritis import paint_arthritis
from hipedge.insertion.lesions.femur import sunk_head
from hipedge.insertion.lesions.painting import bell, capped, ramp, sector, trabecular
from hipedge.insertion.sampling import Image, smooth_noise
from hipedge.phantom.lesions.osteonecrosis import Osteonecrosis, draw_osteonecrosis

SHARE_WHOLE_HEAD = 0.2


def insert_osteonecrosis(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    """Return the image with osteonecrosis of grade `arco2`, `arco3a`, `arco3b` or `arco4`."""
    signs = draw_osteonecrosis(grade, rng)
    found = hip.found
    distance, _ = hip.polar
    flat = (image.shape[0], image.shape[1])
    radius, scale = found.radius_px, hip.px_per_mm
    bearing = float(np.radians(-90.0 - signs.direction_deg))
    on_head = ramp(radius - distance, -0.8, 1.2)
    from_edge = _from_edge(hip, signs, bearing, rng)
    if grade != "arco2" and rng.random() < SHARE_WHOLE_HEAD:
        segment = on_head * ramp(smooth_noise(rng, flat, radius / 2), -1.6, 0.2)
    else:
        segment = ramp(-from_edge, -2.0, 3.0) * on_head
    bone = np.maximum(image - hip.soft, 20.0)
    mottled = 0.55 * trabecular(rng, image.shape, 5.0) + 0.6 * smooth_noise(rng, flat, 8.0)
    # The drawn lucency, in some cases with additional sclerosis.
    dense = rng.uniform(0.15, 0.6) if rng.random() < 0.6 else 0.0
    lucency = 0.6 * (signs.lucency - 1.0) + dense
    content = lucency + 1.1 * signs.patchiness * mottled
    broken = ramp(smooth_noise(rng, flat, 9.0), -1.3, 0.3)
    width = max(signs.rim_mm, 1.0) * scale
    rim = bell(from_edge, 0.5 * width, 0.9 * width) * on_head * broken
    painted = bone * (0.65 * segment * content + 0.38 * (signs.rim - 1.0) * rim)
    image = capped(image + painted, image)
    if signs.crescent_mm:
        image = _crescent(hip, image, signs, bearing, bone, rng)
    if signs.depression_mm:
        half = 2 * np.arcsin(min(signs.segment_mm * scale / 2 / radius, 1.0))
        depth = signs.depression_mm * scale
        image = sunk_head(hip, image, bearing, 0.75 * float(half), depth, rng)
    return paint_arthritis(hip, image, signs.secondary, rng) if signs.secondary else image


def _from_edge(hip: Hip, signs: Osteonecrosis, bearing: float, rng: np.random.Generator) -> Image:
    """Return the distance of each pixel from the segment's edge, negative inside, in pixels."""
    found = hip.found
    centre = found.head + found.radius_px * np.array([np.cos(bearing), np.sin(bearing)])
    shape = hip.canvas.pixels.shape
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(centre[0])
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    around = np.arctan2(dy, dx)
    edge = 1.0 + sum(a * np.cos((k + 2) * around + 3.0 * k) for k, a in enumerate(signs.waviness))
    rough = 1.6 * smooth_noise(rng, (shape[0], shape[1]), 9.0)
    return np.asarray(
        np.hypot(dx, dy) - signs.segment_mm * hip.px_per_mm * edge + rough, np.float32
    )


def _crescent(
    hip: Hip,
    image: Image,
    signs: Osteonecrosis,
    bearing: float,
    bone: Image,
    rng: np.random.Generator,
) -> Image:
    """Draw the crescent sign: a lucent line under the head's surface."""
    distance, angle = hip.polar
    flat = (image.shape[0], image.shape[1])
    depth = rng.uniform(1.8, 3.6) * hip.px_per_mm
    wavy = 0.7 * smooth_noise(rng, flat, 8.0)
    width = max(0.55 * signs.crescent_mm * hip.px_per_mm, 0.7)
    line = bell(hip.found.radius_px - distance + wavy, depth, width)
    half = np.radians(rng.uniform(14, 32))
    visible = rng.uniform(0.3, 0.75) * ramp(smooth_noise(rng, flat, 10.0), -1.6, 0.0)
    return np.asarray(image - bone * visible * line * sector(angle, bearing, half), np.float32)
