"""Insertion of lesions into a real hip, in the categories and grades of `docs/categories.md`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hipedge.insertion.contour import Floats
from hipedge.insertion.hip import Hip
from hipedge.insertion.lesions.arthritis import insert_arthritis, insert_doubtful
from hipedge.insertion.lesions.dysplasia import insert_borderline, insert_dysplasia
from hipedge.insertion.lesions.fractures import insert_neck_fracture, insert_trochanteric_fracture
from hipedge.insertion.lesions.implants import insert_arthroplasty, insert_fixation
from hipedge.insertion.lesions.osteonecrosis import insert_osteonecrosis
from hipedge.insertion.sampling import Image
from hipedge.types import Category

_INSERTERS = {
    Category.OSTEOARTHRITIS: insert_arthritis,
    Category.FEMORAL_HEAD_OSTEONECROSIS: insert_osteonecrosis,
    Category.FEMORAL_NECK_FRACTURE: insert_neck_fracture,
    Category.INTERTROCHANTERIC_FRACTURE: insert_trochanteric_fracture,
    Category.TOTAL_HIP_ARTHROPLASTY: insert_arthroplasty,
    Category.INTERNAL_FIXATION: insert_fixation,
}


@dataclass(frozen=True, eq=False)
class Inserted:
    """The canvas with a lesion, and the displacement (2,) of the head's centre, in pixels."""

    pixels: Image
    head_shift: Floats


def insert_lesion(
    hip: Hip, image: Image, category: Category, grade: str, rng: np.random.Generator
) -> Inserted:
    """Insert a lesion of this category and grade into `image`.

    `image` is the canvas of `hip`, possibly with harmless changes. A normal hip shows what its
    grade allows: nothing (`kl0`), a doubtful sign of osteoarthritis (`kl1`) or a borderline
    acetabular roof (`borderline`).
    """
    if category is Category.DEVELOPMENTAL_DYSPLASIA:
        return Inserted(*insert_dysplasia(hip, image, grade, rng))
    if category is Category.NORMAL:
        return Inserted(_within_normal(hip, image, grade, rng), np.zeros(2))
    return Inserted(_INSERTERS[category](hip, image, grade, rng), np.zeros(2))


def _within_normal(hip: Hip, image: Image, grade: str, rng: np.random.Generator) -> Image:
    if grade == "kl1":
        return insert_doubtful(hip, image, rng)
    if grade == "borderline":
        return insert_borderline(hip, image, rng)
    return image
