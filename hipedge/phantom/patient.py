"""Draw a patient: identity, skeleton, category and grade of each hip, and incidental objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hipedge.phantom import anatomy
from hipedge.phantom.anatomy import (
    Build,
    HipShape,
    Pose,
    rotation_about_x,
    rotation_about_y,
    rotation_about_z,
)
from hipedge.phantom.bone import Piece, plain_piece, quality_at
from hipedge.phantom.distractors import draw_distractors
from hipedge.phantom.hip import Person, build_hip
from hipedge.phantom.mesh import Points
from hipedge.phantom.scene import HipModel, Patient
from hipedge.phantom.soft_tissue import draw_body
from hipedge.phantom.spine import lumbar_spine
from hipedge.types import ABNORMAL, Category, Side

MODE_SPREAD = 0.9
FROG_LEG_SHARE = 0.03
EXTERNAL_SHARE = 0.15
ABDUCTED_SHARE = 0.09

# Frequencies of the categories, and of the grades within each category. At least 40 % of the hips
# of each abnormal category have one of its two mildest grades (`docs/categories.md`).
NORMAL_SHARE = 0.30
CATEGORY_SHARES: dict[Category, float] = {
    Category.NORMAL: NORMAL_SHARE,
    **dict.fromkeys(ABNORMAL, (1 - NORMAL_SHARE) / len(ABNORMAL)),
}
GRADE_SHARES: dict[Category, dict[str, float]] = {
    Category.NORMAL: {"kl0": 0.4, "kl1": 0.3, "borderline": 0.3},
    Category.OSTEOARTHRITIS: {"kl2": 0.6, "kl3": 0.3, "kl4": 0.1},
    Category.FEMORAL_HEAD_OSTEONECROSIS: {
        "arco2": 0.4, "arco3a": 0.3, "arco3b": 0.2, "arco4": 0.1,
    },
    Category.FEMORAL_NECK_FRACTURE: {
        "garden1": 0.3, "garden2": 0.3, "garden3": 0.2, "garden4": 0.2,
    },
    Category.INTERTROCHANTERIC_FRACTURE: {
        "jensen1": 0.35, "jensen2": 0.3, "jensen3": 0.12, "jensen4": 0.12, "jensen5": 0.11,
    },
    Category.DEVELOPMENTAL_DYSPLASIA: {
        "crowe1_contained": 0.78, "crowe1": 0.14, "crowe2": 0.03, "crowe3": 0.03, "crowe4": 0.02,
    },
    Category.TOTAL_HIP_ARTHROPLASTY: {
        "cemented_total_hip": 0.25, "hemiarthroplasty": 0.25,
        "uncemented_total_hip": 0.35, "resurfacing": 0.15,
    },
    Category.INTERNAL_FIXATION: {
        "cannulated_screws": 0.25, "sliding_hip_screw": 0.25,
        "cephalomedullary_nail": 0.3, "proximal_plate": 0.2,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Identity of a simulated patient: number, age in years and sex (M or F)."""

    number: int
    age_years: int
    sex: str

    @property
    def patient_id(self) -> str:
        """Return a Patient ID that cannot belong to a real person."""
        return f"PHANTOM-{self.number:06d}"


def draw_category(rng: np.random.Generator) -> Category:
    """Draw the category of a hip."""
    return Category(
        rng.choice([c.value for c in CATEGORY_SHARES], p=list(CATEGORY_SHARES.values()))
    )


def draw_grade(category: Category, rng: np.random.Generator) -> str:
    """Draw the grade of a hip of the given category."""
    shares = GRADE_SHARES[category]
    return str(rng.choice(list(shares), p=list(shares.values())))


def draw_identity(number: int, rng: np.random.Generator) -> Identity:
    """Draw the age and sex of an adult."""
    age = int(np.clip(rng.normal(64, 16), 22, 97))
    return Identity(number, age, "M" if rng.uniform() < 0.45 else "F")


def draw_person(identity: Identity, rng: np.random.Generator) -> Person:
    """Draw the skeletal parameters of a person."""
    male = identity.sex == "M"
    scores = np.clip(rng.normal(size=10), -2.0, 2.0) * MODE_SPREAD
    bone = quality_at(identity.age_years, rng.normal(0.3 if male else -0.3, 1.0))
    shape = HipShape(
        neck_shaft_deg=float(np.clip(rng.normal(129, 5), 120, 140)),
        version_deg=rng.normal(0, 8),
        head_scale=float(np.clip(rng.normal(1.0, 0.03), 0.92, 1.08)),
        space_mm=rng.uniform(3.1, 5.3),
        centre_edge_deg=rng.uniform(25.5, 40),
    )
    scale = float(np.clip(rng.normal(1.04 if male else 0.96, 0.06), 0.82, 1.2))
    return Person(
        build=Build(tuple(float(s) for s in scores), scale),
        bone=bone,
        shape=shape,
        tilt_deg=float(np.clip(rng.normal(-11, 7), -28, 6)),
    )


