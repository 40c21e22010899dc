"""Multi-reader multi-case analysis by Obuchowski and Rockette, with Hillis' degrees of freedom.

Two tests (here: reading alone and assisted) and R readers, fully crossed. Readers are either a
random sample of a population, to which the result generalises, or fixed. Cases are random.

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
    """The error variance of a figure of merit, and the error covariances.

    `cov1`: same reader, different test. `cov2`: different reader, same test. `cov3`: different
    reader and test.
    """

    variance: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class Difference:
    """The reader-averaged difference between two tests.

    `degrees_of_freedom` are infinite for the normal distribution. If the standard error `error` is
    0, as when all readers give the same answers, the interval is `None` and the p-value NaN.
    """

    value: float
    error: float
    degrees_of_freedom: float
    p_value: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class ObuchowskiRockette:
    """The analysis of figures of merit (2, R), of two tests by R readers."""

    figures_of_merit: Array
    covariances: ErrorCovariances
    reader_variance: float
    reader_by_test_variance: float
    random_readers: Difference
    fixed_readers: Difference


def jackknife_covariance(left_out: Array) -> Array:
    """Return the covariance (2, R, 2, R) of figures of merit from jackknife values (U, 2, R).

    Each of the U values omits one patient with all of the patient's hips.
    """
    u = left_out.shape[0]
    deviation = (left_out - left_out.mean(axis=0)).reshape(u, -1)
    covariance: Array = (u - 1) / u * deviation.T @ deviation
    return covariance.reshape(*left_out.shape[1:], *left_out.shape[1:])


def average_covariances(covariance: Array) -> ErrorCovariances:
    """Average a covariance (2, R, 2, R) into the error variance and the three covariances."""
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


def obuchowski_rockette(
    figures_of_merit: Array, covariances: ErrorCovariances
) -> ObuchowskiRockette:
    """Analyse figures of merit (2, R). The difference is the second test less the first.

    Raises `ValueError` for fewer than two readers.
    """
    n_readers = figures_of_merit.shape[1]
    if n_readers < 2:
        raise ValueError("Obuchowski and Rockette's analysis needs at least two readers")
    c = covariances
    value = float(figures_of_merit[1].mean() - figures_of_merit[0].mean())
    readers, tests = figures_of_merit.mean(axis=0), figures_of_merit.mean(axis=1, keepdims=True)
    residual = figures_of_merit - readers - tests + figures_of_merit.mean()
    ms_reader = 2 * float(np.var(readers, ddof=1))
    ms_interaction = float(np.sum(residual**2) / (n_readers - 1))
    excess = max(c.cov2 - c.cov3, 0.0)

    denominator = ms_interaction + n_readers * excess
    degrees_of_freedom = (
        denominator**2 * (n_readers - 1) / ms_interaction**2 if ms_interaction > 0 else np.inf
    )
    fixed = c.variance - c.cov1 + (n_readers - 1) * excess
    return ObuchowskiRockette(
        figures_of_merit,
        covariances,
        reader_variance=(ms_reader - ms_interaction) / 2 - c.cov1 + c.cov3,
        reader_by_test_variance=ms_interaction - c.variance + c.cov1 + (c.cov2 - c.cov3),
        random_readers=_difference(value, 2 / n_readers * denominator, degrees_of_freedom),
        fixed_readers=_difference(value, 2 / n_readers * fixed, np.inf),
    )


def _difference(value: float, variance: float, degrees_of_freedom: float) -> Difference:
    """Test a difference; infinite degrees of freedom mean the normal distribution."""
    if not variance > 0:
        return Difference(value, 0.0, degrees_of_freedom, float("nan"), None)
    error = float(np.sqrt(variance))
    distribution = t(degrees_of_freedom) if np.isfinite(degrees_of_freedom) else norm
    half = float(distribution.ppf((1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(distribution.sf(abs(value) / error))
    return Difference(
        value, error, float(degrees_of_freedom), p_value, Interval(value - half, value + half)
    )
