"""Lead side markers: the letters R and L."""

from __future__ import annotations

from hipedge.phantom.soft_tissue import Streak

# Strokes (x0, z0, x1, z1) in a box of height 1 and width 0.7, from its lower left corner.
STROKES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "L": ((0.1, 1.0, 0.1, 0.0), (0.1, 0.0, 0.6, 0.0)),
    "R": (
        (0.1, 1.0, 0.1, 0.0), (0.1, 1.0, 0.4, 1.0), (0.4, 1.0, 0.58, 0.86),
        (0.58, 0.86, 0.58, 0.64), (0.58, 0.64, 0.4, 0.5), (0.4, 0.5, 0.1, 0.5),
        (0.32, 0.5, 0.62, 0.0),
    ),
}  # fmt: skip
LEAD_MM = 1.0


def letter(name: str, corner: tuple[float, float], height_mm: float) -> list[Streak]:
    """Return a lead letter; `corner` is its lower left corner (x, z) in the hip plane, in mm."""
    x, z = corner
    return [
        Streak(
            "lead",
            (x + x0 * height_mm, z + z0 * height_mm),
            (x + x1 * height_mm, z + z1 * height_mm),
            0.075 * height_mm,
            LEAD_MM,
            rod=True,
        )
        for x0, z0, x1, z1 in STROKES[name]
    ]
