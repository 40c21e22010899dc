"""Drawn images without a hip, as negative samples for the locator.

They show long bones with a joint, chests, hands or only texture: silhouettes and densities at the
resolution of a thumbnail, not realistic but highly varied. None shows a pelvis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]


def draw_negative(rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """Draw one image uint8 (S, S) with bone bright."""
    draw = (_limb, _limb, draw_chest, _hand, _texture)[int(rng.integers(5))]
    picture = draw(rng, size_px) + cloud(rng, size_px, rng.uniform(5, 25))
    low, high = np.percentile(picture, (1, 99))
    levels = np.clip((picture - low) / max(high - low, 1e-6), 0, 1) ** np.exp(
        rng.uniform(-0.5, 0.5)
    )
    image = Image.fromarray((levels * 255).astype(np.uint8))
    return np.asarray(image.rotate(90 * int(rng.integers(4))))


def cloud(rng: np.random.Generator, size_px: int, strength: float) -> NDArray[np.float64]:
    """Return random texture whose power decreases with frequency as in radiographs."""
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / size_px)
    spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px)))
    field = np.fft.irfft2(spectrum * frequency ** -rng.uniform(1.0, 1.8), s=(size_px, size_px))
    return np.asarray(field / field.std() * strength)


def _texture(rng: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    ramp = np.linspace(0, rng.uniform(-60, 60), size_px)
    return cloud(rng, size_px, 40) + (ramp[:, None] if rng.uniform() < 0.5 else ramp)


class _Canvas:
    """An image to which shapes are added, with coordinates in units of its side."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self.values = np.zeros((size_px, size_px))

    def ellipse(self, centre: Point, radii: Point, value: float, blur: float = 0.004) -> None:
        box = [
            centre[0] - radii[0],
            centre[1] - radii[1],
            centre[0] + radii[0],
            centre[1] + radii[1],
        ]
        self._add(lambda d: d.ellipse([v * self.size_px for v in box], fill=255), value, blur)

    def line(self, points: list[Point], width: float, value: float, blur: float = 0.004) -> None:
        scaled = [(x * self.size_px, y * self.size_px) for x, y in points]
        pixels = max(1, round(width * self.size_px))
        self._add(lambda d: d.line(scaled, fill=255, width=pixels, joint="curve"), value, blur)

    def _add(self, shape: object, value: float, blur: float) -> None:
        image = Image.new("L", (self.size_px, self.size_px))
        shape(ImageDraw.Draw(image))  # type: ignore[operator]
        soft = image.filter(ImageFilter.GaussianBlur(blur * self.size_px))
        self.values += np.asarray(soft, np.float64) / 255 * value


def _bone(
    canvas: _Canvas, rng: np.random.Generator, start: Point, stop: Point, width: float
) -> None:
    """Draw a long bone: a shaft with bright cortices and two wider ends."""
    (x0, y0), (x1, y1) = start, stop
    length = np.hypot(x1 - x0, y1 - y0)
    across = (-(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2)
    canvas.line([start, stop], width, 60)
    for side in (-1, 1):
        dx, dy = side * across[0], side * across[1]
        canvas.line([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy)], width * rng.uniform(0.15, 0.35), 50)
    for x, y in (start, stop):
        wide = width * rng.uniform(1.0, 1.5)
        for shift in (-0.6, 0.6):
            centre = x + shift * across[0] * 2, y + shift * across[1] * 2
            canvas.ellipse(centre, (wide * 0.6, wide * 0.6), 35)


def _limb(rng: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw a knee, a leg, a forearm or an ankle: one or two bones on each side of a joint."""
    canvas = _Canvas(size_px)
    x, lean = rng.uniform(0.4, 0.6), rng.uniform(-0.12, 0.12)
    joint = rng.uniform(-0.1, 1.1)
    flesh = rng.uniform(0.25, 0.7)
    canvas.line([(x - lean, -0.1), (x, joint), (x + lean, 1.1)], flesh, 60, 0.02)
    width = rng.uniform(0.06, 0.16)
    _bone(canvas, rng, (x - lean, joint - 1.0), (x, joint - 0.02), width)
    _bone(canvas, rng, (x, joint + 0.04), (x + lean, joint + 1.1), width)
    if rng.uniform() < 0.6:
        beside = x + rng.choice([-1, 1]) * width * rng.uniform(1.0, 1.6)
        _bone(canvas, rng, (beside, joint + 0.08), (beside + lean, joint + 1.1), width * 0.5)
    return canvas.values


def draw_chest(rng: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw two dark lungs with ribs, a spine between them, a heart and a diaphragm."""
    canvas = _Canvas(size_px)
    x, wide, top = rng.uniform(0.45, 0.55), rng.uniform(0.3, 0.45), rng.uniform(-0.05, 0.15)
    canvas.ellipse((x, 0.6), (wide * 1.25, 0.75), 120, 0.02)
    for side in (-1, 1):
        lung = x + side * wide * 0.52, top + 0.38
        canvas.ellipse(lung, (wide * 0.42, 0.38), -80, 0.015)
        for rib in range(rng.integers(6, 10)):
            y = top + 0.05 + rib * 0.085
            arc = np.linspace(0, np.pi * 0.55, 12)
            points = [
                (float(x + side * wide * np.sin(a)), float(y + 0.16 * (1 - np.cos(a)))) for a in arc
            ]
            canvas.line(points, rng.uniform(0.012, 0.025), 22)
    canvas.line([(x, -0.1), (x, 1.1)], rng.uniform(0.06, 0.1), 55, 0.01)
    canvas.ellipse((x + 0.07, top + 0.55), (0.15, 0.18), 60, 0.02)
    return canvas.values


def _hand(rng: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw a hand or a foot: five rays of short bones from the wrist or the tarsus."""
    canvas = _Canvas(size_px)
    base = rng.uniform(0.35, 0.65), rng.uniform(0.7, 1.0)
    canvas.ellipse(base, (0.2, 0.2), 50, 0.02)
    for ray in range(5):
        angle = np.radians(-90 + (ray - 2) * rng.uniform(9, 16))
        reach, thick = rng.uniform(0.1, 0.14), rng.uniform(0.02, 0.035)
        for joint in range(4):
            start, stop = reach * (joint + 1.05), reach * (joint + 1.95)
            ends = [
                (float(base[0] + r * np.cos(angle)), float(base[1] + r * np.sin(angle)))
                for r in (start, stop)
            ]
            canvas.line(ends, thick * 2.5, 30, 0.01)
            _bone(canvas, rng, ends[0], ends[1], thick)
    for _ in range(rng.integers(5, 9)):
        centre = base[0] + rng.uniform(-0.1, 0.1), base[1] + rng.uniform(-0.06, 0.06)
        canvas.ellipse(centre, (0.03, 0.03), 50)
    return canvas.values
