"""Wilson's interval for proportions, also for clustered hips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from hipedge.study.estimates import Interval
from hipedge.study.resampling import CONFIDENCE


def wilson(successes: float, n: float, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return Wilson's score interval (1927, J Am Stat Assoc 22:209–212); `None` if n is 0.

    `n` and `successes` may be fractional, as an effective sample size is.
    """
    if n <= 0:
        return None
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def clustered_wilson(
    successes: NDArray[np.bool_], clusters: NDArray[np.int64], *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return Wilson's interval at the effective sample size of clustered observations.

    `successes` (N,) and `clusters` (N,) have one entry per hip. The variance is the ratio
    estimator's over clusters (Rao and Scott 1992, Biometrics 48:577–585; Obuchowski 1998, Stat Med
    17:1495–1507); the effective sample size is at most N. It is the number of clusters if each has
    one hip, and if all or none succeed, when the data contain no information on the correlation.
    """
    if successes.size == 0:
        return None
    _, cluster = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(cluster)
    m = sizes.size
    if m == successes.size:
        return wilson(int(successes.sum()), m, confidence=confidence)
    p = float(successes.mean())
    residual = np.bincount(cluster, weights=successes) - p * sizes
    variance = m / max(m - 1, 1) * np.sum(residual**2) / successes.size**2
    n = min(p * (1 - p) / variance, successes.size) if variance > 0 else m
    return wilson(p * n, n, confidence=confidence)
