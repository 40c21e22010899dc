"""Multi-reader multi-case analysis: Obuchowski and Rockette's, with Hillis' degrees of freedom.

Two tests (here: reading alone and assisted), R readers, all on the same cases. Readers may be a
sample of a population (random), so that the result holds for other readers too, or just those of
this study (fixed). Cases are always random.

Obuchowski and Rockette 1995, Commun Stat Simul 24:285–308; Hillis, Obuchowski, Schartz and
Berbaum 2005, Stat Med 24:1579–1607; Hillis 2007, Stat Med 26:596–619.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from hipedge.study.estimates import Interval
from hipedge.study.resampling import CONFIDENCE, Array


@dataclass(frozen=True)
class ErrorCovariances:
    """The error variance of a reader's figure, and its covariances with the others'.

    `cov1`: same reader, other test. `cov2`: other reader, same test. `cov3`: both others.
    """

    variance: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class Difference:
    """A difference between two tests, averaged over readers.

    `degrees` is infinite where the normal distribution serves. Interval and p-value are `None`
    and NaN where the error is zero, as when all readers give the same answers.
    """

    value: float
    error: float
    degrees: float
    p_value: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class ObuchowskiRockette:
    """The analysis of a figure (2, R), of two tests by R readers."""

    figures: Array
    covariances: ErrorCovariances
    reader_variance: float
    reader_by_test_variance: float
    random_readers: Difference
    fixed_readers: Difference


def jackknife_covariance(left_out: Array) -> Array:
    """Return the covariance (2, R, 2, R) of figures from their jackknife values (U, 2, R).

    Each of the U values leaves out one patient, with all of the patient's hips.
    """
    u = left_out.shape[0]
    deviation = (left_out - left_out.mean(axis=0)).reshape(u, -1)
    covariance: Array = (u - 1) / u * deviation.T @ deviation
    return covariance.reshape(*left_out.shape[1:], *left_out.shape[1:])


def average_covariances(covariance: Array) -> ErrorCovariances:
    """Average the covariance (2, R, 2, R) of the figures into its four kinds."""
    n_tests, n_readers = covariance.shape[:2]
    same_test = np.eye(n_tests, dtype=bool)[:, np.newaxis, :, np.newaxis]
    same_reader = np.eye(n_readers, dtype=bool)[np.newaxis, :, np.newaxis, :]

    def average(of: NDArray[np.bool_]) -> float:
        chosen = covariance[np.broadcast_to(of, covariance.shape)]
        return float(chosen.mean()) if chosen.size else 0.0

    return ErrorCovariances(
        average(same_test & same_reader),
        average(~same_test & same_reader),
        average(same_test & ~same_reader),
        average(~same_test & ~same_reader),
    )


def obuchowski_rockette(figures: Array, covariances: ErrorCovariances) -> ObuchowskiRockette:
    """Analyse figures (2, R). The difference is the second test's mean less the first's.

    Raises `ValueError` for fewer than two readers, who cannot stand for a population.
    """
    n_readers = figures.shape[1]
    if n_readers < 2:
        raise ValueError("Obuchowski and Rockette's analysis needs at least two readers")
    c = covariances
    value = float(figures[1].mean() - figures[0].mean())
    readers, tests = figures.mean(axis=0), figures.mean(axis=1, keepdims=True)
    residual = figures - readers - tests + figures.mean()
    ms_reader = 2 * float(np.var(readers, ddof=1))
    ms_interaction = float(np.sum(residual**2) / (n_readers - 1))
    beyond = max(c.cov2 - c.cov3, 0.0)

    denominator = ms_interaction + n_readers * beyond
    degrees = denominator**2 * (n_readers - 1) / ms_interaction**2 if ms_interaction > 0 else np.inf
    fixed = c.variance - c.cov1 + (n_readers - 1) * beyond
    return ObuchowskiRockette(
        figures,
        covariances,
        reader_variance=(ms_reader - ms_interaction) / 2 - c.cov1 + c.cov3,
        reader_by_test_variance=ms_interaction - c.variance + c.cov1 + (c.cov2 - c.cov3),
        random_readers=_difference(value, 2 / n_readers * denominator, degrees),
        fixed_readers=_difference(value, 2 / n_readers * fixed, np.inf),
    )


def _difference(value: float, variance: float, degrees: float) -> Difference:
    """Test a difference; `degrees` of infinity means the normal distribution."""
    if not variance > 0:
        return Difference(value, 0.0, degrees, float("nan"), None)
    error = float(np.sqrt(variance))
    law = t(degrees) if np.isfinite(degrees) else norm
    half = float(law.ppf((1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(law.sf(abs(value) / error))
    return Difference(value, error, float(degrees), p_value, Interval(value - half, value + half))
