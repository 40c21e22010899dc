"""Osteonecrosis of the femoral head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import HipShape
from hipedge.phantom.lesions.arthritis import Arthritis, draw_arthritis
from hipedge.phantom.lesions.base import Bones, Joint, Lesion
from hipedge.phantom.lesions.surfaces import direction, flatten_head
from hipedge.phantom.lesions.tissue import inside, with_tissue
from hipedge.phantom.texture import patches


@dataclass(frozen=True)
class Osteonecrosis(Lesion):
    """Osteonecrosis of the femoral head (ARCO 2019: Yoon et al. J Arthroplasty 2020;35:933–940).

    The necrotic segment is the intersection of the head with a circle of radius `segment_mm`
    centred on the head's surface at `direction_deg`. `lucency` and `patchiness` describe its
    interior and `rim` its sclerotic edge, as factors on the density of cancellous bone. The edge is
    uneven and interrupted, and interior and surroundings are mottled, by noise from `seed`.
    """

    direction_deg: float
    segment_mm: float
    rim_mm: float
    rim: float
    lucency: float
    patchiness: float
    crescent_mm: float
    depression_mm: float
    waviness: tuple[float, ...]
    seed: int
    secondary: Arthritis | None = None

    def shape(self, shape: HipShape) -> HipShape:
        """Narrow the joint space if the collapse of the head has led to osteoarthritis."""
        return self.secondary.shape(shape) if self.secondary else shape

    def surfaces(self, joint: Joint) -> Joint:
        """Depress the segment into the head, with a step at its edge."""
        half_angle = np.degrees(2 * np.arcsin(min(self.segment_mm / 2 / joint.femur.radius_mm, 1)))
        femur = flatten_head(
            joint.femur, self.direction_deg, 0.8 * half_angle, self.depression_mm, step=True
        )
        sunk = replace(joint, femur=femur)
        return self.secondary.surfaces(sunk) if self.secondary else sunk

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Change the density of the segment: its patchy interior, its rim and a crescent sign."""
        head = bones.femur[0].spongiosa
        radius = joint.femur.radius_mm
        x, y = head.grid()
        rng = np.random.default_rng(self.seed)
        fine, broad, breaks = (patches(rng, head.density.shape, mm) for mm in (0.8, 2.2, 3.5))
        dx, dz = direction(self.direction_deg) * radius
        bearing = np.arctan2(y + dz, x - dx)
        edge = self.segment_mm * (1.0 + sum(
            a * np.cos((k + 2) * bearing + 3.0 * k) for k, a in enumerate(self.waviness)
        ))  # fmt: skip
        from_edge = np.hypot(x - dx, y + dz) - edge + 1.6 * broad
        in_head = inside(radius - np.hypot(x, y), 0.8)
        segment = inside(-from_edge, 1.8) * in_head
        mottled = 0.5 * fine + broad
        content = np.clip(self.lucency * (1.0 + 0.8 * self.patchiness * mottled), 0.3, None)
        width = 1.2 * self.rim_mm
        rim = np.exp(-0.5 * ((from_edge - 0.5 * width) / (0.7 * width)) ** 2)
        rim *= in_head * inside(breaks + 0.3 * fine, 0.35)
        # Repair around the segment is uneven too, and fades into the neck.
        repair = np.exp(-np.clip(from_edge, 0.0, None) / 6.0) * inside(from_edge, 1.0) * in_head
        dense = 1.0 + rim * (self.rim - 1.0) + 0.25 * (self.rim - 1.0) * repair * (1.0 + broad)
        factor = (1.0 + segment * (content - 1.0)) * np.clip(dense, 0.4, None)
        if self.crescent_mm:
            depth = radius - self.depression_mm - np.hypot(x, y) + 0.5 * broad
            line = np.exp(-0.5 * ((depth - 2.6) / (0.5 * self.crescent_mm)) ** 2)
            factor = factor * (1.0 - 0.75 * line * inside(-from_edge - 2.0, 1.0))
        painted = with_tissue(
            bones, bones.hemipelvis.spongiosa, head.times(factor.astype(np.float32))
        )
        return self.secondary.tissue(painted, joint) if self.secondary else painted


def draw_osteonecrosis(grade: str, rng: np.random.Generator) -> Osteonecrosis:
    """Draw osteonecrosis of ARCO stage 2, 3A, 3B or 4."""
    crescent, depression = {
        "arco2": ((0.0, 0.0), (0.0, 0.0)),
        "arco3a": ((0.5, 1.5), (0.3, 2.0)),
        "arco3b": ((0.0, 1.0), (2.0, 6.0)),
        "arco4": ((0.0, 0.0), (2.0, 8.0)),
    }[grade]
    return Osteonecrosis(
        direction_deg=rng.normal(12, 14),
        segment_mm=rng.uniform(11, 27) if grade == "arco2" else rng.uniform(15, 28),
        rim_mm=rng.uniform(1.0, 3.0),
        rim=rng.uniform(1.35, 2.3),
        lucency=rng.uniform(0.55, 1.15),
        patchiness=rng.uniform(0.15, 0.5),
        crescent_mm=rng.uniform(*crescent),
        depression_mm=rng.uniform(*depression),
        waviness=tuple(rng.normal(0, 0.10, size=4)),
        seed=int(rng.integers(2**32)),
        secondary=draw_arthritis("kl3", rng) if grade == "arco4" else None,
    )
