"""What makes a background unfit, by its pixels: metal.

A plain measure that errs: it reports hips for a person to look at, and what it lets
through is not thereby normal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas
from hipedge.insertion.sampling import blurred

# Metal is white and flat within sharp edges. It is looked for where implants lie, about the head
# and about the shaft below: a film's marker beside the hip is none.
HEAD_REACH_MM = 40.0
SHAFT_LATERAL_MM, SHAFT_MEDIAL_MM = 55.0, 15.0
METAL_EDGE = 45.0
METAL_WHITE = 250.0
METAL_FLAT = 2.0
METAL_AREA_MM2 = 400.0


def suspicions(canvas: Canvas) -> Sequence[str]:
    """Return what is suspicious of a hip, in words."""
    return ["metal"] if has_metal(canvas) else []


def has_metal(canvas: Canvas) -> bool:
    """Say whether there is much that is white and flat near the hip, and edges are sharp."""
    pixels = canvas.pixels
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] * STEP_MM
    x, y = x - HEAD_PX[0] * STEP_MM, y - HEAD_PX[1] * STEP_MM
    head = np.hypot(x, y) < HEAD_REACH_MM
    shaft = (x > -SHAFT_LATERAL_MM) & (x < SHAFT_MEDIAL_MM) & (y > 0.0) & (y < 100.0)
    near = (head | shaft) & canvas.on_film
    smooth = blurred(pixels, 0.8)
    rows, columns = np.gradient(smooth)
    edge = float(np.percentile(np.hypot(rows, columns)[near], 99.5))
    flat = blurred(np.abs(pixels - smooth), 1.0) < METAL_FLAT
    white = near & flat & (pixels > METAL_WHITE)
    return edge > METAL_EDGE and float(white.sum()) * STEP_MM**2 > METAL_AREA_MM2
