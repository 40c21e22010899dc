"""How far probabilities can be believed, and refitting them on a site's own cases.

Refitting changes two things: a factor on the model's temperature, and the thresholds of the two
operating points. Both go into a site file (`site.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.rules import calibration
from hipedge.rules.site import OperatingPoint, SiteCalibration
from hipedge.study.cases import Cases
from hipedge.study.resampling import SEED, Array
from hipedge.study.scores import N_BINS, calibration_bins, ece_terms
from hipedge.types import CATEGORIES, Category

# A threshold for 95 % sensitivity is a quantile that one case in twenty decides.
FEWEST_HIPS = 200
FEWEST_OF_A_CATEGORY = 20
AIM = 0.95
FOLDS = 5

_SMALLEST = 1e-7  # stands in for a probability that was rounded to nothing


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability curve: per bin the mean confidence, the share right, and the hips."""

    confidence: Array
    right: Array
    hips: NDArray[np.int64]


def reliability(confidence: Array, right: NDArray[np.bool_]) -> Reliability:
    """Return the curve over bins of equal width; a bin without hips is NaN."""
    bins = calibration_bins(confidence)
    hips = np.bincount(bins, minlength=N_BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(bins, confidence, N_BINS) / hips,
            np.bincount(bins, right, N_BINS) / hips,
            hips,
        )


def expected_calibration_error(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the ECE of the top category (Guo et al. 2017)."""
    right = probabilities.argmax(axis=1) == truth
    terms = ece_terms(probabilities.max(axis=1), right)
    return float(np.abs(terms.sum(axis=0)).sum() / truth.size)


def log_loss(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the mean negative log-likelihood."""
    likelihood = probabilities[np.arange(truth.size), truth]
    return float(-np.mean(np.log(np.maximum(likelihood, _SMALLEST))))


def rescale(probabilities: Array, factor: float) -> Array:
    """Return probabilities (N, K) at `factor` times the temperature they were made with."""
    logits = np.log(np.maximum(probabilities, _SMALLEST)) / factor
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def at_temperature(cases: Cases, factor: float) -> Cases:
    """Return cases with their probabilities at `factor` times the temperature.

    Merged ones are lost: of two readings, only the higher of each probability is known.
    """
    usable = cases.scored & ~cases.merged
    probabilities = np.full_like(cases.probabilities, np.nan)
    probabilities[usable] = rescale(cases.probabilities[usable], factor)
    return replace(cases, probabilities=probabilities)


def fit_temperature(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Return the factor on the temperature of least log loss (Guo et al. 2017)."""
    return calibration.fit_temperature(np.log(np.maximum(probabilities, _SMALLEST)), truth)


def fit_operating_points(
    probabilities: Array, truth: NDArray[np.integer]
) -> tuple[OperatingPoint, OperatingPoint]:
    """Return the points `sensitive` and `specific`, for each category with enough cases.

    The highest threshold that keeps 95 % sensitivity is the sensitive one, the lowest that keeps
    95 % specificity the specific one. A model that can have both at once has them the other way
    round, and they change places: `sensitive` never flags less. `normal` flags nothing.
    """
    sensitive: dict[Category, float] = {}
    specific: dict[Category, float] = {}
    for k, category in enumerate(CATEGORIES):
        score, is_k = probabilities[:, k], truth == k
        enough = FEWEST_OF_A_CATEGORY <= is_k.sum() <= truth.size - FEWEST_OF_A_CATEGORY
        if category is Category.NORMAL or not enough:
            continue
        positives, negatives = np.sort(score[is_k]), np.sort(score[~is_k])
        may_miss = int(np.floor((1 - AIM) * positives.size + 1e-9))
        must_clear = int(np.ceil(AIM * negatives.size - 1e-9))
        keeps_sensitivity = float(positives[may_miss])
        keeps_specificity = float(np.nextafter(negatives[must_clear - 1], 1))
        sensitive[category] = min(keeps_sensitivity, keeps_specificity)
        specific[category] = max(keeps_sensitivity, keeps_specificity)
    return OperatingPoint("sensitive", sensitive), OperatingPoint("specific", specific)


def calibrate(cases: Cases) -> SiteCalibration:
    """Fit temperature and operating points to a site's labelled hips.

    Hips of unknown side are left out: their probabilities are the higher of two readings.
    Raises `InputError` where there are too few hips, or too few of every category.
    """
    usable = cases.where(cases.scored & ~cases.merged)
    n = len(usable)
    if n < FEWEST_HIPS:
        raise InputError(
            f"{n} hips with probabilities and a known side are too few to calibrate on: "
            f"label at least {FEWEST_HIPS}"
        )
    truth, probabilities = usable.truth, usable.probabilities
    factor = fit_temperature(probabilities, truth)
    points = fit_operating_points(rescale(probabilities, factor), truth)
    if not points[0].thresholds:
        raise InputError(
            f"no category has {FEWEST_OF_A_CATEGORY} hips: label more before calibrating"
        )
    crossed = _cross_fit(usable)
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
            expected_calibration_error(crossed, truth),
        ),
        log_loss=(log_loss(probabilities, truth), log_loss(crossed, truth)),
    )


def _cross_fit(cases: Cases) -> Array:
    """Return each hip's probabilities (N, K) at a temperature fitted to other patients."""
    patients = np.unique(cases.patients)
    fold_of = np.random.default_rng(SEED).permutation(patients.size) % FOLDS
    fold = fold_of[np.searchsorted(patients, cases.patients)]
    crossed = np.empty_like(cases.probabilities)
    for held_out in range(FOLDS):
        here = fold == held_out
        factor = fit_temperature(cases.probabilities[~here], cases.truth[~here])
        crossed[here] = rescale(cases.probabilities[here], factor)
    return crossed
