"""Lesions of the native hip, in the grades of `docs/categories.md`.

A lesion can change a hip in up to four steps: its shape parameters, its surfaces, its cancellous
bone and, last, by fracturing the femur. Each lesion has its own randomly drawn parameters, in mm
and degrees at the hip, in the frame of a left hip (x lateral, y posterior, z up).
"""

from __future__ import annotations

import numpy as np

from hipedge.phantom.lesions.arthritis import draw_arthritis
from hipedge.phantom.lesions.base import Bones, Joint, Lesion, draw_doubtful
from hipedge.phantom.lesions.dysplasia import draw_dysplasia
from hipedge.phantom.lesions.fractures import (
    cut_piece,
    draw_fixed_fracture,
    draw_neck_fracture,
    draw_trochanteric_fracture,
)
from hipedge.phantom.lesions.osteonecrosis import draw_osteonecrosis
from hipedge.phantom.lesions.surfaces import centre_edge_deg, clear_head, clear_sphere
from hipedge.types import Category

__all__ = [
    "Bones",
    "Joint",
    "Lesion",
    "centre_edge_deg",
    "clear_head",
    "clear_sphere",
    "cut_piece",
    "draw_lesion",
]

_DRAWN = {
    Category.OSTEOARTHRITIS: draw_arthritis,
    Category.FEMORAL_HEAD_OSTEONECROSIS: draw_osteonecrosis,
    Category.FEMORAL_NECK_FRACTURE: draw_neck_fracture,
    Category.INTERTROCHANTERIC_FRACTURE: draw_trochanteric_fracture,
    Category.DEVELOPMENTAL_DYSPLASIA: draw_dysplasia,
    Category.INTERNAL_FIXATION: draw_fixed_fracture,
}


def draw_lesion(category: Category, grade: str, rng: np.random.Generator) -> Lesion:
    """Draw the lesion of the native bone for a hip of this category and grade."""
    if category in _DRAWN:
        return _DRAWN[category](grade, rng)
    return draw_doubtful(rng) if grade == "kl1" else Lesion()
