"""Trabecular texture: density fields on a grid, in a plane through a bone.

At the resolution of a radiograph, trabeculae of the hip overlap to an irregular grain, only
slightly longer along the trabecular groups than across. A few longer strands stand out.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hipedge.phantom.compiled import compiled_fast

Image = NDArray[np.float32]

GRID_MM = 0.5
# Half-lengths of the grain and of the strands, and how strongly their directions vary, in radians.
GRAIN_PX = 1
STRAND_PX = 6
SCATTER = 0.5
GRAIN_SHARE = 0.85
# Standard deviation of the filter that removes what is coarser than trabeculae.
COARSE_PX = 1.8


def axes(
    shape: tuple[int, ...], corner_mm: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the coordinates x (1, w) and y (h, 1) of a grid's pixels, in mm."""
    x = corner_mm[0] + (np.arange(shape[1], dtype=np.float32) + 0.5) * GRID_MM
    y = corner_mm[1] + (np.arange(shape[0], dtype=np.float32) + 0.5) * GRID_MM
    return x[None, :], y[:, None]


def trabeculae(rng: np.random.Generator, angle: Image) -> Image:
    """Return a field (h, w) of grain and strands along `angle` (h, w), with unit variance."""
    shape = angle.shape
    bent = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2.0)
    bent = angle + np.float32(SCATTER) * bent / bent.std()
    grain = _threads(rng.standard_normal(shape, dtype=np.float32), bent, GRAIN_PX)
    strands = _threads(rng.standard_normal(shape, dtype=np.float32), angle, STRAND_PX)
    field = GRAIN_SHARE * grain + math.sqrt(1.0 - GRAIN_SHARE**2) * strands
    return np.asarray(field / field.std(), np.float32)


@lru_cache(maxsize=1)
def _undirected() -> Image:
    """Return trabeculae and patches (2, h, w) without preferred direction, once per process."""
    rng = np.random.default_rng(1)
    shape = (1200, 1200)
    wander = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 40.0)
    field = trabeculae(rng, (wander / wander.std() * 1.2).astype(np.float32))
    patches = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 6.0)
    return np.stack([field, patches / patches.std()])


def undirected(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Image, Image]:
    """Return random windows of the given shape from precomputed trabeculae and patches."""
    fields = _undirected()
    row = rng.integers(fields.shape[1] - shape[0])
    column = rng.integers(fields.shape[2] - shape[1])
    field, patches = fields[:, row : row + shape[0], column : column + shape[1]]
    return field, patches


def patches(rng: np.random.Generator, shape: tuple[int, ...], size_mm: float) -> Image:
    """Return a smooth random field (h, w) whose patches are about `size_mm`, with unit variance."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), size_mm / GRID_MM)
    return np.asarray(field / field.std(), np.float32)


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """Return random low-frequency variations of density (h, w), which differ between bones."""
    x, y = axes(shape, (0.0, 0.0))
    total = np.zeros(shape, np.float32)
    for _ in range(3):
        angle, phase = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
        k, height = 2 * math.pi / rng.uniform(35.0, 120.0), rng.uniform(0.0, 0.12)
        across, down = k * math.cos(angle) * x + phase, k * math.sin(angle) * y
        # sin(across + down), without evaluating a sine per pixel.
        total += (height * np.sin(across)) * np.cos(down)
        total += (height * np.cos(across)) * np.sin(down)
    return total


@compiled_fast
def _line_integral(noise: Image, cosine: Image, sine: Image, reach: int) -> Image:
    """Sum noise along a direction field (Cabral, Leedom. SIGGRAPH 1993:263–270)."""
    height, width = noise.shape
    total = np.zeros_like(noise)
    for i in range(height):
        for j in range(width):
            value = noise[i, j]
            for direction in (-1.0, 1.0):
                x, y = j + 0.5, i + 0.5
                for _ in range(reach):
                    p, q = int(x), int(y)
                    x += direction * cosine[q, p]
                    y += direction * sine[q, p]
                    if x < 0 or y < 0 or x >= width or y >= height:
                        break
                    value += noise[int(y), int(x)]
            total[i, j] = value
    return total


def _threads(noise: Image, angle: Image, reach: int) -> Image:
    """Return high-pass filtered threads along `angle` (h, w), with unit variance."""
    lines = _line_integral(noise, np.cos(angle), np.sin(angle), reach)
    lines = lines - gaussian_filter(lines, COARSE_PX)
    return np.asarray(lines / lines.std(), np.float32)
