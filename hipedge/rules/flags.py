"""The flag rule: from logits to probabilities, and from probabilities to flags, over arrays.

Every place that flags hips calls `flag_margins`: screening, the parity check of a backend, a
model's calibration and its evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hipedge.types import CATEGORIES, HARDWARE, Category, FlagCriterion

# Part of every rule's identifier. Raise it whenever the code of a rule changes what is decided:
# decisions are then made again from the logits that the database keeps.
RULE_VERSION = 2

_NORMAL = CATEGORIES.index(Category.NORMAL)


def softmax(logits: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Return calibrated probabilities, (..., K) -> (..., K): softmax of logits over temperature.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def flag_scores(
    probabilities: NDArray[np.float64], criterion: FlagCriterion
) -> NDArray[np.float64]:
    """Return what is compared with the thresholds, (..., K) -> (..., K), from 0 to 1.

    Against normal, the score of normal itself is 0.5 and of no meaning.
    """
    if criterion is FlagCriterion.PROBABILITY:
        return probabilities
    both = probabilities + probabilities[..., _NORMAL, None]
    return np.divide(probabilities, both, out=np.zeros_like(probabilities), where=both > 0)


def flag_margins(
    probabilities: NDArray[np.float64],
    thresholds: Mapping[Category, float],
    criterion: FlagCriterion,
    *,
    flag_hardware: bool,
) -> NDArray[np.float64]:
    """Return by how much each category reaches its threshold, (..., K) -> (..., K).

    A hip is flagged for the categories whose margin is not negative. Categories without a
    threshold never flag (-inf), and hardware only where the site asks for it.
    """
    limits = np.array(
        [
            thresholds.get(category, np.inf)
            if category is not Category.NORMAL and (flag_hardware or category not in HARDWARE)
            else np.inf
            for category in CATEGORIES
        ]
    )
    return np.asarray(flag_scores(probabilities, criterion) - limits)
