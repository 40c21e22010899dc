"""Base class of lesions: up to four changes of a hip, from shape parameters to fragments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import Femur, HipShape
from hipedge.phantom.bone import Piece
from hipedge.phantom.lesions.surfaces import head_osteophytes
from hipedge.phantom.mesh import Mesh, Points


@dataclass(frozen=True, eq=False)
class Joint:
    """Surfaces of a hip: the hemipelvis, the femur in its socket, and the socket's centre (3,)."""

    hemipelvis: Mesh
    femur: Femur
    centre: Points


@dataclass(frozen=True, eq=False)
class Bones:
    """Bones of a hip: the hemipelvis, and the femur, whole or in fragments."""

    hemipelvis: Piece
    femur: tuple[Piece, ...]


class Lesion:
    """No lesion. Subclasses override the steps that they change."""

    def shape(self, shape: HipShape) -> HipShape:
        """Return the shape parameters of a hip with this lesion."""
        return shape

    def surfaces(self, joint: Joint) -> Joint:
        """Return the surfaces of the joint with this lesion."""
        return joint

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones with this lesion in their cancellous part."""
        return bones

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones after fracture."""
        return bones


@dataclass(frozen=True)
class Doubtful(Lesion):
    """Kellgren–Lawrence grade 1: a single doubtful sign, which still counts as normal.

    The sign is a small osteophyte of the head or, if `osteophyte_mm` is 0, a joint space of
    `space_mm`.
    """

    osteophyte_mm: float
    space_mm: float

    def shape(self, shape: HipShape) -> HipShape:
        """Narrow the joint space uniformly."""
        return shape if self.osteophyte_mm else replace(shape, space_mm=self.space_mm)

    def surfaces(self, joint: Joint) -> Joint:
        """Add the osteophyte to the head."""
        return replace(joint, femur=head_osteophytes(joint.femur, self.osteophyte_mm))


def draw_doubtful(rng: np.random.Generator) -> Doubtful:
    """Draw one of the two signs at random."""
    osteophyte_mm = rng.uniform(0.5, 1.9) if rng.uniform() < 0.5 else 0.0
    return Doubtful(osteophyte_mm, rng.uniform(2.8, 3.5))
