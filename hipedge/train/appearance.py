"""Random changes of appearance: technique, image processing and soft tissue, never anatomy.

Simulated radiographs are cleaner than real ones, so a network must not rely on their tones. Each
sample's appearance is changed at random; where real images are given, some samples take on their
low-frequency spectra, histograms or fine texture: their appearance, never what they show.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hipedge.dicom.read import read
from hipedge.errors import InputError, Refused
from hipedge.locate.learned import make_thumbnail, stretch
from hipedge.train.augment import Strength, tone
from hipedge.train.locator_network import SEEN_PX
from hipedge.train.negatives import cloud

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

TONE = Strength(gamma=0.6, contrast=0.35, noise=12.0)
# The largest share of the spectrum whose amplitudes are transferred: β of Fourier domain adaptation
# (Yang and Soatto, 2020, arXiv:2004.05498).
LARGEST_BETA = 0.05
MARKERS = "RLHDG0123456789"


class Appearance:
    """Real images whose appearance is transferred to simulated ones; their content is not used.

    `images` is uint8 (N, S, S), as the network sees them; `digest` is their SHA-256.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.digest = sha256(images.tobytes()).hexdigest()

    @classmethod
    def of(cls, folder: Path) -> Appearance:
        """Read thumbnails (128, 128) of all images in a folder; raise `InputError` for none."""
        thumbnails = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                radiograph = read(path)
            except Refused:
                continue
            spacing_mm = radiograph.film.spacing_mm
            thumbnails.append(make_thumbnail(radiograph.pixels, spacing_mm, SEEN_PX).pixels)
        if not thumbnails:
            raise InputError(f"no image in {folder} could be read")
        return cls(np.stack(thumbnails))

    def transfer(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return pixels (S, S) with one image's low frequencies, or histogram, or both."""
        real = self.images[rng.integers(len(self.images))]
        if rng.uniform() < 0.6:
            pixels = with_amplitudes(pixels, real, rng.uniform(0.005, LARGEST_BETA))
        if rng.uniform() < 0.6:
            pixels = with_histogram(pixels, real)
        return pixels


def with_amplitudes(pixels: Pixels, other: Pixels, beta: float) -> Pixels:
    """Return pixels (S, S) with the amplitudes of another image at its lowest frequencies."""
    reach = max(1, round(beta * len(pixels)))
    spectrum, theirs = np.fft.rfft2(pixels), np.abs(np.fft.rfft2(other))
    for rows in (slice(0, reach + 1), slice(-reach, None)):
        part = spectrum[rows, : reach + 1]
        part *= theirs[rows, : reach + 1] / np.maximum(np.abs(part), 1e-6)
    return within_film(np.fft.irfft2(spectrum, s=pixels.shape), pixels > 0)


def with_histogram(pixels: Pixels, other: Pixels) -> Pixels:
    """Return pixels with the histogram of another image, both but for what is black."""
    ours, theirs = (np.bincount(p[p > 0], minlength=256).cumsum() for p in (pixels, other))
    if not ours[-1] or not theirs[-1]:
        return pixels
    table = np.interp(ours / ours[-1], theirs / theirs[-1], np.arange(256.0))
    return within_film(table[pixels], pixels > 0)


def restyle(
    pixels: Pixels, rng: np.random.Generator, appearance: Appearance | None = None
) -> Pixels:
    """Return a thumbnail uint8 (128, 128) of another technique, processing and soft tissue."""
    pixels = stretched(pixels)
    if rng.uniform() < 0.5:
        pixels = add_soft_tissue(pixels, rng)
    if rng.uniform() < 0.6:
        pixels = (enhance_edges, equalise_contrast)[int(rng.integers(2))](pixels, rng)
    if rng.uniform() < 0.4:
        pixels = add_shading(pixels, rng)
    if appearance is not None and rng.uniform() < 0.5:
        pixels = appearance.transfer(pixels, rng)
    elif rng.uniform() < 0.5:
        pixels = change_tone_curve(pixels, rng)
    if rng.uniform() < 0.3:
        image = Image.fromarray(pixels)
        pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0))))
    pixels = tone(pixels, rng, TONE)
    if rng.uniform() < 0.06:
        pixels = 255 - pixels
    return add_markers(pixels, rng) if rng.uniform() < 0.5 else pixels


def within_film(values: NDArray[np.floating], shown: NDArray[np.bool_]) -> Pixels:
    """Round and clip within the film; outside is 0, which is no value inside it."""
    return np.asarray(np.where(shown, np.clip(np.rint(values), 1, 255), 0), np.uint8)


def stretched(pixels: Pixels) -> Pixels:
    """Stretch the contrast within the film between its percentiles."""
    shown = pixels > 0
    spread: Pixels = pixels.copy()
    if shown.any():
        spread[shown] = np.maximum(stretch(pixels[shown].astype(np.float32)), 1)
    return spread


def _blurred(values: NDArray[np.generic], radius: float) -> Array:
    image = Image.fromarray(np.asarray(values, np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(radius)), np.float32)


def add_soft_tissue(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add a texture of bowel and muscle, at all scales."""
    return within_film(pixels + cloud(rng, len(pixels), rng.uniform(3, 22)), pixels > 0)


def enhance_edges(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Multiply local contrast, as unsharp masking does."""
    blurred = _blurred(pixels, rng.uniform(2, 12))
    gain = rng.uniform(0.4, 2.5)
    return within_film(blurred * rng.uniform(0.5, 1) + 40 + gain * (pixels - blurred), pixels > 0)


def equalise_contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Equalise local contrast, as adaptive histogram equalisation does."""
    radius = rng.uniform(5, 20)
    away = pixels - _blurred(pixels, radius)
    spread = _blurred(np.abs(away), radius) + rng.uniform(4, 15)
    level = rng.uniform(60, 140)
    equal = level + rng.uniform(20, 50) * away / spread
    part = rng.uniform(0.4, 1)
    return within_film(part * equal + (1 - part) * pixels, pixels > 0)


def add_shading(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add broad smooth shading: folds, and soft tissue of varying thickness."""
    coarse = rng.normal(0, rng.uniform(5, 40), (6, 6)).astype(np.float32)
    clouds = Image.fromarray(coarse).resize(pixels.shape, Image.Resampling.BICUBIC)
    return within_film(pixels + np.asarray(clouds), pixels > 0)


def change_tone_curve(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Map gray levels by a random monotonic curve."""
    steps = rng.dirichlet(np.full(5, 1.5))
    curve = 255 * np.concatenate([[0.0], steps.cumsum()])
    return within_film(np.interp(pixels, np.linspace(0, 255, len(curve)), curve), pixels > 0)


def add_markers(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add letters, and shapes as dark or bright as gas, coins, shields and plates."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    size = len(pixels)
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0, size, 2)
        wide, high = rng.uniform(0.02, 0.16, 2) * size
        gray = int(rng.integers(256))
        kind = rng.integers(3)
        if kind == 0:
            text = "".join(rng.choice(list(MARKERS), rng.integers(1, 4)))
            draw.text((x, y), text, fill=max(gray, 160))
        elif kind == 1:
            draw.ellipse([x, y, x + wide, y + high], fill=gray)
        else:
            draw.rectangle([x, y, x + wide, y + high], fill=gray)
    return np.array(image)
