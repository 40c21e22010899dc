"""What makes a background unfit, by its pixels: metal.

A plain measure that errs: it reports hips for a person to look at, and what it lets
through is not thereby normal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas

# Where implants lie: about the head and the shaft below. A film's marker beside the hip is none.
HEAD_REACH_MM = 40.0
SHAFT_LATERAL_MM, SHAFT_MEDIAL_MM = 55.0, 15.0
# Metal is one white mass, and little is nearly as white; the brightest bone goes over into the
# rest. In shares of the brightest value there, what is white, and what is nearly as white.
WHITE, NEARLY_WHITE = 0.9, 0.72
LEAST_RATIO = 0.45
LEAST_AREA_MM2 = 150.0


def suspicions(canvas: Canvas) -> Sequence[str]:
    """Return what is suspicious of a hip, in words."""
    return ["metal"] if has_metal(canvas) else []


def has_metal(canvas: Canvas) -> bool:
    """Say whether what is white near the hip stands apart from bone.

    On FracAtlas's hips without an implant it says so of 2 in 100, of inserted implants of four in
    five: thin screws escape it.
    """
    pixels = canvas.pixels
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] * STEP_MM
    x, y = x - HEAD_PX[0] * STEP_MM, y - HEAD_PX[1] * STEP_MM
    head = np.hypot(x, y) < HEAD_REACH_MM
    shaft = (x > -SHAFT_LATERAL_MM) & (x < SHAFT_MEDIAL_MM) & (y > 0.0) & (y < 100.0)
    near = pixels[(head | shaft) & canvas.on_film]
    if not near.size:
        return False
    brightest = np.percentile(near, 99.7)
    white = np.count_nonzero(near > WHITE * brightest) * STEP_MM**2
    nearly = np.count_nonzero(near > NEARLY_WHITE * brightest) * STEP_MM**2 - white
    return bool(white > LEAST_AREA_MM2 and white > LEAST_RATIO * nearly)
