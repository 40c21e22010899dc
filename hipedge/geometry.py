"""Where a hip's crop lies, and how big it is in pixels."""

from __future__ import annotations

from hipedge.types import Box, CropGeometry, Side

# Without a believable spacing the body itself is the ruler. Both figures are of adults on a film
# taken at about 1 m, magnified by some 15 %; a child's hips then fill the crop as an adult's do.
HEAD_DISTANCE_MM = 195.0
PELVIC_FILM_WIDTH_MM = 400.0
SINGLE_HIP_FILM_WIDTH_MM = 240.0


def crop_box(
    centre_px: tuple[float, float],
    spacing_mm: tuple[float, float],
    geometry: CropGeometry,
    *,
    image_lateral: int,
) -> Box:
    """Return the box of `geometry` around a femoral head's centre (x, y).

    `spacing_mm` is (between rows, between columns). `image_lateral` says where the patient's
    lateral side is on the image: -1 to the left (a right hip on a frontal film), 1 to the right,
    0 unknown, which centres the box on the head in x.
    """
    row_mm, column_mm = spacing_mm
    x = centre_px[0] + image_lateral * geometry.lateral_mm / column_mm
    y = centre_px[1] + geometry.distal_mm / row_mm
    half_x = geometry.crop_mm / 2 / column_mm
    half_y = geometry.crop_mm / 2 / row_mm
    return Box(x - half_x, y - half_y, x + half_x, y + half_y)


def is_mirrored(side: Side) -> bool:
    """Say whether the network sees a hip of this side flipped: it sees every hip as a right one."""
    return side is Side.LEFT
