"""Calibration of probabilities, and recalibration on a site's own cases.

Recalibration fits a factor on the model's temperature and the thresholds of the two operating
points. Both are stored in a site file (`hipedge.rules.site`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from hipedge.errors import InputError
from hipedge.rules.operating_points import OperatingPoint
from hipedge.rules.site import SiteCalibration
from hipedge.study.cases import Cases
from hipedge.study.resampling import SEED, Array
from hipedge.study.scores import N_BINS, calibration_bins, ece_terms
from hipedge.types import CATEGORIES, Category

# A threshold for 95 % sensitivity is the 5 % quantile: with 20 cases, the lowest score but one.
MIN_HIPS = 200
MIN_HIPS_PER_CATEGORY = 20
TARGET_RATE = 0.95
FOLDS = 5

_MIN_PROBABILITY = 1e-7  # replaces probabilities that were rounded to 0


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability curve: mean confidence, accuracy and number of hips per bin."""

    confidence: Array
    accuracy: Array
    hips: NDArray[np.int64]


def reliability(confidence: Array, correct: NDArray[np.bool_]) -> Reliability:
    """Return the curve over bins of equal width; an empty bin is NaN."""
    bins = calibration_bins(confidence)
    hips = np.bincount(bins, minlength=N_BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(bins, confidence, N_BINS) / hips,
            np.bincount(bins, correct, N_BINS) / hips,
            hips,
        )


def expected_calibration_error(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the expected calibration error of the top category (Guo et al. 2017)."""
    correct = probabilities.argmax(axis=1) == truth
    terms = ece_terms(probabilities.max(axis=1), correct)
    return float(np.abs(terms.sum(axis=0)).sum() / truth.size)


def log_loss(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the mean negative log-likelihood."""
    likelihood = probabilities[np.arange(truth.size), truth]
    return float(-np.mean(np.log(np.maximum(likelihood, _MIN_PROBABILITY))))


def rescale(probabilities: Array, factor: float) -> Array:
    """Return probabilities (N, K) at `factor` times their temperature."""
    logits = np.log(np.maximum(probabilities, _MIN_PROBABILITY)) / factor
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def at_temperature(cases: Cases, factor: float) -> Cases:
    """Return cases with their probabilities at `factor` times the temperature.

    Merged probabilities become NaN: each is the higher of two readings, whose logits are unknown.
    """
    usable = cases.scored & ~cases.merged
    probabilities = np.full_like(cases.probabilities, np.nan)
    probabilities[usable] = rescale(cases.probabilities[usable], factor)
    return replace(cases, probabilities=probabilities)


def fit_temperature(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the temperature factor with the lowest log loss (Guo et al. 2017)."""
    best = minimize_scalar(
        lambda log_factor: log_loss(rescale(probabilities, float(np.exp(log_factor))), truth),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(best.x))


def fit_operating_points(
    probabilities: Array, truth: NDArray[np.integer]
) -> tuple[OperatingPoint, OperatingPoint]:
    """Return the operating points `sensitive` and `specific`, for categories with enough cases.

    `sensitive` is the highest threshold with at least 95 % sensitivity, `specific` the lowest with
    at least 95 % specificity. If the former is higher, the two are swapped, so that `sensitive`
    never flags fewer hips. `normal` has no threshold.
    """
    sensitive: dict[Category, float] = {}
    specific: dict[Category, float] = {}
    for k, category in enumerate(CATEGORIES):
        score, positive = probabilities[:, k], truth == k
        enough = MIN_HIPS_PER_CATEGORY <= positive.sum() <= truth.size - MIN_HIPS_PER_CATEGORY
        if category is Category.NORMAL or not enough:
            continue
        positives, negatives = np.sort(score[positive]), np.sort(score[~positive])
        max_missed = int(np.floor((1 - TARGET_RATE) * positives.size + 1e-9))
        min_cleared = int(np.ceil(TARGET_RATE * negatives.size - 1e-9))
        for_sensitivity = float(positives[max_missed])
        for_specificity = float(np.nextafter(negatives[min_cleared - 1], 1))
        sensitive[category] = min(for_sensitivity, for_specificity)
        specific[category] = max(for_sensitivity, for_specificity)
    return OperatingPoint("sensitive", sensitive), OperatingPoint("specific", specific)


def calibrate(cases: Cases) -> SiteCalibration:
    """Fit temperature and operating points to a site's labelled hips.

    Hips of unknown side are excluded: their probabilities are the higher of two readings. Raises
    `InputError` if there are too few hips, or too few of every category.
    """
    usable = cases.select(cases.scored & ~cases.merged)
    n = len(usable)
    if n < MIN_HIPS:
        raise InputError(
            f"{n} hips with probabilities and a known side are too few to calibrate on: "
            f"label at least {MIN_HIPS}"
        )
    truth, probabilities = usable.truth, usable.probabilities
    factor = fit_temperature(probabilities, truth)
    points = fit_operating_points(rescale(probabilities, factor), truth)
    if not points[0].thresholds:
        raise InputError(
            f"no category has {MIN_HIPS_PER_CATEGORY} hips: label more before calibrating"
        )
    cross_fitted = _cross_fit(usable)
    counts = {c.value: int(np.sum(truth == k)) for k, c in enumerate(CATEGORIES)}
    abnormal = [c for c in CATEGORIES if c is not Category.NORMAL]
    return SiteCalibration(
        factor,
        points,
        hips=n,
        patients=int(np.unique(usable.patients).size),
        counts=counts,
        left_out=tuple(c.value for c in abnormal if c not in points[0].thresholds),
        ece=(
            expected_calibration_error(probabilities, truth),
            expected_calibration_error(cross_fitted, truth),
        ),
        log_loss=(log_loss(probabilities, truth), log_loss(cross_fitted, truth)),
    )


def _cross_fit(cases: Cases) -> Array:
    """Return probabilities (N, K), each at a temperature fitted to the other folds of patients."""
    patients = np.unique(cases.patients)
    fold_of = np.random.default_rng(SEED).permutation(patients.size) % FOLDS
    fold = fold_of[np.searchsorted(patients, cases.patients)]
    cross_fitted = np.empty_like(cases.probabilities)
    for held_out in range(FOLDS):
        in_fold = fold == held_out
        factor = fit_temperature(cases.probabilities[~in_fold], cases.truth[~in_fold])
        cross_fitted[in_fold] = rescale(cases.probabilities[in_fold], factor)
    return cross_fitted
