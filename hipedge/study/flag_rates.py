"""How much work the flags make, and what they find: rates per hip and per film.

An operating point is a promise about the hip: few hips without a finding get any flag, and hips
with an acute fracture get an urgent one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hipedge.rules.operating_points import OperatingPoint
from hipedge.study.cases import Cases
from hipedge.study.estimates import Cell, Estimate, Table, category_label
from hipedge.study.intervals import clustered_wilson
from hipedge.types import ACUTE_FRACTURES, CATEGORIES, Category

Mask = NDArray[np.bool_]


def flag_rate_tables(
    cases: Cases, points: tuple[OperatingPoint, ...], *, flag_hardware: bool
) -> list[Table]:
    """Report flag rates of the hips with probabilities; no table without operating points."""
    scored = cases.select(cases.scored)
    if not points or not len(scored):
        return []
    without: Mask = np.asarray(scored.truth == CATEGORIES.index(Category.NORMAL))
    _, film = np.unique(scored.films, return_inverse=True)
    patient_of_film = np.zeros(film.max() + 1, np.int64)
    patient_of_film[film] = scored.patients
    clean_film: Mask = np.asarray(np.bincount(film, ~without) == 0)
    rows: list[tuple[Cell, ...]] = []
    for point in points:
        margins = point.margins(scored.probabilities, hardware=flag_hardware)
        flagged: Mask = np.asarray((margins >= 0).any(axis=1))
        acute = margins[:, [CATEGORIES.index(c) for c in ACUTE_FRACTURES]]
        urgent: Mask = np.asarray((acute >= 0).any(axis=1))
        film_flagged: Mask = np.asarray(np.bincount(film, flagged) > 0)
        rows.append(
            (
                point.name,
                _rate(flagged[without], scored.patients[without]),
                _rate(film_flagged[clean_film], patient_of_film[clean_film]),
                _rate(film_flagged, patient_of_film),
                *(
                    _rate(urgent[has_it], scored.patients[has_it])
                    for has_it in (
                        np.asarray(scored.truth == CATEGORIES.index(c)) for c in ACUTE_FRACTURES
                    )
                ),
            )
        )
    return [
        Table(
            "flag-rates",
            "What gets a flag",
            (
                "operating point",
                "hips without a finding",
                "films without a finding",
                "all films",
                *(f"{category_label(c)}, urgent flag" for c in ACUTE_FRACTURES),
            ),
            tuple(rows),
            f"Of {int(without.sum())} hips and {int(clean_film.sum())} films without a finding,"
            f" {len(clean_film)} films in all. Flags for want of confidence are not counted.",
        )
    ]


def _rate(flagged: Mask, patients: NDArray[np.int64]) -> Estimate:
    """Return a flag rate with Wilson's interval, patients as clusters."""
    if not len(flagged):
        return Estimate(float("nan"), n=0)
    return Estimate(
        float(flagged.mean()), {"wilson": clustered_wilson(flagged, patients)}, len(flagged)
    )
