"""Calibration after training: temperature, operating points and least confidence.

All are fitted to held-out hips, which the network was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.rules.calibration import fit_temperature, mean_nll
from hipedge.rules.flags import softmax
from hipedge.rules.joint_fit import CRITERION, SPECIFIC_LIMIT, JointFit, fit_operating_points
from hipedge.rules.operating_points import OperatingPoint
from hipedge.types import ABNORMAL, CATEGORIES, Category

# Thresholds where there are too few hips to fit any: at least as probable as normal, and clearly
# more probable.
PLACEHOLDERS = {"sensitive": 0.5, "specific": 0.9}

# The share of hips without a finding that are called uncertain, those of the lowest confidence; it
# is part of the joint limit. Never a hip whose category has over half of the probability.
UNCERTAIN_SHARE = SPECIFIC_LIMIT / 5
MOST_MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Calibration:
    """What was fitted to held-out hips.

    `fit` says what the operating points do on these hips; it is None where they are too few to fit
    any, for the reason `too_few`: the operating points are placeholders then. `nll` is the mean
    negative log-likelihood before (temperature 1) and after.
    """

    temperature: float
    operating_points: tuple[OperatingPoint, ...]
    min_confidence: float
    fit: JointFit | None
    too_few: str
    nll: tuple[float, float]


def calibrate(
    logits: NDArray[np.float32], truth: NDArray[np.int64], films: NDArray[np.int64] | None = None
) -> Calibration:
    """Fit all three to logits (N, K) of hips of known categories (N,), on numbered films (N,)."""
    temperature = fit_temperature(logits, truth)
    probabilities = softmax(logits, temperature)
    confidence = least_confidence(probabilities, truth)
    fit, too_few = None, ""
    try:
        fit = fit_operating_points(probabilities, truth, films=films, min_confidence=confidence)
        points = tuple(fitted.point for fitted in fit.points)
    except InputError as error:
        too_few = str(error)
        points = tuple(
            OperatingPoint(name, dict.fromkeys(ABNORMAL, threshold), CRITERION)
            for name, threshold in PLACEHOLDERS.items()
        )
    return Calibration(
        temperature=temperature,
        operating_points=points,
        min_confidence=confidence,
        fit=fit,
        too_few=too_few,
        nll=(mean_nll(logits, truth, 1.0), mean_nll(logits, truth, temperature)),
    )


def least_confidence(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the confidence that `UNCERTAIN_SHARE` of the hips without a finding lie below.

    At most 0.5; without such hips, 0.
    """
    confidence = probabilities[truth == CATEGORIES.index(Category.NORMAL)].max(axis=1)
    if not len(confidence):
        return 0.0
    return min(MOST_MIN_CONFIDENCE, float(np.quantile(confidence, UNCERTAIN_SHARE)))


def choose_golden(truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` indices of hips, as evenly over the categories as possible."""
    rank_in_category = np.empty(len(truth), np.int64)
    for category in range(len(CATEGORIES)):
        chosen = np.flatnonzero(truth == category)
        rank_in_category[chosen] = np.arange(len(chosen))
    return np.sort(np.lexsort((truth, rank_in_category))[:count])
