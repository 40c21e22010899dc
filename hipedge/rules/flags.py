"""The flag rule on arrays: from logits to probabilities, and from probabilities to flags.

All code that flags hips calls `flag_margins`: screening, the parity check of a backend, and the
calibration and evaluation of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hipedge.types import CATEGORIES, HARDWARE, OTHER_WEIGHT, Category, FlagCriterion

# Part of every rule's identifier. Increment it whenever a change to the code of a rule changes
# decisions: they are then recomputed from the logits in the database.
RULE_VERSION = 3

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
    """Return the scores to compare with the thresholds, (..., K) -> (..., K), from 0 to 1.

    With the criterion against normal, the score of normal itself has no meaning.
    """
    if criterion is FlagCriterion.PROBABILITY:
        return probabilities
    both = probabilities + probabilities[..., _NORMAL, None]
    others = np.maximum(0.0, probabilities.sum(axis=-1, keepdims=True) - both)
    weighted = both + OTHER_WEIGHT * others
    return np.asarray(
        np.divide(probabilities, weighted, out=np.zeros_like(probabilities), where=weighted > 0)
    )


def flag_margins(
    probabilities: NDArray[np.float64],
    thresholds: Mapping[Category, float],
    criterion: FlagCriterion,
    *,
    flag_hardware: bool,
) -> NDArray[np.float64]:
    """Return the margin of each category over its threshold, (..., K) -> (..., K).

    A hip is flagged for the categories whose margin is not negative. Categories without a threshold
    never flag (their margin is -inf), and hardware flags only if the site enables it.
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