def draw_leg(rng: np.random.Generator) -> Pose:
    """Draw the position of a leg.

    Most are slightly turned inwards, as radiographers aim for. Some are turned outwards, which
    shows the lesser trochanter and shortens the neck, some abducted, a few in frog-leg position.
    """
    kind = rng.uniform()
    internal, abduction, flexion = rng.normal(14, 8), rng.normal(2, 6), rng.normal(0, 5)
    if kind < FROG_LEG_SHARE:
        internal, abduction = rng.uniform(-25, 5), rng.uniform(25, 45)
        flexion = rng.uniform(15, 40)
    elif kind < FROG_LEG_SHARE + EXTERNAL_SHARE:
        internal = rng.uniform(-32, 0)
    elif kind < FROG_LEG_SHARE + EXTERNAL_SHARE + ABDUCTED_SHARE:
        abduction = rng.uniform(12, 40)
    return Pose(
        internal_deg=float(np.clip(internal, -32, 32)),
        abduction_deg=float(abduction),
        flexion_deg=float(np.clip(flexion, -8, 40)),
    )


def draw_patient(
    identity: Identity,
    categories: dict[Side, tuple[Category, str]],
    rng: np.random.Generator,
    *,
    only: Side | None = None,
) -> Patient:
    """Build a patient whose hips have the given categories and grades.

    With `only`, the other hip is a normal hip of grade `kl0`. It is outside the crop, but
    contributes scatter.
    """
    person_rng, body_rng, right_rng, left_rng, rest_rng = rng.spawn(5)
    person = draw_person(identity, person_rng)
    if only:
        categories = {**dict.fromkeys(Side, (Category.NORMAL, "kl0")), only: categories[only]}
    streams = {Side.RIGHT: right_rng, Side.LEFT: left_rng}
    legs = {side: draw_leg(hip_rng) for side, hip_rng in streams.items()}
    hips = tuple(
        build_hip(person, side, *categories[side], legs[side], hip_rng)
        for side, hip_rng in streams.items()
    )
    turned, oblique = np.radians(np.clip(rest_rng.normal(0, (4.5, 3.5)), -13, 13))
    rotation = rotation_about_z(turned) @ rotation_about_y(oblique)
    hips = tuple(_turned(hip, rotation) for hip in hips)
    trunk = tuple(
        piece.moved(rotation, np.zeros(3), np.zeros(3)) for piece in _trunk(person, rest_rng)
    )
    pelvis = hips[1].pieces[0].outer.vertices
    body = draw_body(
        body_rng,
        pelvis_half_width=float(np.abs(pelvis[:, 0]).max()),
        head_x=float(np.abs(hips[1].centre_mm[0])),
        male=identity.sex == "M",
        abduction_deg=(legs[Side.RIGHT].abduction_deg, legs[Side.LEFT].abduction_deg),
    )
    return Patient(hips, trunk, draw_distractors(body, body_rng))


def _trunk(person: Person, rng: np.random.Generator) -> list[Piece]:
    """Return the bone pieces of the sacrum and the lumbar spine."""
    mean = anatomy.atlas()
    tilt = rotation_about_x(np.radians(person.tilt_deg))
    sacrum = anatomy.sacrum(person.build)
    sacrum = sacrum.moved(sacrum.vertices @ tilt.T)
    spine = lumbar_spine(sacrum, person.build.scale, rng.normal(0, 6))
    return [
        plain_piece(sacrum, mean.sacrum_wall_mm, 0.9, person.bone, rng),
        plain_piece(spine, np.full(len(spine.vertices), 7.0), 0.55, person.bone, rng),
    ]


def _turned(hip: HipModel, rotation: Points) -> HipModel:
    origin = np.zeros(3)
    return HipModel(
        side=hip.side,
        pieces=tuple(piece.moved(rotation, origin, origin) for piece in hip.pieces),
        implants=tuple(
            (material, mesh.moved(mesh.vertices @ rotation.T)) for material, mesh in hip.implants
        ),
        centre_mm=rotation @ hip.centre_mm,
        category=hip.category,
        grade=hip.grade,
    )
