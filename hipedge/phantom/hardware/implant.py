"""The result of a hip operation: parts of metal, ceramic, plastic and cement, and removed bone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Material(str, Enum):
    """Implant materials. Bone cement is PMMA with about 10 % barium sulphate (ISO 5833)."""

    TITANIUM = "titanium"
    COBALT_CHROME = "cobalt_chrome"
    STAINLESS_STEEL = "steel"
    CERAMIC = "ceramic"
    POLYETHYLENE = "polyethylene"
    BONE_CEMENT = "cement"


@dataclass(frozen=True, eq=False)
class Part:
    """A part of one material: vertices (V, 3) in mm, faces (F, 3) anticlockwise from outside."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    material: Material


@dataclass(frozen=True, eq=False)
class Plane:
    """A saw cut: a point (3,) on it in mm, and the unit normal (3,) towards the resected bone."""

    point: NDArray[np.float64]
    normal: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sphere:
    """A reamed cavity: its centre (3,) and radius in mm."""

    centre: NDArray[np.float64]
    radius_mm: float


@dataclass(frozen=True, eq=False)
class Implant:
    """An operated hip, in the patient's coordinates.

    `family` is the grade in `docs/categories.md`. The part of the femur beyond *all* planes of
    `resection` is removed (nothing if there are no planes), and the part of the pelvis inside
    `reamed`. Parts may overlap where one contains another: the cement around a stem is modelled as
    a solid block.
    """

    family: str
    parts: tuple[Part, ...]
    description: str
    resection: tuple[Plane, ...] = ()
    reamed: Sphere | None = None
