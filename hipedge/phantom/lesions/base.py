"""What a lesion is: up to four changes of a hip, from its plan to its fragments."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """Kellgren–Lawrence 1: one doubtful osteophyte, which is still normal."""

    osteophyte_mm: float

    def surfaces(self, joint: Joint) -> Joint:
        """Add the osteophyte to the head."""
        return replace(joint, femur=head_osteophytes(joint.femur, self.osteophyte_mm))
