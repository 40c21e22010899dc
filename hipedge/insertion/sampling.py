"""Compiled resampling, smooth random fields and blurring of small images.

Images are float32 (H, W). Positions (x, y) are in pixels, with the first pixel's centre at (0, 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.compiled import compiled_fast

Image = NDArray[np.float32]

# Sum of the squared weights of the cubic B-spline, averaged over its phase: the variance of unit
# white noise after interpolation along one axis.
_SPLINE_VARIANCE = 0.4795


@compiled_fast
def warped(image: Image, dx: Image, dy: Image) -> Image:
    """Sample `image` at (x + dx, y + dy) by Catmull–Rom interpolation with replicated edges.

    Where both displacements are 0, the pixel is copied unchanged.
    """
    height, width = image.shape
    out = np.empty((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            if dx[i, j] == 0.0 and dy[i, j] == 0.0:
                out[i, j] = image[i, j]
            else:
                out[i, j] = _cubic(image, j + dx[i, j], i + dy[i, j])
    return out


@compiled_fast
def moved(image: Image, matrix: NDArray[np.float64]) -> Image:
    """Sample `image` at `matrix` (2, 3) times (x, y, 1) by Catmull–Rom interpolation.

    Below the lower edge the last row is replicated, since the shaft continues there; outside the
    other edges the image is 0.
    """
    height, width = image.shape
    out = np.zeros((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            x = matrix[0, 0] * j + matrix[0, 1] * i + matrix[0, 2]
            y = matrix[1, 0] * j + matrix[1, 1] * i + matrix[1, 2]
            if 0.0 <= x < width - 1.0 and y >= 0.0:
                p, q = int(x), min(int(y), height - 2)
                # Layers are mostly empty: where the neighbourhood is 0, the result is 0.
                if (
                    image[q, p] != 0.0
                    or image[q, p + 1] != 0.0
                    or image[q + 1, p] != 0.0
                    or image[q + 1, p + 1] != 0.0
                ):
                    out[i, j] = _cubic(image, x, y)
    return out


@compiled_fast
def read_at(image: Image, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sample `image` at positions x and y (N,) by bilinear interpolation with replicated edges."""
    height, width = image.shape
    out = np.empty(x.shape[0], np.float32)
    for k in range(x.shape[0]):
        u = min(max(x[k], 0.0), width - 1.001)
        v = min(max(y[k], 0.0), height - 1.001)
        p, q = int(u), int(v)
        a, b = u - p, v - q
        out[k] = (1 - b) * ((1 - a) * image[q, p] + a * image[q, p + 1]) + b * (
            (1 - a) * image[q + 1, p] + a * image[q + 1, p + 1]
        )
    return out


@compiled_fast
def _cubic(image: Image, x: float, y: float) -> float:
    height, width = image.shape
    x = min(max(x, 0.0), width - 1.0)
    y = min(max(y, 0.0), height - 1.0)
    p, q = int(x), int(y)
    a, b = x - p, y - q
    wx0 = a * (-0.5 + a * (1.0 - 0.5 * a))
    wx1 = 1.0 + a * a * (-2.5 + 1.5 * a)
    wx2 = a * (0.5 + a * (2.0 - 1.5 * a))
    wx3 = a * a * (-0.5 + 0.5 * a)
    wy0 = b * (-0.5 + b * (1.0 - 0.5 * b))
    wy1 = 1.0 + b * b * (-2.5 + 1.5 * b)
    wy2 = b * (0.5 + b * (2.0 - 1.5 * b))
    wy3 = b * b * (-0.5 + 0.5 * b)
    p0, p2, p3 = max(p - 1, 0), min(p + 1, width - 1), min(p + 2, width - 1)
    total = 0.0
    for k in range(4):
        row = min(max(q - 1 + k, 0), height - 1)
        value = (
            wx0 * image[row, p0] + wx1 * image[row, p] + wx2 * image[row, p2] + wx3 * image[row, p3]
        )
        weight = wy0 if k == 0 else wy1 if k == 1 else wy2 if k == 2 else wy3
        total += weight * value
    return total


