"""What an operation leaves in a hip: parts of metal, plastic and cement, and bone that is gone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Material(str, Enum):
    """What implants are made of. Bone cement is PMMA with about 10 % barium sulphate (ISO 5833)."""

    TITANIUM = "titanium"
    COBALT_CHROME = "cobalt_chrome"
    STAINLESS_STEEL = "steel"
    CERAMIC = "ceramic"
    POLYETHYLENE = "polyethylene"
    BONE_CEMENT = "cement"


@dataclass(frozen=True, eq=False)
class Part:
    """One piece of one material: vertices (V, 3) in mm, faces (F, 3) anticlockwise from outside."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    material: Material


@dataclass(frozen=True, eq=False)
class Plane:
    """A saw cut: a point on it (3,) in mm and the unit normal (3,) towards what is taken away."""

    point: NDArray[np.float64]
    normal: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sphere:
    """A reamed bed: its centre (3,) and radius in mm."""

    centre: NDArray[np.float64]
    radius_mm: float


@dataclass(frozen=True, eq=False)
class Implant:
    """An operated hip, in the patient's coordinates.

    `family` is the grade in `docs/categories.md`. Of the femur, what lies beyond *all* planes of
    `resection` is gone (nothing, where there are none); of the pelvis, what lies in `reamed`.
    Parts may overlap a little where one holds another: a stem stands in a solid block of cement.
    """

    family: str
    parts: tuple[Part, ...]
    description: str
    resection: tuple[Plane, ...] = ()
    reamed: Sphere | None = None
