"""Crops of simulated hips in other appearances, so that a network does not learn the simulation.

What simulated crops lack is taken from real ones: their fine texture, their spectrum and their
histogram. Technique, soft tissue, collimation and resolution change at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hipedge.imaging.prepare import to_bytes
from hipedge.train.appearance import (
    Appearance,
    Pixels,
    add_markers,
    add_shading,
    add_soft_tissue,
    change_tone_curve,
    enhance_edges,
    equalise_contrast,
    stretched,
    within_film,
)
from hipedge.train.augment import Strength, augment

# Real fine texture is what a Gaussian of one of these sigmas (pixels) removes, within this limit.
TEXTURE_SIGMAS = (2.0, 4.0, 8.0, 14.0)
TEXTURE_LIMIT = 40.0
# How films lie: at another scale than a labelled crop, since few have a ruler.
STRENGTH = Strength(scale=0.15, shift=0.06, noise=10.0, holes=1)


@dataclass(frozen=True, eq=False)
class Restyle:
    """An augmentation of crops uint8 (S, S): another appearance for `share` of them.

    Every crop is moved, toned and degraded too. `appearance` are real crops of the same size.
    """

    appearance: Appearance | None
    share: float
    strength: Strength = STRENGTH

    def __call__(
        self, pixels: Pixels, mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Pixels, NDArray[np.bool_]]:
        """Return one crop in another appearance, its contrast stretched as in screening.

        The mask (S, S) of its lesion follows its position.
        """
        if rng.uniform() < self.share:
            pixels = self._restyled(pixels, rng)
        if rng.uniform() < 0.15:
            pixels = collimate(pixels, rng)
        if rng.uniform() < 0.35:
            pixels = lower_resolution(pixels, rng)
        film = np.where(pixels > 0, pixels, np.nan).astype(np.float32)
        return augment(to_bytes(film), mask & (pixels > 0), rng, self.strength)

    def _restyled(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        pixels = stretched(pixels)
        if self.appearance is not None and rng.uniform() < 0.55:
            pixels = add_texture(pixels, self.appearance, rng)
        if rng.uniform() < 0.5:
            pixels = add_trabeculae(pixels, rng)
        if rng.uniform() < 0.3:
            pixels = add_soft_tissue(pixels, rng)
        if rng.uniform() < 0.35:
            pixels = (enhance_edges, equalise_contrast)[int(rng.integers(2))](pixels, rng)
        if rng.uniform() < 0.35:
            pixels = add_shading(pixels, rng)
        if self.appearance is not None and rng.uniform() < 0.5:
            pixels = self.appearance.transfer(pixels, rng)
        elif rng.uniform() < 0.2:
            pixels = change_tone_curve(pixels, rng)
        return add_markers(pixels, rng) if rng.uniform() < 0.15 else pixels


def add_texture(pixels: Pixels, appearance: Appearance, rng: np.random.Generator) -> Pixels:
    """Add the fine texture of a part of a real crop, turned at random: grain, folds, gas."""
    image = Image.fromarray(appearance.images[rng.integers(len(appearance.images))])
    side = int(len(pixels) * rng.uniform(0.4, 0.95))
    left, top = (int(start) for start in rng.integers(0, image.width - side + 1, 2))
    part = image.crop((left, top, left + side, top + side))
    part = part.resize((len(pixels), len(pixels)), Image.Resampling.BILINEAR)
    texture = np.asarray(part, np.float32)
    blurred = part.filter(ImageFilter.GaussianBlur(float(rng.choice(TEXTURE_SIGMAS))))
    # The edge of a film is no texture.
    texture = np.clip(texture - np.asarray(blurred, np.float32), -TEXTURE_LIMIT, TEXTURE_LIMIT)
    texture = np.rot90(texture, int(rng.integers(4)))
    if rng.uniform() < 0.5:
        texture = texture[:, ::-1]
    return within_film(pixels + rng.uniform(0.2, 0.8) * texture, pixels > 0)


def add_trabeculae(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add band-limited noise, coarser along one axis, where bone is bright."""
    size = len(pixels)
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    sigma = rng.uniform(0.5, 1.0)
    along = sigma * rng.uniform(1.0, 2.5)
    low_pass = np.exp(-2 * np.pi**2 * ((along * y) ** 2 + (sigma * x) ** 2))
    too_low = np.exp(-2 * np.pi**2 * (3 * sigma) ** 2 * (x**2 + y**2))
    noise = np.fft.rfft2(rng.standard_normal((size, size))) * (low_pass - low_pass * too_low)
    grain = np.fft.irfft2(noise, s=(size, size))
    bone = np.clip((pixels.astype(np.float32) - 60) / 100, 0, 1)
    return within_film(pixels + rng.uniform(2, 11) * grain / grain.std() * bone, pixels > 0)


def collimate(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Blacken a strip along one or two edges, as beyond a film or its collimation."""
    collimated, size = np.array(pixels), len(pixels)
    for edge in rng.choice(4, size=rng.integers(1, 3), replace=False):
        width = int(rng.uniform(0.03, 0.25) * size)
        strip = slice(None, width) if edge % 2 else slice(size - width, None)
        collimated[(strip, slice(None)) if edge < 2 else (slice(None), strip)] = 0
    return collimated


def lower_resolution(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Sample a crop as coarsely as a small film, and enlarge it again."""
    size, coarse = len(pixels), int(len(pixels) * rng.uniform(0.4, 0.9))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    small = image.resize((coarse, coarse), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))
