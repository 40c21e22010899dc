"""Where a hip lies on the film as it is stored: hipedge has coordinates on the upright film.

Both count pixels from the outer corner of the first one, as SCOORD content items (PS3.3 C.18.6) and
graphic objects of presentation states (PS3.3 C.10.5) do.
"""

from __future__ import annotations

from collections.abc import Collection

from hipedge.locate.upright import turns_of
from hipedge.types import Box, Mark


def stored_box(box: Box, shape: tuple[int, int], marks: Collection[Mark]) -> Box:
    """Return a box on the stored film, cut to the film.

    `shape` (H, W) is that of the upright film, which was turned as its `marks` say.
    """
    height, width = shape
    x0, x1 = (min(max(x, 0.0), float(width)) for x in (box.x0, box.x1))
    y0, y1 = (min(max(y, 0.0), float(height)) for y in (box.y0, box.y1))
    for _ in range(turns_of(marks)):
        # A turn counterclockwise took (x, y) of a film W wide to (y, W - x).
        x0, y0, x1, y1 = height - y1, x0, height - y0, x1
        height, width = width, height
    return Box(x0, y0, x1, y1)
