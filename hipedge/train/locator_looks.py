"""How else a thumbnail might look: what techniques, processing and bodies change, and no anatomy.

Phantoms are cleaner than life, so what is learned from them must not hang on their tones. Each
sample is given another look at random; where a folder of real images is given, some take over its
spectra and histograms: their appearance, never what is on them.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hipedge.dicom import read
from hipedge.errors import InputError, Refused
from hipedge.locate.learned import make_thumbnail, stretch
from hipedge.train.augment import Strength, tone
from hipedge.train.locator_network import SEEN_PX
from hipedge.train.negatives import cloud

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

TONE = Strength(gamma=0.6, contrast=0.35, noise=12.0)
# A file's share of the lowest frequencies that are mixed, of all: Fourier domain adaptation (Yang
# and Soatto, 2020, arXiv:2004.05498) calls it β.
LARGEST_BETA = 0.05
MARKERS = "RLHDG0123456789"


class Appearance:
    """Real images whose appearance is borrowed; what is on them is not looked at.

    `thumbnails` is uint8 (N, 128, 128), as the network sees them; `digest` names them.
    """

    def __init__(self, thumbnails: NDArray[np.uint8]) -> None:
        self.thumbnails = thumbnails
        self.digest = sha256(thumbnails.tobytes()).hexdigest()

    @classmethod
    def of(cls, folder: Path) -> Appearance:
        """Read every image in a folder; raise `InputError` where there is none."""
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

    def lend(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return pixels (128, 128) with one image's low frequencies, or histogram, or both."""
        real = self.thumbnails[rng.integers(len(self.thumbnails))]
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
    return _bytes(np.fft.irfft2(spectrum, s=pixels.shape), pixels > 0)


def with_histogram(pixels: Pixels, other: Pixels) -> Pixels:
    """Return pixels with the histogram of another image, both but for what is black."""
    ours, theirs = (np.bincount(p[p > 0], minlength=256).cumsum() for p in (pixels, other))
    if not ours[-1] or not theirs[-1]:
        return pixels
    table = np.interp(ours / ours[-1], theirs / theirs[-1], np.arange(256.0))
    return _bytes(table[pixels], pixels > 0)


def another_look(
    pixels: Pixels, rng: np.random.Generator, appearance: Appearance | None = None
) -> Pixels:
    """Return a thumbnail uint8 (128, 128) as another machine and body might have shown it."""
    pixels = _stretched(pixels)
    if rng.uniform() < 0.5:
        pixels = _flesh(pixels, rng)
    if rng.uniform() < 0.6:
        pixels = (_raised, _equalised)[int(rng.integers(2))](pixels, rng)
    if rng.uniform() < 0.4:
        pixels = _shaded(pixels, rng)
    if appearance is not None and rng.uniform() < 0.5:
        pixels = appearance.lend(pixels, rng)
    elif rng.uniform() < 0.5:
        pixels = _another_curve(pixels, rng)
    if rng.uniform() < 0.3:
        image = Image.fromarray(pixels)
        pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0))))
    pixels = tone(pixels, rng, TONE)
    if rng.uniform() < 0.06:
        pixels = 255 - pixels
    return _marked(pixels, rng) if rng.uniform() < 0.5 else pixels


def _bytes(values: NDArray[np.floating], shown: NDArray[np.bool_]) -> Pixels:
    """Round and clip what is shown; black stays black, and nothing else becomes it."""
    return np.asarray(np.where(shown, np.clip(np.rint(values), 1, 255), 0), np.uint8)


def _stretched(pixels: Pixels) -> Pixels:
    """Spread the window's contrast as a film's is, but for the black beyond the film's edge."""
    shown = pixels > 0
    spread: Pixels = pixels.copy()
    if shown.any():
        spread[shown] = np.maximum(stretch(pixels[shown].astype(np.float32)), 1)
    return spread


def _blurred(values: NDArray[np.generic], radius: float) -> Array:
    image = Image.fromarray(np.asarray(values, np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(radius)), np.float32)


def _flesh(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lay the texture of bowel and flesh over a body, at all scales."""
    return _bytes(pixels + cloud(rng, len(pixels), rng.uniform(3, 22)), pixels > 0)


def _raised(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Raise local contrast by a multiple, as unsharp masking does."""
    blurred = _blurred(pixels, rng.uniform(2, 12))
    gain = rng.uniform(0.4, 2.5)
    return _bytes(blurred * rng.uniform(0.5, 1) + 40 + gain * (pixels - blurred), pixels > 0)


def _equalised(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Bring local contrast to one level, as adaptive histogram equalisation does."""
    radius = rng.uniform(5, 20)
    away = pixels - _blurred(pixels, radius)
    spread = _blurred(np.abs(away), radius) + rng.uniform(4, 15)
    level = rng.uniform(60, 140)
    equal = level + rng.uniform(20, 50) * away / spread
    part = rng.uniform(0.4, 1)
    return _bytes(part * equal + (1 - part) * pixels, pixels > 0)


def _shaded(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lay broad clouds over the film: folds, and flesh of any thickness."""
    coarse = rng.normal(0, rng.uniform(5, 40), (6, 6)).astype(np.float32)
    clouds = Image.fromarray(coarse).resize(pixels.shape, Image.Resampling.BICUBIC)
    return _bytes(pixels + np.asarray(clouds), pixels > 0)


def _another_curve(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Send gray levels along another rising curve."""
    steps = rng.dirichlet(np.full(5, 1.5))
    curve = 255 * np.concatenate([[0.0], steps.cumsum()])
    return _bytes(np.interp(pixels, np.linspace(0, 255, len(curve)), curve), pixels > 0)


def _marked(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lay over letters, and things as dark or bright as gas, coins, shields and plates."""
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
