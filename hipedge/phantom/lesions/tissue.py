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
    """Add a dense band from the joint surface inwards; `depth_mm` is negative in the head."""
    if not depth_mm:
        return tissue
    x, y = tissue.grid()
    distance = np.hypot(x, y)
    bearing = np.degrees(np.arctan2(x, -y))
    depth = (distance - radius_mm) / depth_mm
    band = np.where(depth < 0, np.exp(-0.5 * (depth / 0.4) ** 2), np.exp(-0.5 * depth**2))
    sector = np.exp(-0.5 * ((bearing - direction_deg) / 32.0) ** 2)
    return tissue.times((1.0 + 1.6 * strength * band * sector).astype(np.float32))


def hollowed(tissue: Spongiosa, cyst: Cyst, distance_mm: float) -> Spongiosa:
    """Add a lucent cyst whose centre lies `distance_mm` from the head's centre."""
    x, y = tissue.grid()
    dx, dz = direction(cyst.angle_deg) * distance_mm
    r = np.hypot(x - dx, y + dz) / (cyst.diameter_mm / 2)
    hole = 1.0 - 0.75 * inside(0.9 - r, 0.125)
    rim = 1.0 + 0.6 * np.exp(-0.5 * ((r - 1.15) / 0.18) ** 2)
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