@compiled_fast
def averaged(
    image: Image, matrix: NDArray[np.float64], bend_x: Image, bend_y: Image,
    shape: tuple[int, int], taps: int,
) -> Image:  # fmt: skip
    """Resample to `shape`, where each pixel is the mean of `taps` × `taps` samples of `image`.

    `matrix` (2, 3) maps positions (x, y, 1) of the result, whose first pixel's centre is at
    (0.5, 0.5), to positions in the image. The displacements `bend_x` and `bend_y`, of the image's
    shape, are added there. A pixel with any sample outside the image is NaN.
    """
    height, width = image.shape
    out = np.empty(shape, np.float32)
    for i in range(shape[0]):
        for j in range(shape[1]):
            total = 0.0
            for s in range(taps):
                v = i + (s + 0.5) / taps
                for t in range(taps):
                    u = j + (t + 0.5) / taps
                    x = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 2]
                    y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 2]
                    if not (0.0 <= x <= width - 1.0 and 0.0 <= y <= height - 1.0):
                        total = np.nan
                        continue
                    p, q = int(x + 0.5), int(y + 0.5)
                    x += bend_x[q, p]
                    y += bend_y[q, p]
                    total += _cubic(image, x, y)
            out[i, j] = total / (taps * taps)
    return out


@compiled_fast
def sampled(image: Image, matrix: NDArray[np.float64], size: int) -> Image:
    """Resample to a square of `size` by bilinear interpolation, with 0 outside the image.

    `matrix` (2, 3) is defined as in `averaged`.
    """
    height, width = image.shape
    out = np.zeros((size, size), np.float32)
    for i in range(size):
        for j in range(size):
            x = matrix[0, 0] * (j + 0.5) + matrix[0, 1] * (i + 0.5) + matrix[0, 2]
            y = matrix[1, 0] * (j + 0.5) + matrix[1, 1] * (i + 0.5) + matrix[1, 2]
            if 0.0 <= x < width - 1.0 and 0.0 <= y < height - 1.0:
                p, q = int(x), int(y)
                a, b = x - p, y - q
                out[i, j] = (1 - b) * ((1 - a) * image[q, p] + a * image[q, p + 1]) + b * (
                    (1 - a) * image[q + 1, p] + a * image[q + 1, p + 1]
                )
    return out


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Image:
    """Return a random field of mean 0 and variance 1 with features about `scale_px` wide.

    It is white noise on a lattice with a spacing of `scale_px`, interpolated by cubic B-splines.
    """
    rows, columns = (int(n / scale_px) + 5 for n in shape)
    lattice = rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(_SPLINE_VARIANCE)
    phase = rng.uniform(0.0, 1.0, 2)
    return _spline(lattice, shape[0], shape[1], scale_px, phase[0], phase[1])


@compiled_fast
def _spline(
    lattice: Image, height: int, width: int, scale_px: float, phase_x: float, phase_y: float
) -> Image:
    out = np.empty((height, width), np.float32)
    rows = np.empty((4,), np.float32)
    across = np.empty((lattice.shape[0], width), np.float32)
    for j in range(width):
        u = j / scale_px + phase_x
        p = int(u)
        _spline_weights(u - p, rows)
        for i in range(lattice.shape[0]):
            across[i, j] = (
                rows[0] * lattice[i, p]
                + rows[1] * lattice[i, p + 1]
                + rows[2] * lattice[i, p + 2]
                + rows[3] * lattice[i, p + 3]
            )
    for i in range(height):
        v = i / scale_px + phase_y
        q = int(v)
        _spline_weights(v - q, rows)
        for j in range(width):
            out[i, j] = (
                rows[0] * across[q, j]
                + rows[1] * across[q + 1, j]
                + rows[2] * across[q + 2, j]
                + rows[3] * across[q + 3, j]
            )
    return out


