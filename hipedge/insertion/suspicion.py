"""Detection of backgrounds that are unsuitable by their pixel values, because of metal.

This is a simple measure that makes errors: it reports hips for review by a person, and a hip that
passes is not necessarily normal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hipedge.insertion.canvas import HEAD_PX, STEP_MM, Canvas

# Region in which implants lie: around the head and along the shaft below it. A radiographic marker
# beside the hip is outside the region.
HEAD_REACH_MM = 40.0
SHAFT_LATERAL_MM, SHAFT_MEDIAL_MM = 55.0, 15.0
# Metal is uniformly white, with few pixels that are nearly as white, whereas the brightest bone
# merges gradually into its surroundings. The thresholds for white and nearly white pixels are
# fractions of the brightest value in the region.
WHITE, NEARLY_WHITE = 0.9, 0.72
LEAST_RATIO = 0.45
LEAST_AREA_MM2 = 150.0


def suspicions(canvas: Canvas) -> Sequence[str]:
    """Return a description of each suspicious finding in a hip."""
    return ["metal"] if has_metal(canvas) else []


def has_metal(canvas: Canvas) -> bool:
    """Return whether white pixels near the hip stand out from bone, as metal does.

    This is true for 2 in 100 of the FracAtlas hips without an implant, and for four in five hips
    with an inserted implant; thin screws are missed.
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
