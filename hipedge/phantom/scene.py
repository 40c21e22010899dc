"""Combine bones, implants and soft tissue of a patient into path lengths for each material."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hipedge.phantom.bone import (
    Image,
    Piece,
    add_piece,
)
from hipedge.phantom.mesh import Mesh, Points
from hipedge.phantom.projection import View, add_thickness
from hipedge.phantom.soft_tissue import Body
from hipedge.types import Category, Side


@dataclass(frozen=True, eq=False)
class HipModel:
    """One hip: bone pieces, implants, centre (3,) of the head in mm, and ground truth."""

    side: Side
    pieces: tuple[Piece, ...]
    implants: tuple[tuple[str, Mesh], ...]
    centre_mm: Points
    category: Category
    grade: str


@dataclass(frozen=True, eq=False)
class Patient:
    """Everything that the beam passes through: the hips, other bone pieces and soft tissue."""

    hips: tuple[HipModel, ...]
    pieces: tuple[Piece, ...]
    body: Body

    def paths_mm(self, view: View) -> dict[str, Image]:
        """Return the path lengths of the rays through each material: maps (H, W), in mm."""
        paths = {name: np.zeros(view.shape, np.float32) for name in ("muscle", "fat", "bone")}
        self.body.add_to(paths, view)
        for piece in self.pieces:
            add_piece(paths["bone"], view, piece)
        for hip in self.hips:
            for piece in hip.pieces:
                add_piece(paths["bone"], view, piece)
            for material, mesh in hip.implants:
                if material not in paths:
                    paths[material] = np.zeros(view.shape, np.float32)
                add_thickness(paths[material], view, mesh)
        return paths
