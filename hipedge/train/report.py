"""Summary of a manifest's data, reported before the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hipedge.train.data import Crops
from hipedge.train.manifest import SPLITS
from hipedge.types import CATEGORIES, Category


@dataclass(frozen=True)
class DataReport:
    """Counts of the hips of a manifest that could be read.

    `hips` are counted by split and category, `patients` by split, `sites` and `sides` over all
    splits. `ages_years` is the minimum, median and maximum of the training ages, or None if no age
    is known, and `ages_unknown` the number of training hips without an age. `copies` are groups of
    lines with the same pixels and side; `refused` are the lines that were excluded, with reasons.
    """

    hips: Mapping[str, Mapping[Category, int]]
    patients: Mapping[str, int]
    sites: Mapping[str, int]
    sides: Mapping[str, int]
    ages_years: tuple[float, float, float] | None
    ages_unknown: int
    copies: tuple[tuple[int, ...], ...]
    refused: tuple[tuple[int, str], ...]

    def to_json(self) -> dict[str, object]:
        """Return the report as values that `json` can write."""
        hips = {
            split: {category.value: n for category, n in counts.items()}
            for split, counts in self.hips.items()
        }
        return {**vars(self), "hips": hips}


def describe(crops: Crops) -> DataReport:
    """Summarise crops."""
    rows = crops.rows
    used = [split for split in SPLITS if any(row.split == split for row in rows)]
    counts = Counter((row.split, row.category) for row in rows)
    ages = [row.age_years for row in rows if row.split == SPLITS[0]]
    known = [age for age in ages if age is not None]
    same: dict[tuple[str, str], list[int]] = {}
    for row, pixels in zip(rows, crops.pixel_hash, strict=True):
        same.setdefault((pixels, row.side.value), []).append(row.line)
    return DataReport(
        hips={s: {category: counts[s, category] for category in CATEGORIES} for s in used},
        patients={s: len({row.patient for row in rows if row.split == s}) for s in used},
        sites=dict(Counter(row.site or "unknown" for row in rows)),
        sides=dict(Counter(row.side.value for row in rows)),
        ages_years=(min(known), float(np.median(known)), max(known)) if known else None,
        ages_unknown=len(ages) - len(known),
        copies=tuple(tuple(lines) for lines in same.values() if len(lines) > 1),
        refused=tuple((row.line, why) for row, why in crops.refused),
    )
