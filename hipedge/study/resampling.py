"""The bootstrap by patient: replicates as weights, in bounded memory, the same on any machine.

A *unit* is what is drawn: a patient, with all of the patient's hips. A replicate is one vector of
weights, how often each unit was drawn. A statistic takes a block of such vectors and returns a
block of values, so that a thousand replicates cost a few matrix products.

Units that contribute the same are interchangeable, so only how many of each *pattern* are drawn
matters: a multinomial draw over patterns is exactly the bootstrap over patients, at a cost that
does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from hipedge.study.estimates import Interval

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]

CONFIDENCE = 0.95
REPLICATES = 10_000
SEED = 20_260

# A statistic that is undefined in more replicates than this gets no bootstrap interval.
MOST_UNDEFINED = 0.05

_BLOCK_BYTES = 4 * 2**20  # a block of weights that stays in the processor's cache
_MOST_JACKKNIFE_GROUPS = 1_000


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """The values (M,) of M statistics, their replicates (R, M) and BCa accelerations (M,)."""

    values: Array
    replicates: Array
    acceleration: Array

    def percentile(self, statistic: int) -> Interval | None:
        """Return the percentile interval, over the replicates in which it is defined."""
        return percentile_interval(self.replicates[:, statistic])

    def bca(self, statistic: int) -> Interval | None:
        """Return the bias-corrected and accelerated interval (Efron 1987)."""
        return bca_interval(
            self.replicates[:, statistic],
            float(self.values[statistic]),
            float(self.acceleration[statistic]),
        )

    def intervals(self, statistic: int) -> dict[str, Interval | None]:
        """Return both intervals by name."""
        return {"percentile": self.percentile(statistic), "bca": self.bca(statistic)}


def bootstrap(
    statistic: Statistic,
    multiplicity: NDArray[np.int64],
    *,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Bootstrapped:
    """Draw as many units as there are, with replacement, and evaluate `statistic` on each draw.

    `multiplicity` (U,) says how many units share each of U patterns; ones where every unit is
    its own. `statistic` maps weights (B, U) to values (B, M), NaN where undefined.
    """
    values = statistic(multiplicity[np.newaxis].astype(np.float64))[0]
    drawn = np.empty((replicates, values.size))
    block = block_length(multiplicity.size)
    for start in range(0, replicates, block):
        stop = min(start + block, replicates)
        drawn[start:stop] = statistic(draw_weights(multiplicity, start, stop, seed=seed))
    return Bootstrapped(values, drawn, _acceleration(statistic, multiplicity))


def block_length(units: int) -> int:
    """Return how many replicates of so many units are worked on at a time."""
    return max(1, _BLOCK_BYTES // (8 * units))


def draw_weights(
    multiplicity: NDArray[np.int64], start: int, stop: int, *, seed: int = SEED
) -> Array:
    """Return the weights (stop - start, U) of the replicates from `start` on.

    Each replicate has its own counter of the generator (Philox, Salmon et al. 2011), so it is
    the same however the replicates are divided into blocks.
    """
    weights = np.empty((stop - start, multiplicity.size))
    units = int(multiplicity.sum())
    every_unit_is_its_own = units == multiplicity.size
    shares = multiplicity / units
    for row, replicate in enumerate(range(start, stop)):
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, replicate]))
        if every_unit_is_its_own:
            drawn = generator.integers(0, units, units, dtype=np.int32)
            weights[row] = np.bincount(drawn, minlength=units)
        else:
            weights[row] = generator.multinomial(units, shares)
    return weights


def percentile_interval(replicates: Array, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the percentile interval of replicates (R,), `None` where too many are undefined."""
    defined = replicates[np.isfinite(replicates)]
    if defined.size < (1 - MOST_UNDEFINED) * replicates.size:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bca_interval(
    replicates: Array, value: float, acceleration: float, *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the BCa interval of replicates (R,): Efron 1987, J Am Stat Assoc 82:171–185.

    Ties with the value count half, as they must for statistics on a grid of proportions. Where
    all replicates lie on one side of the value the bias correction is infinite: undefined.
    """
    defined = replicates[np.isfinite(replicates)]
    if defined.size < (1 - MOST_UNDEFINED) * replicates.size or not np.isfinite(acceleration):
        return None
    tolerance = 1e-12 * max(1.0, abs(value))
    below = np.mean(defined < value - tolerance)
    tied = np.mean(np.abs(defined - value) <= tolerance)
    share = below + tied / 2
    if not 0 < share < 1:
        return None
    bias = norm.ppf(share)
    ends = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    levels = norm.cdf(bias + ends / (1 - acceleration * ends))
    low, high = np.quantile(defined, levels)
    return Interval(float(low), float(high))


def bootstrap_p_value(differences: Array) -> float:
    """Return the two-sided p-value of replicates (R,) of a difference, by interval inversion.

    It is the smallest level whose percentile interval leaves out zero, never below 2 / (R + 1):
    Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.4.
    """
    defined = differences[np.isfinite(differences)]
    if defined.size < (1 - MOST_UNDEFINED) * differences.size:
        return float("nan")
    at_most = (1 + np.sum(defined <= 0)) / (1 + defined.size)
    at_least = (1 + np.sum(defined >= 0)) / (1 + defined.size)
    return float(min(1.0, 2 * min(at_most, at_least)))


def leave_out_weights(
    multiplicity: NDArray[np.int64], start: int, stop: int
) -> tuple[Array, Array]:
    """Return the jackknife's weights for groups `start` to `stop`, and how often each counts.

    A group is one unit of a pattern; beyond a thousand patterns, every thousandth pattern.
    """
    weights = np.repeat(multiplicity[np.newaxis].astype(np.float64), stop - start, axis=0)
    groups = jackknife_groups(multiplicity)
    for row, group in enumerate(range(start, stop)):
        left_out = slice(group, None, groups)
        weights[row, left_out] -= 1 if groups == multiplicity.size else multiplicity[left_out]
    counts = multiplicity if groups == multiplicity.size else np.ones(groups)
    return weights, counts[start:stop].astype(np.float64)


def jackknife_groups(multiplicity: NDArray[np.int64]) -> int:
    """Return how many groups the jackknife leaves out in turn."""
    return min(multiplicity.size, _MOST_JACKKNIFE_GROUPS)


def _acceleration(statistic: Statistic, multiplicity: NDArray[np.int64]) -> Array:
    """Return the skewness of the jackknife influence over 6, the BCa's acceleration (M,)."""
    groups = jackknife_groups(multiplicity)
    block = block_length(multiplicity.size)
    values, counts = [], []
    for start in range(0, groups, block):
        weights, count = leave_out_weights(multiplicity, start, min(start + block, groups))
        values.append(statistic(weights))
        counts.append(count)
    left_out, count = np.concatenate(values), np.concatenate(counts)[:, np.newaxis]
    mean = np.sum(count * left_out, axis=0) / count.sum()
    influence = mean - left_out
    square, cube = np.sum(count * influence**2, axis=0), np.sum(count * influence**3, axis=0)
    flat = square <= np.finfo(np.float64).tiny
    with np.errstate(invalid="ignore"):
        return np.where(flat, 0.0, cube / (6 * np.where(flat, 1.0, square) ** 1.5))
