"""Tests for paired answers, and Holm's correction for multiple tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

from hipedge.study.estimates import Interval
from hipedge.study.resampling import CONFIDENCE, Array, percentile_interval

MARGIN = 0.05


def mcnemar_exact(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return McNemar's exact two-sided p-value; `first` and `second` (N,) say who is correct.

    McNemar 1947, Psychometrika 12:153–157; for independent cases. 1 without discordant pairs.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Array) -> Array:
    """Return p-values (M,) adjusted for M tests: Holm 1979, Scand J Stat 6:65–70.

    An undefined p-value (NaN) stays undefined and does not count as a test.
    """
    defined = np.isfinite(p_values)
    adjusted = np.full(p_values.shape, np.nan)
    if defined.any():
        adjusted[defined] = multipletests(p_values[defined], method="holm")[1]
    return adjusted


def p_text(p_value: float) -> str:
    """Format a p-value with four digits; "undefined" for NaN."""
    if not np.isfinite(p_value):
        return "undefined"
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


@dataclass(frozen=True)
class NonInferiority:
    """A non-inferiority test: a difference (new less old), its interval and the margin.

    `p_value` is one-sided, for the null hypothesis that new is worse by the margin or more.
    """

    difference: float
    interval: Interval | None
    margin: float
    p_value: float

    @property
    def verdict(self) -> str:
        """The conclusion from the 95 % interval: a one-sided test at 2.5 %."""
        if self.interval is None:
            return "undefined"
        if self.interval.low > 0:
            return "superior"
        if self.interval.low > -self.margin:
            return "non-inferior"
        if self.interval.high < -self.margin:
            return "inferior"
        return "not shown"


def tango_score(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Return the score statistic for a difference of two proportions on the same n cases.

    `only_first` and `only_second` count the discordant cases by the rater who is correct. Tango
    1998, Stat Med 17:891–908. 0 if the variance is 0.
    """
    a, c = 2 * n, -only_second * difference * (1 - difference)
    b = -only_first - only_second + (2 * n - only_first + only_second) * difference
    only_second_fraction = (np.sqrt(max(b**2 - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * only_second_fraction + difference * (1 - difference))
    excess = only_first - only_second - n * difference
    return float(excess / np.sqrt(variance)) if variance > 0 else 0.0


def tango_interval(
    only_first: int, only_second: int, n: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval of differences (first less second) that the score test accepts."""
    z = float(norm.ppf((1 + confidence) / 2))
    value = (only_first - only_second) / n

    def limit_at(bound: float, target: float) -> float:
        def excess(difference: float) -> float:
            return tango_score(only_first, only_second, n, difference) - target

        # The score decreases with the difference. An observed ±1 is its own limit on that side.
        if abs(value) == 1 and np.sign(value) == np.sign(bound):
            return value
        return float(brentq(excess, min(value, bound), max(value, bound), xtol=1e-10))

    edge = 1 - 1e-9
    return Interval(limit_at(-edge, z), limit_at(edge, -z))


def paired_non_inferiority(
    new: NDArray[np.bool_], old: NDArray[np.bool_], *, margin: float = MARGIN
) -> NonInferiority:
    """Test non-inferiority in accuracy by Tango's score interval, for independent cases.

    `new` and `old` (N,) say who is correct. With a few hundred hips this keeps the nominal error
    rate, which the bootstrap slightly exceeds (`docs/study.md`).
    """
    counts = int(np.sum(new & ~old)), int(np.sum(old & ~new)), new.size
    p_value = float(norm.sf(tango_score(*counts, -margin)))
    return NonInferiority(
        (counts[0] - counts[1]) / new.size, tango_interval(*counts), margin, p_value
    )


def non_inferiority(
    difference: float, replicates: Array, *, margin: float = MARGIN
) -> NonInferiority:
    """Test non-inferiority by the replicates (R,) of a paired bootstrap of the difference.

    Non-inferior if the lower limit of the 95 % percentile interval is above minus the margin.
    """
    defined = replicates[np.isfinite(replicates)]
    interval = percentile_interval(replicates)
    p_value = (1 + np.sum(defined <= -margin)) / (1 + defined.size)
    return NonInferiority(
        difference, interval, margin, float(p_value) if interval else float("nan")
    )
