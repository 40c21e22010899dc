"""One hip from a category and a grade: its joint, its bones, what is wrong, what was operated on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import (
    Build,
    Femur,
    HipShape,
    Pose,
    mirrored,
    open_joint,
    pelvis_and_femur,
    pose,
    rotation_about_x,
    shape_femur,
)
from hipedge.phantom.bone import Quality, femur_piece, pelvis_piece
from hipedge.phantom.lesions import (
    Bones,
    Doubtful,
    Joint,
    Lesion,
    centre_edge_deg,
    clear_head,
    draw_arthritis,
    draw_dysplasia,
    draw_neck_fracture,
    draw_osteonecrosis,
    draw_trochanteric_fracture,
)
from hipedge.phantom.mesh import Mesh, Points
from hipedge.phantom.scene import HipModel
from hipedge.types import Category, Side

MOST_ROOF_DEG = 40.0


@dataclass(frozen=True)
class Person:
    """What both hips of a person share."""

    build: Build
    bone: Quality
    shape: HipShape
    tilt_deg: float


def draw_lesion(category: Category, grade: str, rng: np.random.Generator) -> Lesion:
    """Draw what is wrong with the native bone of a hip of this category and grade."""
    if category is Category.NORMAL:
        return Doubtful(rng.uniform(0.5, 1.9)) if grade == "kl1" else Lesion()
    draw = {
        Category.OSTEOARTHRITIS: draw_arthritis,
        Category.FEMORAL_HEAD_OSTEONECROSIS: draw_osteonecrosis,
        Category.FEMORAL_NECK_FRACTURE: draw_neck_fracture,
        Category.INTERTROCHANTERIC_FRACTURE: draw_trochanteric_fracture,
        Category.DEVELOPMENTAL_DYSPLASIA: draw_dysplasia,
    }
    return draw[category](grade, rng)


def build_hip(
    person: Person, side: Side, category: Category, grade: str, leg: Pose, rng: np.random.Generator
) -> HipModel:
    """Build a hip, as a left one, and mirror it for the right."""
    lesion = draw_lesion(category, grade, rng)
    shape = lesion.shape(_varied(person.shape, category, grade, rng))
    joint = lesion.surfaces(build_joint(person, shape, leg))
    bones = Bones(
        pelvis_piece(joint.hemipelvis, joint.centre, person.bone, rng),
        (femur_piece(joint.femur, person.bone, rng),),
    )
    bones = lesion.fragments(lesion.tissue(bones, joint), joint)
    hip = HipModel(
        side=Side.LEFT,
        pieces=(bones.hemipelvis, *bones.femur),
        implants=(),
        centre_mm=joint.femur.at("head").copy(),
        category=category,
        grade=grade,
    )
    return hip if side is Side.LEFT else _as_right(hip)


def build_joint(person: Person, shape: HipShape, leg: Pose) -> Joint:
    """Assemble pelvis and femur: the head in a spherical socket, covered as planned."""
    hemipelvis, femur = pelvis_and_femur(person.build)
    centre = femur.at("head").copy()
    tilted = (hemipelvis.vertices - centre) @ rotation_about_x(np.radians(person.tilt_deg)).T
    hemipelvis = hemipelvis.moved(tilted + centre)
    socket_mm = femur.radius_mm + shape.space_mm
    head = centre + np.array(shape.head_shift_mm)
    femur = pose(shape_femur(femur, shape), leg, head)
    roof = 0.0
    covered = open_joint(hemipelvis, centre, socket_mm, roof)
    for _ in range(3):
        excess = centre_edge_deg(covered, centre, head) - shape.centre_edge_deg
        roof = float(np.clip(roof + excess, -MOST_ROOF_DEG, MOST_ROOF_DEG))
        covered = open_joint(hemipelvis, centre, socket_mm, roof)
    return Joint(clear_head(covered, femur, 0.3), femur, centre)


def _varied(
    shape: HipShape, category: Category, grade: str, rng: np.random.Generator
) -> HipShape:
    """Vary a person's shape for one side, within what its grade allows."""
    shape = replace(
        shape,
        neck_shaft_deg=shape.neck_shaft_deg + rng.normal(0, 1.2),
        version_deg=shape.version_deg + rng.normal(0, 2.0),
        centre_edge_deg=shape.centre_edge_deg + rng.normal(0, 1.5),
        space_mm=float(np.clip(shape.space_mm + rng.normal(0, 0.25), 3.0, 5.5)),
    )
    if category is Category.NORMAL and grade == "borderline":
        return replace(shape, centre_edge_deg=rng.uniform(20.0, 25.0))
    return replace(shape, centre_edge_deg=float(np.clip(shape.centre_edge_deg, 25.5, 40.0)))


def _as_right(hip: HipModel) -> HipModel:
    return replace(
        hip,
        side=Side.RIGHT,
        pieces=tuple(piece.mirrored() for piece in hip.pieces),
        implants=tuple((material, mirrored(mesh)) for material, mesh in hip.implants),
        centre_mm=hip.centre_mm * np.array([-1.0, 1.0, 1.0]),
    )
