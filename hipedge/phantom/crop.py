"""Generate simulated hip crops on the fly, for training without files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.phantom.film import crop_of, draw_film
from hipedge.types import Category, CropGeometry, Side


@dataclass(frozen=True)
class CropTruth:
    """Ground truth of a simulated crop."""

    category: Category
    grade: str
    side: Side
    hospital: str
    age_years: int
    sex: str


def crop(
    rng: np.random.Generator | int,
    geometry: CropGeometry,
    category: Category | None = None,
    style: str | None = None,
) -> tuple[NDArray[np.uint8], CropTruth]:
    """Draw one hip crop as the network's input, with its ground truth.

    The crop is uint8 (1, S, S), oriented as a right hip. The same seed, geometry and arguments give
    the same crop; a generator gives a new crop at each call. `style` is the name of a hospital. If
    `category` or `style` is None, it is drawn from the same distribution as for whole films.
    """
    rng = np.random.default_rng(rng)
    side = Side(rng.choice([Side.RIGHT.value, Side.LEFT.value]))
    film = draw_film(
        int(rng.integers(2**63)),
        categories={side: category} if category else None,
        hospital=style,
        only=side,
    )
    hip = film.hip(side)
    truth = CropTruth(
        category=hip.category,
        grade=hip.grade,
        side=side,
        hospital=film.hospital.name,
        age_years=film.identity.age_years,
        sex=film.identity.sex,
    )
    return crop_of(film, side, geometry), truth
