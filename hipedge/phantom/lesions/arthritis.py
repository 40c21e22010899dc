"""Osteoarthritis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import HipShape
from hipedge.phantom.lesions.base import Bones, Joint, Lesion
from hipedge.phantom.lesions.surfaces import (
    clear_head,
    direction,
    flatten_head,
    head_osteophytes,
    rim_osteophyte,
)
from hipedge.phantom.lesions.tissue import Cyst, hollowed, thickened, with_tissue


@dataclass(frozen=True)
class Arthritis(Lesion):
    """Osteoarthritis (Kellgren, Lawrence. Ann Rheum Dis 1957;16:494–502).

    `narrowest_mm` is the minimum joint space width, at `direction_deg` from the vertical (lateral
    positive). Osteophytes are given by their height, and sclerosis by its depth on either side of
    the narrowest point.
    """

    narrowest_mm: float
    direction_deg: float
    head_osteophyte_mm: float
    rim_osteophyte_mm: float
    sclerosis_mm: float
    flattening_mm: float
    wear_mm: float
    cysts: tuple[Cyst, ...]

    def shape(self, shape: HipShape) -> HipShape:
        """Move the head towards the narrowest point, and into the bone if that is worn away."""
        way = max(shape.space_mm - self.narrowest_mm, 0.0) + self.wear_mm
        x, z = direction(self.direction_deg) * way
        return replace(shape, head_shift_mm=shape.shifted(x, 0.0, z))

    def surfaces(self, joint: Joint) -> Joint:
        """Add osteophytes to the head and the rim, and flatten the head in its loaded area."""
        femur = flatten_head(joint.femur, self.direction_deg, 38.0, self.flattening_mm)
        femur = head_osteophytes(femur, self.head_osteophyte_mm)
        hemipelvis = clear_head(joint.hemipelvis, femur, max(self.narrowest_mm, 0.2))
        hemipelvis = rim_osteophyte(hemipelvis, joint.centre, femur, self.rim_osteophyte_mm)
        return Joint(hemipelvis, femur, joint.centre)

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Add subchondral sclerosis beside the narrowest point, and the cysts."""
        radius = joint.femur.radius_mm
        socket = radius + max(self.narrowest_mm, 0.3)
        strength = 0.12 + 0.09 * self.sclerosis_mm
        pelvis = thickened(
            bones.hemipelvis.spongiosa, socket, self.direction_deg, self.sclerosis_mm, strength
        )
        head = thickened(
            bones.femur[0].spongiosa, radius, self.direction_deg, -self.sclerosis_mm, strength
        )
        for cyst in self.cysts:
            if cyst.in_socket:
                pelvis = hollowed(pelvis, cyst, socket + cyst.depth_mm)
            else:
                head = hollowed(head, cyst, radius - cyst.depth_mm)
        return with_tissue(bones, pelvis, head)


def draw_arthritis(grade: str, rng: np.random.Generator) -> Arthritis:
    """Draw osteoarthritis of Kellgren–Lawrence grade 2, 3 or 4."""
    space, head, rim, sclerosis, cysts, cyst_mm, flat, wear = {
        "kl2": ((2.0, 3.0), (2.0, 4.0), (1.0, 3.0), (1.0, 2.0), 0.15, (2, 4), (0, 0), (0, 0)),
        "kl3": ((0.8, 2.0), (3.0, 6.5), (2.5, 5.5), (2.0, 5.0), 1.0, (3, 6), (0, 1), (0, 1)),
        "kl4": ((0.0, 0.8), (5.0, 10.0), (4.0, 8.0), (4.0, 8.0), 2.5, (4, 12), (0.5, 4), (0, 6)),
    }[grade]
    direction = float(rng.choice([rng.normal(25, 12), rng.normal(-5, 8), rng.normal(-55, 10)],
                                 p=[0.65, 0.2, 0.15]))  # fmt: skip
    return Arthritis(
        narrowest_mm=rng.uniform(*space),
        direction_deg=direction,
        head_osteophyte_mm=rng.uniform(*head),
        rim_osteophyte_mm=rng.uniform(*rim),
        sclerosis_mm=rng.uniform(*sclerosis),
        flattening_mm=rng.uniform(*flat),
        wear_mm=rng.uniform(*wear),
        cysts=tuple(
            Cyst(
                angle_deg=direction + rng.normal(0, 18),
                depth_mm=rng.uniform(0.6, 1.3) * diameter,
                diameter_mm=diameter,
                in_socket=bool(rng.uniform() < 0.6),
            )
            for diameter in rng.uniform(*cyst_mm, size=rng.poisson(cysts))
        ),
    )
