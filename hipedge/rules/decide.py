"""decide: from scores to a finding. The numbers come from the model's card and the site."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hipedge.types import ABNORMAL, CATEGORIES, Category, Finding, Mark, Priority

# How soon a doctor should see each category, were it found.
PRIORITIES: Mapping[Category, Priority] = {
    Category.NORMAL: Priority.NONE,
    Category.OSTEOARTHRITIS: Priority.ROUTINE,
    Category.FEMORAL_HEAD_OSTEONECROSIS: Priority.ROUTINE,
    Category.FEMORAL_NECK_FRACTURE: Priority.URGENT,
    Category.INTERTROCHANTERIC_FRACTURE: Priority.URGENT,
    Category.DEVELOPMENTAL_DYSPLASIA: Priority.ROUTINE,
    Category.TOTAL_HIP_ARTHROPLASTY: Priority.RECORDED,
    Category.INTERNAL_FIXATION: Priority.RECORDED,
}
HARDWARE = tuple(c for c in CATEGORIES if PRIORITIES[c] is Priority.RECORDED)
HARDWARE_NOTE = "not assessed for loosening or fracture around the implant"


@dataclass(frozen=True)
class Rule:
    """Everything that turns scores into a finding; another rule needs no new inference.

    `thresholds` hold a probability for each abnormal category. Hardware raises a flag only
    where the site asks for it (`flag_hardware`).
    """

    operating_point: str
    temperature: float
    thresholds: Mapping[Category, float]
    min_confidence: float
    flag_hardware: bool = False

    @cached_property
    def rule_id(self) -> str:
        """SHA-256 of the rule's content: equal rules have equal identifiers."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the rule as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def decide(logits: Sequence[NDArray[np.float32]], rule: Rule) -> Finding:
    """Decide about one hip from the logits (K,) of each way that it was seen: one or two.

    The category is the most probable one. A hip is flagged where any flagging category reaches
    its threshold, even if another is more probable, and where no category is probable enough.
    Seen both ways (unknown side), the higher abnormal probabilities decide.
    """
    probabilities = _most_abnormal([softmax(one, rule.temperature) for one in logits])
    best = int(np.argmax(probabilities))
    flagged_for = tuple(
        category
        for category in ABNORMAL
        if (rule.flag_hardware or category not in HARDWARE)
        and probabilities[CATEGORIES.index(category)] >= rule.thresholds[category]
    )
    uncertain = bool(probabilities[best] < rule.min_confidence)
    return Finding(
        category=CATEGORIES[best],
        probabilities=tuple(float(p) for p in probabilities),
        flagged_for=flagged_for,
        uncertain=uncertain,
        priority=_priority(CATEGORIES[best], flagged_for, uncertain),
        operating_point=rule.operating_point,
    )


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return calibrated probabilities (K,): softmax of logits over temperature.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max())
    return np.asarray(exponentials / exponentials.sum())


def _most_abnormal(ways: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the higher of each abnormal probability (K,), and the lower of normal."""
    highest = np.max(ways, axis=0)
    normal = CATEGORIES.index(Category.NORMAL)
    highest[normal] = min(way[normal] for way in ways)
    return np.asarray(highest)


def _priority(category: Category, flagged_for: Sequence[Category], uncertain: bool) -> Priority:
    if any(PRIORITIES[c] is Priority.URGENT for c in flagged_for):
        return Priority.URGENT
    if flagged_for or uncertain:
        return Priority.ROUTINE
    return Priority.RECORDED if category in HARDWARE else Priority.NONE


def population_marks(
    age_years: float | None, age_range_years: tuple[float, float] | None
) -> frozenset[Mark]:
    """Mark a patient whose known age lies outside the ages that the model was made for."""
    if age_years is None or age_range_years is None:
        return frozenset()
    youngest, oldest = age_range_years
    inside = youngest <= age_years <= oldest
    return frozenset() if inside else frozenset({Mark.OUTSIDE_POPULATION})
