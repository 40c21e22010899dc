"""What a lesion is: up to four changes of a hip, from its plan to its fragments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import Femur, HipShape
from hipedge.phantom.bone import Piece
from hipedge.phantom.lesions.surfaces import head_osteophytes
from hipedge.phantom.mesh import Mesh, Points


@dataclass(frozen=True, eq=False)
class Joint:
    """A hip's surfaces: the hemipelvis, the femur in its socket, and the socket's centre (3,)."""

    hemipelvis: Mesh
    femur: Femur
    centre: Points


@dataclass(frozen=True, eq=False)
class Bones:
    """A hip's pieces: the hemipelvis, and the femur, whole or in fragments."""

    hemipelvis: Piece
    femur: tuple[Piece, ...]


class Lesion:
    """Nothing wrong: each kind of lesion overrides what it changes."""

    def shape(self, shape: HipShape) -> HipShape:
        """Return the plan of a hip with this lesion."""
        return shape

    def surfaces(self, joint: Joint) -> Joint:
        """Return the joint's surfaces with this lesion."""
        return joint

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones with this lesion in their spongy part."""
        return bones

    def fragments(self, bones: Bones, joint: Joint) -> Bones:
        """Return the bones broken."""
        return bones


@dataclass(frozen=True)
class Doubtful(Lesion):
    """Kellgren–Lawrence 1: one doubtful sign, which is still normal.

    It is a small osteophyte of the head, or where that is 0, a joint space of `space_mm`.
    """

    osteophyte_mm: float
    space_mm: float

    def shape(self, shape: HipShape) -> HipShape:
        """Narrow the joint, all round."""
        return shape if self.osteophyte_mm else replace(shape, space_mm=self.space_mm)

    def surfaces(self, joint: Joint) -> Joint:
        """Add the osteophyte to the head."""
        return replace(joint, femur=head_osteophytes(joint.femur, self.osteophyte_mm))


def draw_doubtful(rng: np.random.Generator) -> Doubtful:
    """Draw one sign or the other."""
    osteophyte_mm = rng.uniform(0.5, 1.9) if rng.uniform() < 0.5 else 0.0
    return Doubtful(osteophyte_mm, rng.uniform(2.8, 3.5))
