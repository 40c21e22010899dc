"""The results of an analysis: estimates with their intervals, in tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from hipedge.types import ABNORMAL as ABNORMAL_CATEGORIES
from hipedge.types import CATEGORIES, HARDWARE, Category

PERCENT, POINTS, PLAIN = "\N{NO-BREAK SPACE}%", "\N{NO-BREAK SPACE}points", ""


@dataclass(frozen=True)
class Interval:
    """A confidence interval; an undefined interval is `None`."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A statistic with its intervals, by method, and its denominator `n`.

    `value` is NaN if the statistic is undefined, for instance the sensitivity for a category
    without cases. `unit` is the display format: a percentage for a proportion, percentage points
    for a difference of proportions, or `PLAIN`. Tables show the first interval that is defined.
    """

    value: float
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    n: int | None = None
    unit: str = PERCENT

    @property
    def shown(self) -> Interval | None:
        """The interval that tables show."""
        return next((found for found in self.intervals.values() if found is not None), None)

    @property
    def defined(self) -> bool:
        """Whether the data define this statistic."""
        return isfinite(self.value)


Cell = Estimate | str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns. `key` is used in JSON and in CSV file names."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def category_label(category: Category) -> str:
    """Return a category's display name."""
    return str(category.value).replace("_", " ")


CATEGORY_LABELS = tuple(category_label(category) for category in CATEGORIES)
ABNORMAL = tuple(category in ABNORMAL_CATEGORIES for category in CATEGORIES)
ACUTE_FRACTURE = tuple(category.is_acute_fracture for category in CATEGORIES)
ABNORMAL_BUT_HARDWARE = tuple(
    category in ABNORMAL_CATEGORIES and category not in HARDWARE for category in CATEGORIES
)
QUESTIONS: Mapping[str, tuple[bool, ...]] = {
    "any abnormality": ABNORMAL,
    "any acute fracture": ACUTE_FRACTURE,
}
