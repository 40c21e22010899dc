"""The pelvis template: edges of the outlines of half a pelvis and femur on an AP radiograph.

The proportions follow the mean adult of the LLP26 shape model (heads 166 mm apart, iliac crests
155 mm above them). They were then adjusted by eye on the average of twelve adult pelvic films of
FracAtlas, because the pelvic tilt of patients on the table differs from that of the model.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]

# In mm; half the distance between the heads' centres is also given in pixels of the template.
HALF_DISTANCE_MM = 85.0
HALF_DISTANCE_PX = 14
HEAD_RADIUS_MM = 25.0
PX_PER_MM = HALF_DISTANCE_PX / HALF_DISTANCE_MM

# Outlines of the right half of the image, as alternating coordinates in mm: x laterally from the
# midline, y down from the line through the heads' centres. Each outline has a density; later
# outlines are drawn over earlier ones.
SOFT_TISSUE = 0.30
OUTLINES: tuple[tuple[str, float, tuple[int, ...]], ...] = (
    ("gap between the thighs", 0.15, (0, 95, 8, 100, 25, 400, 0, 400)),
    ("spine", 0.60, (0, -300, 26, -300, 26, -110, 38, -100, 25, -60, 0, -40)),
    (
        "ilium and acetabulum",
        0.65,
        (
            *(50, -115, 75, -145, 110, -145, 140, -115, 138, -92, 122, -62, 104, -38),
            *(108, -18, 98, 14, 70, 22, 50, 12, 60, -15, 62, -48, 46, -75),
        ),
    ),
    (
        "femur",
        0.75,
        (
            *(85, -14, 105, -14, 120, 0, 135, 2, 148, 24, 143, 55, 135, 85),
            *(133, 400, 102, 400, 102, 85, 94, 62, 99, 45, 85, 22),
        ),
    ),
    (
        "ischium and pubis",
        0.55,
        (60, -15, 78, 20, 74, 60, 60, 76, 40, 78, 18, 55, 5, 58, 4, 26, 22, 24, 42, 12),
    ),
    (
        "obturator foramen",
        SOFT_TISSUE,
        (30, 44, 37, 31, 51, 31, 58, 44, 51, 57, 37, 57),
    ),
    (
        "femoral head",
        0.90,
        (
            *(85, -25, 97, -22, 107, -12, 110, 0, 107, 12, 97, 22),
            *(85, 25, 73, 22, 63, 12, 60, 0, 63, -12, 73, -22),
        ),
    ),
)

# Extent of the template; centre, half-size and softness of the window that weights it.
HALF_WIDTH_MM, UP_MM, DOWN_MM = 190, 180, 140
REACH_PX = round(UP_MM * PX_PER_MM)  # from a head's centre to the template's farthest edge
WINDOW_CENTRE_Y_MM = -20
WINDOW_HALF_MM = (180, 140)
MIDLINE_MM, MIDLINE_SOFTNESS_MM = -20, 8
OVERSAMPLING = 8


@lru_cache
def half_pelvis(tilt: float, side: int) -> tuple[Array, tuple[int, int]]:
    """Return the edges (2, H, W) of one half of the template and the pixel (x, y) of its head.

    `side` is -1 for the left half of the image and 1 for the right half. `tilt` is the factor on
    the height of the template relative to its width. The edges are normalised: edges of mean square
    1 that are all parallel to those of the template have a correlation of 1 with it.
    """
    middle, origin = round(HALF_WIDTH_MM * PX_PER_MM), REACH_PX
    drawing = _draw(tilt, (2 * middle, origin + round(DOWN_MM * PX_PER_MM)), (middle, origin))
    y, x = np.indices(drawing.shape) + 0.5
    window = _window(side * (x - middle) / PX_PER_MM, (y - origin) / PX_PER_MM / tilt)
    edges = edge_directions(drawing) * window
    edges /= np.sqrt(np.sum(edges**2) * np.sum(window))
    return edges, (middle + side * HALF_DISTANCE_PX, origin)


def _draw(tilt: float, size: tuple[int, int], origin: tuple[int, int]) -> Array:
    canvas = Image.new("F", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), SOFT_TISSUE)
    draw = ImageDraw.Draw(canvas)
    for _, density, outline in OUTLINES:
        xy = np.array(outline).reshape(-1, 2) * PX_PER_MM * (1.0, tilt)
        for side in (-1, 1):
            points = (origin + xy * (side, 1)) * OVERSAMPLING
            draw.polygon(points.ravel().tolist(), fill=density)
    return np.asarray(canvas.resize(size, Image.Resampling.BOX))


def _window(x_mm: Array, y_mm: Array) -> Array:
    """Return the weight, from 0 to 1, of each position in the right half of the image."""
    across = (x_mm / WINDOW_HALF_MM[0]) ** 4
    along = ((y_mm - WINDOW_CENTRE_Y_MM) / WINDOW_HALF_MM[1]) ** 4
    beside_midline = 1 / (1 + np.exp(-(x_mm - MIDLINE_MM) / MIDLINE_SOFTNESS_MM))
    window: Array = np.exp(-across - along) * beside_midline
    return window


def edge_directions(values: Array) -> Array:
    """Return the gradient (2, H, W), x and y, of an image (H, W), with its magnitude compressed.

    Magnitudes are compressed towards 1 and then scaled to a mean square of 1. A weak edge keeps its
    direction and most of the weight of a strong edge, so that the film's contrast has little
    influence.
    """
    smooth = _smooth(_smooth(values).T).T
    gradient = np.stack(np.gradient(smooth)[::-1])
    length = np.hypot(*gradient)
    edges = gradient / (length + max(float(length.mean()), 1e-6))
    scaled: Array = edges / max(float(np.sqrt(np.mean(edges**2) * 2)), 1e-6)
    return scaled


def _smooth(lines: Array) -> Array:
    """Smooth along the first axis: a binomial filter with a standard deviation of one pixel."""
    padded = np.pad(lines, ((2, 2), (0, 0)), mode="edge")
    a, b, c, d, e = (padded[i : i + len(lines)] for i in range(5))
    smooth: Array = (a + e + 4 * (b + d) + 6 * c) / 16
    return smooth
