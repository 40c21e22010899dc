"""Building blocks for painting bone on an image: ramps, sectors, bells, blobs and texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.insertion.sampling import Image, smooth_noise, warped

WHITE = 255.0


def ramp(values: NDArray[np.floating], low: float, high: float) -> Image:
    """Return 0 below `low`, 1 above `high`, and linear values in between."""
    return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0), np.float32)


def sector(bearing: Image, middle: float, half_width: float) -> Image:
    """Return a flat-topped weight: 1 at a bearing, falling to 1/e at `half_width` (radians)."""
    away = np.abs((bearing - middle + np.pi) % (2 * np.pi) - np.pi)
    return np.asarray(np.exp(-((away / half_width) ** 4)), np.float32)


def bell(values: NDArray[np.floating], middle: float, width: float) -> Image:
    """Return a Gaussian of the values, falling to 1/e at `width` from `middle`."""
    return np.asarray(np.exp(-(((values - middle) / width) ** 2)), np.float32)


def trabecular(rng: np.random.Generator, shape: tuple[int, ...], coarse_px: float = 4.0) -> Image:
    """Return a texture like that of cancellous bone, with mean 0 and variance about 1."""
    flat = (shape[0], shape[1])
    fine = smooth_noise(rng, flat, rng.uniform(1.3, 2.0))
    coarse = smooth_noise(rng, flat, coarse_px * rng.uniform(0.8, 1.3))
    return np.asarray(0.6 * fine + 0.8 * coarse)


def capped(image: NDArray[np.floating], before: Image) -> Image:
    """Compress values above the usual white of a radiograph smoothly, as its tone curve does.

    Pixels that are no brighter than in `before`, the original image, remain unchanged.
    """
    knee = np.maximum(before, WHITE)
    over = np.maximum(image - knee, 0.0)
    room = 0.25 * WHITE
    return np.asarray(np.minimum(image, knee) + room * (1.0 - np.exp(-over / room)), np.float32)


def blob(
    shape: tuple[int, ...],
    centre: NDArray[np.float64],
    radii: tuple[float, float],
    angle: float,
    roughness: Image,
) -> Image:
    """Return the depth of each pixel in a rough ellipse: 1 at its centre, 0 at its edge."""
    dx = np.arange(shape[1], dtype=np.float32)[None] - np.float32(centre[0])
    dy = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = (c * dx + s * dy) / np.float32(radii[0])
    v = (c * dy - s * dx) / np.float32(radii[1])
    return np.asarray(1.0 - np.hypot(u, v) + roughness)


def pulled(image: Image, centre: NDArray[np.float64], inwards: Image) -> Image:
    """Warp the image towards a point, by `inwards` pixels at each position."""
    dx = np.arange(image.shape[1], dtype=np.float32)[None] - np.float32(centre[0])
    dy = np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    share = (inwards / np.maximum(np.hypot(dx, dy), 1.0)).astype(np.float32)
    return warped(image, share * dx, share * dy)
