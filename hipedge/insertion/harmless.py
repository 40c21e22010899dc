"""Harmless changes, applied to all categories so that traces of insertion are not informative.

They use the same operations as the lesions (moving the femur over filled-in tissue, depressing its
surface, painting texture and density, resampling), by amounts that no reader would call a finding.
They also add structures that can be superimposed on any hip: skin folds, gas and markers.
"""

from __future__ import annotations

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM
from hipedge.insertion.hip import Hip, mm
from hipedge.insertion.lesions.femur import shifted_femur, sunk_head
from hipedge.insertion.lesions.painting import bell, blob, ramp
from hipedge.insertion.sampling import Image, blurred, smooth_noise, warped

MOST_MOVED_MM = 0.5
MOST_TURNED_DEG = 0.6


def redrawn(hip: Hip, rng: np.random.Generator) -> Image:
    """Return the canvas of the hip with random harmless changes."""
    image = hip.canvas.pixels
    if hip.landmarks is not None:
        if rng.random() < 0.5:
            shift = rng.uniform(-1, 1, 2) * mm(MOST_MOVED_MM)
            turn = np.radians(rng.uniform(-1, 1) * MOST_TURNED_DEG)
            image = shifted_femur(hip, image, shift, rng, turn_rad=float(turn))
        if rng.random() < 0.2:
            bearing = float(rng.uniform(-2.4, -0.8))
            image = sunk_head(hip, image, bearing, rng.uniform(0.3, 1.0), rng.uniform(0, 0.7), rng)
    if rng.random() < 0.25:
        image = _pressed(image, rng)
    if rng.random() < 0.3:
        image = _textured(image, rng)
    if rng.random() < 0.3:
        image = _denser(image, rng)
    if rng.random() < 0.15:
        image = _fold(image, rng)
    if rng.random() < 0.06:
        image = _gas(image, rng)
    if rng.random() < 0.05:
        image = _marker(image, rng)
    return np.where(hip.canvas.on_film, image, 0.0).astype(np.float32)


def _somewhere(image: Image, rng: np.random.Generator, spread_mm: float = 45.0) -> Image:
    """Return a patch (0 to 1) with soft edges at a random position near the hip."""
    centre = np.array(HEAD_PX) + rng.normal([-8.0, 10.0], spread_mm / 1.6, 2) / STEP_MM
    radii = rng.uniform(8.0, 30.0, 2) / STEP_MM
    rough = 0.3 * smooth_noise(rng, (image.shape[0], image.shape[1]), 12.0)
    deep = blob(image.shape, centre, (radii[0], radii[1]), rng.uniform(0, 3), rough)
    return ramp(deep, 0.0, rng.uniform(0.2, 0.9))


def _pressed(image: Image, rng: np.random.Generator) -> Image:
    """Warp a patch by less than a millimetre."""
    flat = (image.shape[0], image.shape[1])
    patch = _somewhere(image, rng) * np.float32(rng.uniform(0.2, 1.0))
    scale = rng.uniform(10.0, 24.0)
    bend = [smooth_noise(rng, flat, scale) * patch for _ in range(2)]
    return warped(image, np.asarray(bend[0]), np.asarray(bend[1]))


def _textured(image: Image, rng: np.random.Generator) -> Image:
    """Replace part of the fine detail of a patch by that of another position, or reduce it."""
    patch = _somewhere(image, rng)
    base = blurred(image, rng.uniform(1.0, 2.2))
    own = image - base
    shift = rng.integers(-14, 15, 2)
    other = np.roll(own, (int(shift[0]), int(shift[1])), axis=(0, 1))
    keep = np.float32(rng.uniform(0.5, 0.9))
    return np.asarray(
        image + patch * ((keep - 1.0) * own + np.sqrt(1.0 - keep * keep) * other * rng.uniform())
    )


def _denser(image: Image, rng: np.random.Generator) -> Image:
    """Make a patch slightly and unevenly brighter or darker."""
    flat = (image.shape[0], image.shape[1])
    uneven = 1.0 + 0.5 * smooth_noise(rng, flat, rng.uniform(2.0, 8.0))
    return np.asarray(image + np.float32(rng.normal(0.0, 4.0)) * _somewhere(image, rng) * uneven)


def _fold(image: Image, rng: np.random.Generator) -> Image:
    """Superimpose a skin fold: slightly denser on one side, with a thin dark edge."""
    angle = rng.normal(0.35, 0.5)
    centre = np.array(HEAD_PX) + rng.normal([0.0, 35.0], [40.0, 35.0]) / STEP_MM
    dx = np.arange(image.shape[1], dtype=np.float32)[None] - np.float32(centre[0])
    dy = np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    along = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
    across = np.float32(np.cos(angle)) * dy - np.float32(np.sin(angle)) * dx
    across = across + np.float32(rng.uniform(-0.0015, 0.0015)) * along * along
    dense = rng.uniform(2.0, 9.0) * ramp(across, -1.5, 1.5) * np.exp(-np.maximum(across, 0) / 60.0)
    edge = rng.uniform(0.0, 8.0) * bell(across, -1.5, 1.6)
    return np.asarray(image + (dense - edge) * bell(along, 0.0, rng.uniform(60, 220)), np.float32)


def _gas(image: Image, rng: np.random.Generator) -> Image:
    """Superimpose a few gas bubbles in the region of the bowel."""
    out = image
    for _ in range(int(rng.integers(1, 5))):
        centre = np.array(HEAD_PX) + rng.normal([45.0, -15.0], [14.0, 22.0]) / STEP_MM
        radii = rng.uniform(4.0, 14.0, 2) / STEP_MM
        rough = 0.2 * smooth_noise(rng, (image.shape[0], image.shape[1]), 12.0)
        deep = blob(image.shape, centre, (radii[0], radii[1]), rng.uniform(0, 3), rough)
        out = np.asarray(out - rng.uniform(8, 30) * ramp(deep, 0.0, 0.35), np.float32)
    return out


def _marker(image: Image, rng: np.random.Generator) -> Image:
    """Superimpose a metal bead, ring or bar on the soft tissue beside the hip."""
    away = rng.uniform(45.0, 85.0) / STEP_MM
    bearing = rng.uniform(3.4, 4.6) if rng.random() < 0.6 else rng.uniform(0.5, 1.2)
    centre = np.array(HEAD_PX) + away * np.array([np.cos(bearing), np.sin(bearing)])
    smooth = np.zeros(image.shape, np.float32)
    kind = rng.integers(3)
    if kind == 2:
        radii = (rng.uniform(4, 10) / STEP_MM, rng.uniform(1.0, 2.0) / STEP_MM)
    else:
        radii = (rng.uniform(2.0, 6.0) / STEP_MM,) * 2
    deep = blob(image.shape, centre, radii, rng.uniform(0, 3), smooth)
    shadow = ramp(deep, 0.0, 1.2 / min(radii))
    if kind == 1:
        shadow = shadow - ramp(deep, 0.35, 0.35 + 1.2 / min(radii))
    white = rng.uniform(230, 300)
    return np.asarray(image + (white - image) * rng.uniform(0.7, 1.0) * shadow, np.float32)
