"""Build a hip of a given category and grade: joint, bones, lesion and surgical treatment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.anatomy import (
    Build,
    HipShape,
    Pose,
    mirrored,
    open_joint,
    pelvis_and_femur,
    pose,
    rotation_about_x,
    shape_femur,
    turn_roof,
)
from hipedge.phantom.bone import Quality, femur_piece, pelvis_piece
from hipedge.phantom.hardware import (
    ARTHROPLASTIES,
    FIXATIONS,
    AcetabulumFrame,
    FemurFrame,
    Implant,
    measure_femur,
)
from hipedge.phantom.lesions import (
    Bones,
    Joint,
    centre_edge_deg,
    clear_head,
    clear_sphere,
    cut_piece,
    draw_lesion,
)
from hipedge.phantom.mesh import Mesh, Points
from hipedge.phantom.relief import with_relief
from hipedge.phantom.scene import HipModel
from hipedge.types import Category, Side

MOST_ROOF_DEG = 40.0
SHAFT_CORTEX_MM = 6.0


@dataclass(frozen=True)
class Person:
    """Skeletal parameters shared by both hips of a person."""

    build: Build
    bone: Quality
    shape: HipShape
    tilt_deg: float


def build_hip(
    person: Person, side: Side, category: Category, grade: str, leg: Pose, rng: np.random.Generator
) -> HipModel:
    """Build a hip of the given side; a right hip is built as a left hip and mirrored."""
    # Each step has its own random stream, so that a lesion does not change the rest of the hip.
    shape_rng, lesion_rng, tissue_rng, implant_rng, relief_rng = rng.spawn(5)
    lesion = draw_lesion(category, grade, lesion_rng)
    shape = lesion.shape(_varied(person.shape, category, grade, shape_rng))
    joint = lesion.surfaces(build_joint(person, shape, leg, relief_rng))
    bones = Bones(
        pelvis_piece(joint.hemipelvis, joint.centre, person.bone, tissue_rng),
        (femur_piece(joint.femur, person.bone, tissue_rng),),
    )
    bones = lesion.fragments(lesion.tissue(bones, joint), joint)
    implants: tuple[tuple[str, Mesh], ...] = ()
    if category in OPERATIONS:
        implant = OPERATIONS[category](grade, joint, person, implant_rng)
        bones = _operated(bones, implant)
        implants = tuple(
            (part.material.value, Mesh(part.vertices.astype(np.float64), part.faces))
            for part in implant.parts
        )
    hip = HipModel(
        side=Side.LEFT,
        pieces=(bones.hemipelvis, *bones.femur),
        implants=implants,
        centre_mm=joint.femur.at("head").copy(),
        category=category,
        grade=grade,
    )
    return hip if side is Side.LEFT else _as_right(hip)


def _replace_joint(grade: str, joint: Joint, person: Person, rng: np.random.Generator) -> Implant:
    socket = AcetabulumFrame(
        joint.femur.at("head").copy(),
        joint.femur.radius_mm + person.shape.space_mm,
        np.array([1.0, 0.0, 0.0]),
    )
    return ARTHROPLASTIES[grade](_measured(joint, person), socket, rng)


def _fix_bone(grade: str, joint: Joint, person: Person, rng: np.random.Generator) -> Implant:
    return FIXATIONS[grade](_measured(joint, person), rng)


OPERATIONS = {
    Category.TOTAL_HIP_ARTHROPLASTY: _replace_joint,
    Category.INTERNAL_FIXATION: _fix_bone,
}


def _measured(joint: Joint, person: Person) -> FemurFrame:
    femur = joint.femur
    return measure_femur(
        femur.mesh.vertices, femur.mesh.faces, femur.at("head"), femur.radius_mm,
        SHAFT_CORTEX_MM * person.bone.cortex,
    )  # fmt: skip


def _operated(bones: Bones, implant: Implant) -> Bones:
    """Remove the resected bone: saw cuts of the femur and reaming of the acetabulum."""
    hemipelvis, femur = bones.hemipelvis, bones.femur
    if implant.resection:

        def beyond(points: Points) -> NDArray[np.float64]:
            planes = [(points - plane.point) @ plane.normal for plane in implant.resection]
            return np.asarray(np.min(planes, axis=0))

        femur = tuple(cut_piece(piece, beyond)[1] for piece in femur)
    if implant.reamed is not None:
        hemipelvis = replace(
            hemipelvis,
            outer=clear_sphere(
                hemipelvis.outer, implant.reamed.centre, implant.reamed.radius_mm + 0.2
            ),
            inner=clear_sphere(
                hemipelvis.inner, implant.reamed.centre, implant.reamed.radius_mm + 0.8
            ),
        )
    return Bones(hemipelvis, femur)


def build_joint(
    person: Person, shape: HipShape, leg: Pose, relief_rng: np.random.Generator
) -> Joint:
    """Assemble hemipelvis and femur, with a spherical acetabulum and the shape's centre-edge angle.

    The centre-edge angle is approached in two rotations of the acetabular roof.
    """
    hemipelvis, femur = pelvis_and_femur(person.build)
    centre = femur.at("head").copy()
    tilted = (hemipelvis.vertices - centre) @ rotation_about_x(np.radians(person.tilt_deg)).T
    hemipelvis = hemipelvis.moved(tilted + centre)
    head = centre + np.array(shape.head_shift_mm)
    femur = pose(shape_femur(with_relief(femur, relief_rng), shape), leg, head)
    socket_mm = femur.radius_mm + shape.space_mm
    opened = open_joint(hemipelvis, centre, socket_mm)
    covered, roof_deg = opened, 0.0
    for _ in range(2):
        excess = centre_edge_deg(covered, centre, head) - shape.centre_edge_deg
        roof_deg = float(np.clip(roof_deg + excess, -MOST_ROOF_DEG, MOST_ROOF_DEG))
        covered = turn_roof(opened, centre, socket_mm, roof_deg)
    return Joint(clear_head(covered, femur, 0.3), femur, centre)


def _varied(shape: HipShape, category: Category, grade: str, rng: np.random.Generator) -> HipShape:
    """Vary a person's shape for one side, within the limits of the hip's grade."""
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
