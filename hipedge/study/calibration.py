"""Calibration of probabilities, and recalibration on a site's own cases.

Recalibration fits a factor on the model's temperature and the two operating points, jointly over
the categories (`hipedge.rules.joint_fit`). Both are stored in a site file (`hipedge.rules.site`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.rules import calibration
from hipedge.rules.joint_fit import fit_operating_points
from hipedge.rules.site import SiteCalibration
from hipedge.study.cases import Cases
from hipedge.study.resampling import SEED, Array
from hipedge.study.scores import N_BINS, calibration_bins, ece_terms
from hipedge.types import CATEGORIES

MIN_HIPS = 200
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
    return calibration.fit_temperature(np.log(np.maximum(probabilities, _MIN_PROBABILITY)), truth)


def calibrate(cases: Cases, *, min_confidence: float = 0.0) -> SiteCalibration:
    """Fit temperature and operating points to a site's labelled hips.

    Hips of unknown side are excluded: their probabilities are the higher of two readings. Hips
    under `min_confidence`, the model's, count among the flagged. Raises `InputError` if there are
    too few hips, too few without a finding, or too few of every category.
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
    _, films = np.unique(usable.films, return_inverse=True)
    fit = fit_operating_points(
        rescale(probabilities, factor), truth, films=films, min_confidence=min_confidence
    )
    cross_fitted = _cross_fit(usable)
    return SiteCalibration(
        factor,
        fit,
        hips=n,
        patients=int(np.unique(usable.patients).size),
        counts={c.value: int(np.sum(truth == k)) for k, c in enumerate(CATEGORIES)},
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