@compiled_fast
def _spline_weights(t: float, out: NDArray[np.float32]) -> None:
    out[0] = (1 - t) ** 3 / 6
    out[1] = (3 * t**3 - 6 * t**2 + 4) / 6
    out[2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    out[3] = t**3 / 6


@compiled_fast
def blurred(image: Image, sigma_px: float) -> Image:
    """Blur the image approximately with a Gaussian, by three box filters with replicated edges.

    The width of the box is the odd number for which three passes come nearest to the variance of
    the Gaussian (Wells. IEEE Trans Pattern Anal Mach Intell 1986;8:234–239), so a `sigma_px` below
    0.5 has no effect.
    """
    radius = round((np.sqrt(4.0 * sigma_px * sigma_px + 1.0) - 1.0) / 2.0)
    out: Image = image.copy()
    if radius < 1:
        return out
    height, width = image.shape
    scratch = np.empty_like(out)
    norm = np.float32(1.0 / (2 * radius + 1))
    for _ in range(3):
        for i in range(height):
            total = np.float32(0.0)
            for k in range(-radius, radius + 1):
                total += out[i, min(max(k, 0), width - 1)]
            for j in range(width):
                scratch[i, j] = total * norm
                total += out[i, min(j + radius + 1, width - 1)] - out[i, max(j - radius, 0)]
        column = np.zeros(width, np.float32)
        for k in range(-radius, radius + 1):
            column += scratch[min(max(k, 0), height - 1)]
        for i in range(height):
            for j in range(width):
                out[i, j] = column[j] * norm
            column += scratch[min(i + radius + 1, height - 1)] - scratch[max(i - radius, 0)]
    return out


def filled(image: Image, known: Image) -> Image:
    """Fill in `image` smoothly where `known` (0 to 1) is 0, by pull–push interpolation.

    Kraus. Computer & Graphics 2009;33:672–678: known pixels are averaged on successively coarser
    grids, and these means are used where no finer value is known.
    """
    levels = [(image * known, known)]
    while min(levels[-1][0].shape) > 2:
        levels.append(tuple(_halved(values) for values in levels[-1]))  # type: ignore[arg-type]
    total, weight = levels[-1]
    below = np.asarray(total / np.maximum(weight, 1e-6), np.float32)
    for total, weight in reversed(levels[:-1]):
        coarse = blurred(_doubled(below, total.shape), 1.2)
        share = np.minimum(weight, 1.0)
        below = np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), 0.0) * share
        below = np.asarray(below + coarse * (1.0 - share), np.float32)
    return np.asarray(below, np.float32)


def _halved(values: Image) -> Image:
    padded = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2)), mode="edge")
    return np.asarray(
        0.25 * (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2])
    )


def _doubled(values: Image, shape: tuple[int, ...]) -> Image:
    return np.ascontiguousarray(
        np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)[: shape[0], : shape[1]]
    )


@compiled_fast
def polygon(points: NDArray[np.float64], height: int, width: int) -> Image:
    """Return the coverage (0 to 1) of each pixel by a closed polygon (N, 2), at 4 lines per row."""
    out = np.zeros((height, width), np.float32)
    crossings = np.empty(points.shape[0], np.float64)
    for line in range(4 * height):
        y = (line + 0.5) / 4 - 0.5
        count = 0
        for k in range(points.shape[0]):
            x0, y0 = points[k - 1, 0], points[k - 1, 1]
            x1, y1 = points[k, 0], points[k, 1]
            if (y0 <= y) != (y1 <= y):
                crossings[count] = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                count += 1
        ordered = np.sort(crossings[:count])
        for k in range(0, count - 1, 2):
            left = max(ordered[k] + 0.5, 0.0)
            right = min(ordered[k + 1] + 0.5, float(width))
            if right <= left:
                continue
            first, last = int(left), int(np.ceil(right)) - 1
            for j in range(first, last + 1):
                out[line // 4, j] += 0.25 * (min(right, j + 1.0) - max(left, float(j)))
    return out
