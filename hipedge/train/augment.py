"""Augmentation of crops and thumbnails: variation between radiographs unrelated to disease.

There are no horizontal flips: every hip is presented as a right hip, and a flip would make it a
left one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Strength:
    """The largest change of each property.

    `rotate_deg` is in degrees; `scale` and `shift` are fractions of the side; `gamma` and
    `contrast` are relative changes; `noise` is in gray levels. `blur_px` is the sigma of a
    Gaussian; `sharpen` and `equalise` are the fractions of edge contrast and of local contrast that
    are added; `shading` is a fraction of the brightness. `holes` is the largest number of holes,
    each up to `hole` times the side. Half of the samples have noise, half shading and half holes; a
    quarter each are blurred, sharpened and equalised.
    """

    rotate_deg: float = 12.0
    scale: float = 0.12
    shift: float = 0.06
    gamma: float = 0.4
    contrast: float = 0.25
    noise: float = 8.0
    blur_px: float = 1.2
    sharpen: float = 1.5
    equalise: float = 0.8
    shading: float = 0.2
    holes: int = 2
    hole: float = 0.2


def augment(
    square: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
    strength: Strength,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a sample uint8 (S, S) with changed position, exposure technique and processing.

    A mask (S, S) takes the same position; of what is cut out of the sample nothing is marked.
    """
    place = _drawn_place(len(square), rng, strength)
    moved = _process(_moved(square, place, Image.Resampling.BILINEAR), rng, strength)
    pixels = tone(np.asarray(moved), rng, strength)
    marked = np.array(mask)
    if mask.any():
        # Nearest neighbours keep it binary. Pillow does so for bytes, not for bits.
        image = _moved(mask.astype(np.uint8), place, Image.Resampling.NEAREST)
        marked = np.asarray(image).astype(bool)
    if rng.uniform() < 0.5:
        pixels = _shade(pixels, rng, strength)
    if rng.uniform() < 0.5:
        for hole in _holes(len(square), rng, strength):
            pixels[hole], marked[hole] = rng.integers(256), False
    return pixels, marked


def _drawn_place(
    size: int, rng: np.random.Generator, strength: Strength
) -> tuple[float, float, float, float, float, float]:
    """Draw rotation and scale about the centre, and a shift, as the affine map to the original."""
    angle = np.radians(rng.uniform(-1, 1) * strength.rotate_deg)
    zoom = np.exp(rng.uniform(-1, 1) * strength.scale)
    shift_x, shift_y = rng.uniform(-1, 1, 2) * strength.shift * size
    cos, sin, half = np.cos(angle) / zoom, np.sin(angle) / zoom, size / 2
    return (
        cos, -sin, half - cos * (half + shift_x) + sin * (half + shift_y),
        sin, cos, half - sin * (half + shift_x) - cos * (half + shift_y),
    )  # fmt: skip


def _moved(
    square: NDArray[np.uint8],
    place: tuple[float, float, float, float, float, float],
    resampling: Image.Resampling,
) -> Image.Image:
    """Resample an image (S, S) at a drawn place; pixels outside the original become black."""
    image = Image.fromarray(square)
    return image.transform(image.size, Image.Transform.AFFINE, place, resampling)


def _process(image: Image.Image, rng: np.random.Generator, strength: Strength) -> Image.Image:
    """Apply none or one of blurring, sharpening and local contrast enhancement.

    They imitate detectors and image processing.
    """
    kind = rng.integers(4)
    if kind == 0:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, strength.blur_px)))
    if kind == 1:
        percent = round(100 * rng.uniform(0.2, strength.sharpen))
        return image.filter(ImageFilter.UnsharpMask(rng.uniform(0.7, 2.0), percent, 0))
    if kind == 2:
        percent = round(100 * rng.uniform(0.2, strength.equalise))
        radius = image.width * rng.uniform(0.06, 0.15)
        return image.filter(ImageFilter.UnsharpMask(radius, percent, 0))
    return image


def _shade(
    pixels: NDArray[np.uint8], rng: np.random.Generator, strength: Strength
) -> NDArray[np.uint8]:
    """Apply a brightness gradient, as scatter and the anode heel effect do."""
    along = np.linspace(-1, 1, len(pixels))
    x, y = rng.uniform(-1, 1, 2) * strength.shading
    shaded = pixels * (1 + x * along + y * along[:, None])
    return np.asarray(np.clip(np.rint(shaded), 0, 255), np.uint8)


def tone(
    pixels: NDArray[np.uint8], rng: np.random.Generator, strength: Strength
) -> NDArray[np.uint8]:
    """Change gamma, contrast and brightness, and add noise to half of the samples."""
    gamma = np.exp(rng.uniform(-1, 1) * strength.gamma)
    contrast = 1 + rng.uniform(-1, 1) * strength.contrast
    brightness = rng.uniform(-1, 1) * strength.contrast * 0.5
    levels = np.linspace(0, 1, 256) ** gamma
    table = (((levels - 0.5) * contrast + 0.5 + brightness) * 255).astype(np.float32)
    values = np.where(pixels > 0, table[pixels], 0)
    if rng.uniform() < 0.5:
        sigma = rng.uniform(0, strength.noise)
        values += sigma * _grain(values.shape, rng)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return noise of unit variance, with a grain of one or two pixels."""
    noise = rng.standard_normal(shape, np.float32)
    if rng.uniform() < 0.5:
        return noise
    beside = np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    return np.asarray((noise + beside) / 2, np.float32)


def _holes(
    size: int, rng: np.random.Generator, strength: Strength
) -> Iterator[tuple[slice, slice]]:
    """Draw rectangles to cut out: DeVries and Taylor, 2017, arXiv:1708.04552."""
    for _ in range(rng.integers(1, strength.holes + 1)):
        height, width = (int(part * size) for part in rng.uniform(0.05, strength.hole, 2))
        y, x = int(rng.integers(size - height)), int(rng.integers(size - width))
        yield slice(y, y + height), slice(x, x + width)
