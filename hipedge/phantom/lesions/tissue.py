"""Changes of cancellous bone density: sclerosis and cysts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.bone import Spongiosa
from hipedge.phantom.lesions.base import Bones
from hipedge.phantom.lesions.surfaces import direction


def thickened(
    tissue: Spongiosa, radius_mm: float, direction_deg: float, depth_mm: float, strength: float
) -> Spongiosa:
    """Add a dense band from the joint surface inwards; `depth_mm` is negative in the head.

    The band is deepest in `direction_deg` and uneven along the joint.
    """
    if not depth_mm:
        return tissue
    x, y = tissue.grid()
    distance = np.hypot(x, y)
    bearing = np.degrees(np.arctan2(x, -y))
    off = bearing - direction_deg
    uneven = 1.0 + 0.25 * np.sin(0.21 * off + direction_deg) + 0.2 * np.sin(0.47 * off + radius_mm)
    depth = (distance - radius_mm) / (depth_mm * uneven)
    band = np.where(depth < 0, np.exp(-0.5 * (depth / 0.4) ** 2), np.exp(-0.5 * depth**2))
    sector = np.exp(-0.5 * (off / 32.0) ** 2)
    return tissue.times((1.0 + 2.4 * strength * band * sector).astype(np.float32))


def hollowed(tissue: Spongiosa, cyst: Cyst, distance_mm: float) -> Spongiosa:
    """Add a lucent cyst with an irregular outline, `distance_mm` from the head's centre.

    The bone in front of and behind a cyst remains, so that the lucency is partial.
    """
    x, y = tissue.grid()
    dx, dz = direction(cyst.angle_deg) * distance_mm
    bearing = np.arctan2(y + dz, x - dx)
    outline = (
        1.0
        + 0.18 * np.sin(2 * bearing + cyst.angle_deg)
        + 0.12 * np.sin(3 * bearing + 7.0 * cyst.diameter_mm)
    )
    r = np.hypot(x - dx, y + dz) / (cyst.diameter_mm / 2) / outline
    hole = 1.0 - 0.65 * inside(0.9 - r, 0.2)
    rim = 1.0 + 0.4 * np.exp(-0.5 * ((r - 1.25) / 0.25) ** 2)
    return tissue.times((hole * rim).astype(np.float32))


def with_tissue(bones: Bones, pelvis: Spongiosa, femur: Spongiosa) -> Bones:
    """Return the bones with new cancellous bone; all pieces of the femur share theirs."""
    return Bones(
        replace(bones.hemipelvis, spongiosa=pelvis),
        tuple(replace(piece, spongiosa=femur) for piece in bones.femur),
    )


def inside(depth: NDArray[np.floating], softness: float) -> NDArray[np.floating]:
    """Return 1 where `depth` is positive and 0 where it is negative, with a sigmoid transition."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(depth / softness, -30, 30))))


@dataclass(frozen=True)
class Cyst:
    """A round lucency with a dense rim, on the acetabular or the femoral side of the joint.

    Its position is given by the angle from the vertical and the depth under the surface.
    """

    angle_deg: float
    depth_mm: float
    diameter_mm: float
    in_socket: bool
