"""The area under the ROC curve, with DeLong's variance and Obuchowski's for clustered data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from hipedge.study.estimates import Interval
from hipedge.study.resampling import CONFIDENCE, Array


@dataclass(frozen=True, eq=False)
class Placements:
    """An AUC and its placement values (structural components).

    `of_positives` (m,) is, for each positive, the fraction of negatives with a lower score, ties
    counting half; `of_negatives` (n,), for each negative, the fraction of positives with a higher
    score. The mean of either is the AUC.
    """

    auc: float
    of_positives: Array
    of_negatives: Array


def placements(scores: Array, positive: NDArray[np.bool_]) -> Placements | None:
    """Return the placement values of scores (N,); `None` without positives or without negatives.

    Computed from mid-ranks in O(N log N): Sun and Xu 2014, IEEE Signal Process Lett 21:1389–1393.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return None
    ranks = rankdata(scores)
    of_positives = (ranks[positive] - rankdata(scores[positive])) / n
    of_negatives = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    return Placements(float(of_positives.mean()), of_positives, of_negatives)


def delong_variance(placed: Placements) -> float:
    """Return the variance of the AUC of independent cases.

    NaN with fewer than two positives or two negatives.

    DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837–845.
    """
    m, n = placed.of_positives.size, placed.of_negatives.size
    if m < 2 or n < 2:
        return float("nan")
    return float(np.var(placed.of_positives, ddof=1) / m + np.var(placed.of_negatives, ddof=1) / n)


def clustered_variance(
    placed: Placements, positive: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> float:
    """Return the variance of the AUC of clustered data: hips within patients.

    Obuchowski 1997, Biometrics 53:567–578. `positive` and `clusters` (N,) have one entry per hip.
    NaN with fewer than two clusters that have a positive, or that have a negative.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    total = int(cluster.max()) + 1
    with_positive = np.unique(cluster[positive]).size
    with_negative = np.unique(cluster[~positive]).size
    if with_positive < 2 or with_negative < 2:
        return float("nan")
    m, n = placed.of_positives.size, placed.of_negatives.size
    up = np.bincount(cluster[positive], placed.of_positives - placed.auc, total) / m
    down = np.bincount(cluster[~positive], placed.of_negatives - placed.auc, total) / n
    s10 = with_positive / (with_positive - 1) * up @ up
    s01 = with_negative / (with_negative - 1) * down @ down
    s11 = total / (total - 1) * up @ down
    return float(s10 + s01 + 2 * s11)


def auc_interval(auc: float, variance: float, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of an AUC on the logit scale, which keeps it between 0 and 1.

    Qin and Hotilovac 2008, Stat Methods Med Res 17:207–221. Undefined if the AUC is 0 or 1: the
    estimated variance is then 0.
    """
    if not 0 < auc < 1 or not variance > 0:
        return None
    half = norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    low, high = 1 / (1 + np.exp(-np.array([logit - half, logit + half])))
    return Interval(float(low), float(high))


def roc_curve(scores: Array, positive: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return false and true positive rates (T,) at each threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    true = np.cumsum(positive[order])[last_of_tie]
    false = 1 + last_of_tie - true
    return _rates(false), _rates(true)


def _rates(counts: NDArray[np.integer]) -> Array:
    """Return cumulative counts as fractions of the last one, with a leading zero."""
    return np.append(0.0, counts / max(int(counts[-1]), 1)).astype(np.float64)
