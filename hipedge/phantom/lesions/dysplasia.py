"""Developmental dysplasia of the hip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hipedge.phantom.anatomy import HipShape, atlas
from hipedge.phantom.lesions.arthritis import Arthritis, draw_arthritis
from hipedge.phantom.lesions.base import Bones, Joint, Lesion
from hipedge.phantom.lesions.surfaces import clear_head


@dataclass(frozen=True)
class Dysplasia(Lesion):
    """Developmental dysplasia (Crowe et al. J Bone Joint Surg Am 1979;61:15–23; Wiberg 1939).

    `centre_edge_deg` is the coverage of the head by the acetabular roof. The head is displaced
    upwards by `raised_mm` and laterally by `lateral_mm`; the socket is `filled_mm` shallower.
    """

    centre_edge_deg: float
    raised_mm: float
    lateral_mm: float
    filled_mm: float
    head_scale: float
    neck_shaft_deg: float
    version_deg: float
    secondary: Arthritis | None = None

    def shape(self, shape: HipShape) -> HipShape:
        """Uncover and raise the head, and turn the neck upwards and forwards."""
        shape = replace(
            shape,
            centre_edge_deg=self.centre_edge_deg,
            head_scale=shape.head_scale * self.head_scale,
            neck_shaft_deg=self.neck_shaft_deg,
            version_deg=self.version_deg,
            head_shift_mm=shape.shifted(self.lateral_mm, 0.25 * self.raised_mm, self.raised_mm),
        )
        return self.secondary.shape(shape) if self.secondary else shape

    def surfaces(self, joint: Joint) -> Joint:
        """Fill the floor of the socket, and hollow the ilium where the displaced head lies."""
        mean = atlas()
        vertices = joint.hemipelvis.vertices
        floor = vertices[mean.socket] - joint.centre
        depth = np.clip(-floor[:, 0] / (joint.femur.radius_mm * 1.2), 0.0, 1.0)
        push = np.zeros((len(mean.socket), 3))
        push[:, 0] = self.filled_mm * depth
        filled = joint.hemipelvis.moved(vertices + mean.socket_pull @ push)
        joint = replace(joint, hemipelvis=clear_head(filled, joint.femur, 2.0))
        return self.secondary.surfaces(joint) if self.secondary else joint

    def tissue(self, bones: Bones, joint: Joint) -> Bones:
        """Add the changes of secondary osteoarthritis."""
        return self.secondary.tissue(bones, joint) if self.secondary else bones


def draw_dysplasia(grade: str, rng: np.random.Generator) -> Dysplasia:
    """Draw a dysplastic hip, contained or of Crowe type I to IV."""
    edge, raised, lateral, filled, scale = {
        "crowe1_contained": ((8, 20), (0, 4), (0, 2), (0, 1), (0.96, 1.03)),
        "crowe1": ((-4, 15), (7, 20), (1, 6), (1, 4), (0.90, 1.0)),
        "crowe2": ((-10, 8), (22, 33), (9, 16), (3, 8), (0.86, 0.98)),
        "crowe3": ((-10, 5), (33, 44), (17, 25), (5, 10), (0.82, 0.96)),
        "crowe4": ((-10, 5), (44, 80), (28, 38), (6, 12), (0.72, 0.92)),
    }[grade]
    secondary = None
    if rng.uniform() < 0.2:
        # A larger rim osteophyte would restore the coverage of the head.
        secondary = replace(
            draw_arthritis("kl2", rng), rim_osteophyte_mm=0.5, direction_deg=rng.normal(20, 8)
        )
    return Dysplasia(
        # Mild loss of coverage is more common than severe loss, also within a grade.
        centre_edge_deg=edge[1] - (edge[1] - edge[0]) * rng.uniform() ** 2,
        raised_mm=rng.uniform(*raised),
        lateral_mm=rng.uniform(*lateral),
        filled_mm=rng.uniform(*filled),
        head_scale=rng.uniform(*scale),
        neck_shaft_deg=rng.normal(131, 6),
        version_deg=rng.normal(4, 9),
        secondary=secondary,
    )
