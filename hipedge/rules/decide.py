"""The decision from the scores of a hip to its finding, with the parameters of card and site."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import ConfigError
from hipedge.rules.flags import RULE_VERSION, flag_margins, softmax
from hipedge.types import CATEGORIES, HARDWARE, Category, Finding, FlagCriterion, Mark, Priority

HARDWARE_NOTE = "not assessed for loosening or fracture around the implant"


@dataclass(frozen=True)
class Rule:
    """The parameters that determine a finding from scores; a new rule needs no new inference.

    `thresholds` holds a number from 0 to 1 for each abnormal category; `criterion` determines the
    score that is compared with it. Hardware raises a flag only if the site enables it
    (`flag_hardware`).
    """

    operating_point: str
    temperature: float
    thresholds: Mapping[Category, float]
    min_confidence: float
    flag_hardware: bool = False
    criterion: FlagCriterion = FlagCriterion.PROBABILITY

    @cached_property
    def rule_id(self) -> str:
        """SHA-256 of the rule's parameters and of the version of the code that applies them."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the rule as canonical JSON."""
        content = {"rule_version": RULE_VERSION, **asdict(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Rule:
        """Return the rule of a text made by `to_json`.

        Raises `ConfigError` where another version of the code made it: it would decide otherwise.
        """
        content = json.loads(text)
        if (version := content.pop("rule_version")) != RULE_VERSION:
            raise ConfigError(
                f"made by version {version} of the flag rule, and this hipedge has {RULE_VERSION}"
            )
        thresholds = {Category(name): limit for name, limit in content["thresholds"].items()}
        criterion = FlagCriterion(content["criterion"])
        return cls(**{**content, "thresholds": thresholds, "criterion": criterion})


def decide(logits: Sequence[NDArray[np.float32]], rule: Rule) -> Finding:
    """Return the finding of one hip from the logits (K,) of each orientation that was scored.

    The category is the most probable one. A hip is flagged for every category that reaches its
    threshold, even if another category is more probable, and as uncertain if no category is
    probable enough. A hip of unknown side is scored in both orientations; each abnormal category
    then takes the higher of both probabilities, and normal the lower.
    """
    probabilities = _most_abnormal(softmax(np.stack(logits), rule.temperature))
    margins = flag_margins(
        probabilities, rule.thresholds, rule.criterion, flag_hardware=rule.flag_hardware
    )
    best = int(np.argmax(probabilities))
    flagged_for = tuple(CATEGORIES[k] for k in np.flatnonzero(margins >= 0))
    uncertain = bool(probabilities[best] < rule.min_confidence)
    return Finding(
        category=CATEGORIES[best],
        probabilities=tuple(float(p) for p in probabilities),
        flagged_for=flagged_for,
        uncertain=uncertain,
        priority=_priority(CATEGORIES[best], flagged_for, uncertain),
        operating_point=rule.operating_point,
    )


def _most_abnormal(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maximum of each abnormal probability and the minimum of normal, (n, K) -> (K,)."""
    combined = probabilities.max(axis=0)
    normal = CATEGORIES.index(Category.NORMAL)
    combined[normal] = probabilities[:, normal].min()
    return np.asarray(combined)


def _priority(category: Category, flagged_for: Sequence[Category], uncertain: bool) -> Priority:
    if any(flagged.priority is Priority.URGENT for flagged in flagged_for):
        return Priority.URGENT
    if flagged_for or uncertain:
        return Priority.ROUTINE
    return Priority.RECORDED if category in HARDWARE else Priority.NONE


def population_marks(
    age_years: float | None, age_range_years: tuple[float, float] | None
) -> frozenset[Mark]:
    """Mark a patient whose known age is outside the age range for which the model is intended."""
    if age_years is None or age_range_years is None:
        return frozenset()
    youngest, oldest = age_range_years
    inside = youngest <= age_years <= oldest
    return frozenset() if inside else frozenset({Mark.OUTSIDE_POPULATION})
