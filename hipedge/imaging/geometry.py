"""Position and size of a hip's crop on the image, and the patient's orientation on it."""

from __future__ import annotations

from hipedge.types import Box, CropGeometry, Side

# Without a credible spacing the scale comes from the body; a child's hips then fill the crop as an
# adult's do. An adult's hip joint centres lie 166 mm apart (mean of the LLP26 shape model) to
# 173 mm (Harrington et al., J Biomech 40:595, 2007, for anterior superior iliac spines 240 mm
# apart), the radius of a femoral head is 24 mm (the same model), and a film at a distance of about
# 1 m magnifies both by some 15 %. The widths are those of usual films.
HEAD_DISTANCE_MM = 195.0
HEAD_RADIUS_MM = 28.0
PELVIC_FILM_WIDTH_MM = 400.0
SINGLE_HIP_FILM_WIDTH_MM = 240.0


def crop_box(
    centre_px: tuple[float, float],
    spacing_mm: tuple[float, float],
    geometry: CropGeometry,
    *,
    lateral: int,
) -> Box:
    """Return the box of `geometry` around a femoral head's centre (x, y).

    `spacing_mm` is (between rows, between columns). `lateral` is the direction of the hip's
    lateral side on the image: -1 to the left (a right hip on a usual frontal film), 1 to the
    right, 0 unknown, which centres the box on the head in x.
    """
    row_mm, column_mm = spacing_mm
    x = centre_px[0] + lateral * geometry.lateral_mm / column_mm
    y = centre_px[1] + geometry.distal_mm / row_mm
    half_x = geometry.crop_mm / 2 / column_mm
    half_y = geometry.crop_mm / 2 / row_mm
    return Box(x - half_x, y - half_y, x + half_x, y + half_y)


def head_in_box(box: Box, geometry: CropGeometry, *, lateral: int) -> tuple[float, float]:
    """Return the femoral head's centre (x, y) for a box of `geometry`: `crop_box` undone."""
    x = (box.x0 + box.x1) / 2 - lateral * geometry.lateral_mm / geometry.crop_mm * box.width
    y = (box.y0 + box.y1) / 2 - geometry.distal_mm / geometry.crop_mm * box.height
    return x, y


def image_lateral(side: Side, orientation: tuple[str, str] | None) -> int:
    """Return the direction of a hip's lateral side: -1 left, 1 right, 0 for an unknown side.

    The patient's left is at the image's right, as if they faced the reader, unless Patient
    Orientation (0020,0020) says that rows run towards the right (PS3.3 C.7.6.1.1.1).
    """
    if side is Side.UNKNOWN:
        return 0
    rows_run_to = Side.RIGHT if orientation and orientation[0].startswith("R") else Side.LEFT
    return 1 if side is rows_run_to else -1


def is_turned(orientation: tuple[str, str] | None) -> bool:
    """Return whether, by the header, rows do not run sideways or columns do not run down."""
    if orientation is None:
        return False
    rows, columns = orientation
    return rows[:1] not in ("", "L", "R") or columns[:1] not in ("", "F")


def is_mirrored(side: Side, orientation: tuple[str, str] | None) -> bool:
    """Return whether a hip is flipped for the network, whose lateral side is at the left."""
    return image_lateral(side, orientation) == 1
