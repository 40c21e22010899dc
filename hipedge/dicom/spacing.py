"""Pixel spacing in the plane of the hips, and whether it is plausible."""

from __future__ import annotations

import math

# The coarsest pixels a radiograph is recorded with are those of fluoroscopes and of old film
# scanners, under 0.5 mm; detectors and phosphor plates have 0.1 to 0.2 mm.
MAX_PITCH_MM = 0.5
# From a dental film to a stitched whole leg or spine.
FIELD_MM = (30.0, 1500.0)
MAX_PIXEL_ASPECT = 1.5
# Source-image over source-object distance: 1 touches the detector, 2 is a magnification view.
MAGNIFICATION = (1.0, 2.0)

Pair = tuple[float, float]


def hip_plane_spacing(
    *,
    imager_mm: tuple[float, ...],
    pixel_mm: tuple[float, ...],
    calibrated: bool,
    magnification: float | None,
    shape: tuple[int, int],
    samples_per_pixel: int,
) -> Pair | None:
    """Return (between rows, between columns) in mm in the plane of the hips, or None.

    `imager_mm` is Imager Pixel Spacing (0018,1164), at the detector; `pixel_mm` is Pixel Spacing
    (0028,0030), `calibrated` says that Pixel Spacing Calibration Type (0028,0A02) comes with it;
    `magnification` is (0018,1114). Both spacings are () where absent.

    Source: PS3.3 10.7.1.1 and 10.7.1.3. A Pixel Spacing that has a calibration type, or differs
    from Imager Pixel Spacing, is corrected for magnification already and wins. Imager Pixel
    Spacing is divided by the magnification factor where there is one. A Pixel Spacing alone is
    taken as it is, for it does not say in which plane it was measured.

    A value is used only if a radiographic detector can have it: two positive numbers, pixels about
    square and no coarser than 0.5 mm, a field of 30 to 1500 mm. A colour image comes from no
    detector: it is a picture that software converted, and its spacing is that software's default.
    Both rules reject the 1.0 mm of a film exported as a picture.
    """
    if samples_per_pixel != 1:
        return None
    imager = _plausible(imager_mm, shape)
    pixel = _plausible(pixel_mm, shape)
    if pixel and (imager is None or calibrated or not _same(pixel, imager)):
        return pixel
    if imager is None:
        return None
    factor = _plausible_magnification(magnification)
    return imager[0] / factor, imager[1] / factor


def _plausible(spacing_mm: tuple[float, ...], shape: tuple[int, int]) -> Pair | None:
    if len(spacing_mm) != 2 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        return None
    row, column = spacing_mm
    field = row * shape[0], column * shape[1]
    plausible = (
        max(row, column) <= MAX_PITCH_MM
        and max(row, column) <= MAX_PIXEL_ASPECT * min(row, column)
        and FIELD_MM[0] <= min(field)
        and max(field) <= FIELD_MM[1]
    )
    return (row, column) if plausible else None


def _same(a: Pair, b: Pair) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(a, b, strict=True))


def _plausible_magnification(factor: float | None) -> float:
    if factor is None or not MAGNIFICATION[0] <= factor <= MAGNIFICATION[1]:
        return 1.0
    return factor
