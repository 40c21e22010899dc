"""Calibration after training: temperature, operating points and least confidence.

All are fitted to held-out hips, which the network was not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.rules.calibration import fit_temperature, mean_nll
from hipedge.rules.flags import softmax
from hipedge.types import ABNORMAL, CATEGORIES, Category

AIM = 0.95
# A threshold for 95 % is a quantile that one case in twenty decides.
FEWEST = 20
# Where no category has enough cases: a low and a high threshold, by convention.
FALLBACK = {"sensitive": 0.3, "specific": 0.6}

# The share of hips called uncertain, those of the lowest confidence; never one whose category has
# over half of the probability.
UNCERTAIN_SHARE = 0.05
MOST_MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Calibration:
    """What was fitted; `borrowed` are the categories with too few hips for thresholds of their own.

    `nll` is the mean negative log-likelihood before (temperature 1) and after.
    """

    temperature: float
    operating_points: Mapping[str, Mapping[Category, float]]
    min_confidence: float
    borrowed: tuple[Category, ...]
    nll: tuple[float, float]


def calibrate(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Fit all three to logits (N, K) of hips of known categories (N,)."""
    temperature = fit_temperature(logits, truth)
    probabilities = softmax(logits, temperature)
    points, borrowed = fit_operating_points(probabilities, truth)
    return Calibration(
        temperature=temperature,
        operating_points=points,
        min_confidence=least_confidence(probabilities),
        borrowed=borrowed,
        nll=(mean_nll(logits, truth, 1.0), mean_nll(logits, truth, temperature)),
    )


def fit_operating_points(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[dict[str, dict[Category, float]], tuple[Category, ...]]:
    """Return both operating points, and the categories whose thresholds are borrowed.

    `sensitive` is the highest threshold with a sensitivity of at least 95 % for the category,
    `specific` the lowest with a specificity of at least 95 %. Where the first lies above the
    second, both meet both aims, and they are swapped: `sensitive` never flags less.
    A category with fewer than `FEWEST` hips borrows the median of the other categories' thresholds,
    and `FALLBACK` where no category has enough.
    """
    fitted = {}
    for category in ABNORMAL:
        positive = truth == CATEGORIES.index(category)
        scores = probabilities[:, CATEGORIES.index(category)]
        if min(positive.sum(), (~positive).sum()) >= FEWEST:
            fitted[category] = _thresholds(np.sort(scores[positive]), np.sort(scores[~positive]))
    borrowed = tuple(category for category in ABNORMAL if category not in fitted)
    points: dict[str, dict[Category, float]] = {}
    for index, name in enumerate(("sensitive", "specific")):
        own = [pair[index] for pair in fitted.values()]
        other = float(np.median(own)) if own else FALLBACK[name]
        points[name] = {
            category: fitted[category][index] if category in fitted else other
            for category in ABNORMAL
        }
    return points, borrowed


def _thresholds(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the sensitive and the specific threshold from sorted probabilities."""
    may_miss = int(np.floor((1 - AIM) * len(positives) + 1e-9))
    must_clear = int(np.ceil(AIM * len(negatives) - 1e-9))
    keeps_sensitivity = float(positives[may_miss])
    # A hip at its threshold is flagged, so the lowest threshold that clears it lies just above.
    keeps_specificity = min(1.0, float(np.nextafter(negatives[must_clear - 1], 2)))
    thresholds = keeps_sensitivity, keeps_specificity
    return min(thresholds), max(thresholds)


def least_confidence(probabilities: NDArray[np.float64]) -> float:
    """Return the confidence below which `UNCERTAIN_SHARE` of the hips lie, at most 0.5."""
    confidence = probabilities.max(axis=1)
    return min(MOST_MIN_CONFIDENCE, float(np.quantile(confidence, UNCERTAIN_SHARE)))


def choose_golden(truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` indices of hips, as evenly over the categories as possible."""
    rank_in_category = np.empty(len(truth), np.int64)
    for category in range(len(CATEGORIES)):
        chosen = np.flatnonzero(truth == category)
        rank_in_category[chosen] = np.arange(len(chosen))
    return np.sort(np.lexsort((truth, rank_in_category))[:count])
