"""Intervals by formula: Wilson for proportions, and its form for patients with several hips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from hipedge.study.estimates import Interval
from hipedge.study.resampling import CONFIDENCE


def wilson(successes: float, n: float, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return Wilson's score interval (1927, J Am Stat Assoc 22:209–212); `None` where n is 0."""
    if n <= 0:
        return None
    z = float(norm.ppf((1 + confidence) / 2))
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Interval(max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def clustered_wilson(
    successes: NDArray[np.bool_], clusters: NDArray[np.int64], *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return Wilson's interval at the sample size that the clusters are worth.

    `successes` (N,) and `clusters` (N,) are one per hip. The variance is the ratio estimator's
    over clusters (Rao and Scott 1992, Biometrics 48:577–585; Obuchowski 1998, Stat Med
    17:1495–1507); the effective sample size is never more than N. With one hip each, or where
    all or none succeed and the data say nothing of correlation, the number of clusters counts.
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
