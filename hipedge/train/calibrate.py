"""After training: what the logits are worth, and from which probability a hip is flagged.

All is fitted on the validation split, which the network has not learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.rules.flags import softmax
from hipedge.types import ABNORMAL, CATEGORIES, Category

AIM = 0.95
# A threshold for 95 % is a quantile that one case in twenty decides.
FEWEST = 20
# Where no category has enough cases: two thresholds that say no more than "likely" and "rather".
FALLBACK = {"sensitive": 0.3, "specific": 0.6}

TEMPERATURES = (0.05, 20.0)
TOLERANCE = 1e-4
# So many hips are called uncertain, the least sure ones; none whose category has over half of the
# probability.
UNCERTAIN_SHARE = 0.05
MOST_MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Calibration:
    """What was fitted. `borrowed` are the categories with too few hips for thresholds of their own.

    `nll` is the mean negative log-likelihood before (temperature 1) and after.
    """

    temperature: float
    operating_points: Mapping[str, Mapping[Category, float]]
    min_confidence: float
    borrowed: tuple[Category, ...]
    nll: tuple[float, float]


def calibrate(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Fit all three to logits (N, K) of hips of known category (N,)."""
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


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Return the temperature of least negative log-likelihood, within `TEMPERATURES`.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017. The likelihood is concave in
    the temperature's inverse, so that a section search finds its maximum; where every hip is
    right it has none, and the lower bound is returned.
    """
    low, high = np.log(TEMPERATURES)
    while high - low > TOLERANCE:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if mean_nll(logits, truth, np.exp(left)) <= mean_nll(logits, truth, np.exp(right)):
            high = right
        else:
            low = left
    return float(np.exp(low))


def mean_nll(logits: NDArray[np.float32], truth: NDArray[np.int64], temperature: float) -> float:
    """Return the mean negative log-likelihood of logits (N, K) at a temperature."""
    scores = logits.astype(np.float64) / temperature
    scores -= scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scores).sum(axis=1))
    return float(np.mean(log_sum - scores[np.arange(len(truth)), truth]))


def fit_operating_points(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[dict[str, dict[Category, float]], tuple[Category, ...]]:
    """Return both operating points, and the categories whose thresholds are borrowed.

    `sensitive` is the highest threshold that finds at least 95 % of a category's hips, `specific`
    the lowest that leaves at least 95 % of the others alone. Where the first lies above the second
    each meets both aims, and they change places: `sensitive` never flags less than `specific`.
    A category with fewer than `FEWEST` hips borrows the median of the other categories' thresholds,
    and `FALLBACK` where no category has enough.
    """
    fitted = {}
    for category in ABNORMAL:
        of_it = truth == CATEGORIES.index(category)
        scores = probabilities[:, CATEGORIES.index(category)]
        if min(of_it.sum(), (~of_it).sum()) >= FEWEST:
            fitted[category] = _thresholds(np.sort(scores[of_it]), np.sort(scores[~of_it]))
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
    """Return the thresholds sensitive, specific from sorted probabilities of both kinds of hips."""
    may_miss = int(np.floor((1 - AIM) * len(positives) + 1e-9))
    must_spare = int(np.ceil(AIM * len(negatives) - 1e-9))
    finds = float(positives[may_miss])
    # A hip is flagged at its threshold too, so the lowest that spares a hip lies just above it.
    spares = min(1.0, float(np.nextafter(negatives[must_spare - 1], 2)))
    return min(finds, spares), max(finds, spares)


def least_confidence(probabilities: NDArray[np.float64]) -> float:
    """Return the confidence under which the least sure hips lie, `UNCERTAIN_SHARE` of them."""
    confidence = probabilities.max(axis=1)
    return min(MOST_MIN_CONFIDENCE, float(np.quantile(confidence, UNCERTAIN_SHARE)))


def choose_golden(truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` indices of hips, of each category in turn for as long as it has any."""
    turns = np.empty(len(truth), np.int64)
    for category in range(len(CATEGORIES)):
        of_it = np.flatnonzero(truth == category)
        turns[of_it] = np.arange(len(of_it))
    return np.sort(np.lexsort((truth, turns))[:count])
