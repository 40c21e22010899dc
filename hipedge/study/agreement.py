"""Chance-corrected agreement between readers: Cohen's κ, Fleiss' κ and Gwet's AC1.

A coefficient is undefined if the agreement expected by chance is 1, as when all answers are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from hipedge.study.estimates import Interval
from hipedge.study.metrics import ratio
from hipedge.study.resampling import CONFIDENCE, Array


def cohen_kappa(matrices: Array) -> Array:
    """Return Cohen's κ (B,) of B cross-tabulations (B, K, K) of two raters' answers.

    Cohen 1960, Educ Psychol Meas 20:37–46.
    """
    total = matrices.sum(axis=(1, 2))
    observed = ratio(np.trace(matrices, axis1=1, axis2=2), total)
    expected = ratio(np.sum(matrices.sum(axis=1) * matrices.sum(axis=2), axis=1), total**2)
    return _beyond_chance(observed, expected)


@dataclass(frozen=True, eq=False)
class RaterCounts:
    """The number of raters (N, K) who assigned each of N cases to each of K categories.

    Answers may be missing. A case with a single answer contributes to the category frequencies but
    not to the agreement (Gwet 2014, Handbook of Inter-Rater Reliability, 4th ed., ch. 2).
    """

    counts: NDArray[np.int64]

    def terms(self) -> Array:
        """Return (N, 2 + K): agreement, whether it is defined, and the fraction per category."""
        raters = self.counts.sum(axis=1)
        pairs = raters * (raters - 1)
        agreeing = np.sum(self.counts * (self.counts - 1), axis=1)
        agreement = np.divide(agreeing, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
        fractions = self.counts / np.maximum(raters, 1)[:, np.newaxis]
        return np.column_stack([agreement, pairs > 0, fractions])


def fleiss_kappa(sums: Array) -> Array:
    """Return Fleiss' κ (B,) of weighted sums (B, 2 + K) of `RaterCounts.terms`.

    Fleiss 1971, Psychol Bull 76:378–382. `statsmodels.stats.inter_rater.fleiss_kappa`
    takes one table without missing answers; this takes all replicates of a bootstrap at once.
    """
    fraction = _category_fractions(sums)
    return _beyond_chance(ratio(sums[:, 0], sums[:, 1]), np.sum(fraction**2, axis=1))


def gwet_ac1(sums: Array) -> Array:
    """Return Gwet's AC1 (B,) of weighted sums (B, 2 + K) of `RaterCounts.terms`.

    Gwet 2008, Br J Math Stat Psychol 61:29–48. K includes categories that nobody used.
    """
    fraction = _category_fractions(sums)
    expected = np.sum(fraction * (1 - fraction), axis=1) / (fraction.shape[1] - 1)
    return _beyond_chance(ratio(sums[:, 0], sums[:, 1]), expected)


def agreement_by_formula(
    ratings: RaterCounts, *, chance: str, confidence: float = CONFIDENCE
) -> tuple[float, float, Interval | None]:
    """Return a coefficient, its standard error and its interval, for independent cases.

    `chance` is `fleiss` or `gwet`. Gwet 2014, sections 5.3 and 5.4; the interval is by Student's t
    with N - 1 degrees of freedom.
    """
    terms = ratings.terms()
    n = len(terms)
    sums = terms.sum(axis=0, keepdims=True)
    value = float((fleiss_kappa if chance == "fleiss" else gwet_ac1)(sums)[0])
    fraction = _category_fractions(sums)[0]
    weight = fraction if chance == "fleiss" else (1 - fraction) / (fraction.size - 1)
    expected = float(fraction @ weight)
    if not np.isfinite(value) or n < 2:
        return value, float("nan"), None
    case_terms = n / sums[0, 1] * terms[:, 1] * (terms[:, 0] - expected) / (1 - expected)
    drift = terms[:, 2:] @ weight - expected
    linear = case_terms - 2 * (1 - value) * drift / (1 - expected)
    error = float(np.sqrt(np.sum((linear - value) ** 2) / (n * (n - 1))))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    return value, error, Interval(max(-1.0, value - half), min(1.0, value + half))


def _category_fractions(sums: Array) -> Array:
    total = sums[:, 2:].sum(axis=1, keepdims=True)
    return ratio(sums[:, 2:], np.broadcast_to(total, sums[:, 2:].shape))


def _beyond_chance(observed: Array, expected: Array) -> Array:
    """Return (observed - expected) / (1 - expected), NaN if `expected` is 1."""
    room = 1 - expected
    certain = ~(room > 1e-12)
    return np.where(certain, np.nan, (observed - expected) / np.where(certain, 1.0, room))
