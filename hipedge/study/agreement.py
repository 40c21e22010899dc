"""How far readers agree beyond chance: Cohen's κ, Fleiss' κ and Gwet's AC1.

Each is undefined where chance alone would agree always, as when every answer is the same one.
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
    """Return Cohen's κ (B,) of the answers of two raters, cross-tabulated in (B, K, K).

    Cohen 1960, Educ Psychol Meas 20:37–46.
    """
    total = matrices.sum(axis=(1, 2))
    observed = ratio(np.trace(matrices, axis1=1, axis2=2), total)
    expected = ratio(np.sum(matrices.sum(axis=1) * matrices.sum(axis=2), axis=1), total**2)
    return _beyond_chance(observed, expected)


@dataclass(frozen=True, eq=False)
class RaterCounts:
    """How many raters (N, K) put each of N cases into each of K categories.

    Raters may have missed cases. A case with one answer counts for how often categories are
    used, but not for agreement (Gwet 2014, Handbook of Inter-Rater Reliability, 4th ed., ch. 2).
    """

    counts: NDArray[np.int64]

    def terms(self) -> Array:
        """Return (N, 2 + K): agreement, whether it counts, and the share of each category."""
        raters = self.counts.sum(axis=1)
        pairs = raters * (raters - 1)
        agreeing = np.sum(self.counts * (self.counts - 1), axis=1)
        agreement = np.divide(agreeing, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
        shares = self.counts / np.maximum(raters, 1)[:, np.newaxis]
        return np.column_stack([agreement, pairs > 0, shares])


def fleiss_kappa(sums: Array) -> Array:
    """Return Fleiss' κ (B,) of weighted sums (B, 2 + K) of `RaterCounts.terms`.

    Fleiss 1971, Psychol Bull 76:378–382. The one of statsmodels takes a single table without
    missing answers; this one takes all replicates of a bootstrap at once.
    """
    share = _category_shares(sums)
    return _beyond_chance(ratio(sums[:, 0], sums[:, 1]), np.sum(share**2, axis=1))


def gwet_ac1(sums: Array) -> Array:
    """Return Gwet's AC1 (B,) of weighted sums (B, 2 + K) of `RaterCounts.terms`.

    Gwet 2008, Br J Math Stat Psychol 61:29–48. K counts every category that could be answered.
    """
    share = _category_shares(sums)
    expected = np.sum(share * (1 - share), axis=1) / (share.shape[1] - 1)
    return _beyond_chance(ratio(sums[:, 0], sums[:, 1]), expected)


def agreement_by_formula(
    ratings: RaterCounts, *, chance: str, confidence: float = CONFIDENCE
) -> tuple[float, float, Interval | None]:
    """Return a coefficient, its standard error and interval, for independent cases.

    `chance` is `fleiss` or `gwet`. Gwet 2014, sections 5.3 and 5.4; t with N - 1 degrees.
    """
    terms = ratings.terms()
    n = len(terms)
    sums = terms.sum(axis=0, keepdims=True)
    value = float((fleiss_kappa if chance == "fleiss" else gwet_ac1)(sums)[0])
    share = _category_shares(sums)[0]
    weight = share if chance == "fleiss" else (1 - share) / (share.size - 1)
    expected = float(share @ weight)
    if not np.isfinite(value) or n < 2:
        return value, float("nan"), None
    of_case = n / sums[0, 1] * terms[:, 1] * (terms[:, 0] - expected) / (1 - expected)
    drift = terms[:, 2:] @ weight - expected
    linear = of_case - 2 * (1 - value) * drift / (1 - expected)
    error = float(np.sqrt(np.sum((linear - value) ** 2) / (n * (n - 1))))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    return value, error, Interval(max(-1.0, value - half), min(1.0, value + half))


def _category_shares(sums: Array) -> Array:
    total = sums[:, 2:].sum(axis=1, keepdims=True)
    return ratio(sums[:, 2:], np.broadcast_to(total, sums[:, 2:].shape))


def _beyond_chance(observed: Array, expected: Array) -> Array:
    """Return (observed - expected) / (1 - expected), NaN where chance would agree always."""
    room = 1 - expected
    certain = ~(room > 1e-12)
    return np.where(certain, np.nan, (observed - expected) / np.where(certain, 1.0, room))
