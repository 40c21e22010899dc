"""The cluster bootstrap: replicates as weights, in bounded memory, reproducible on any machine.

The resampling *unit* is a patient with all hips. A replicate is a vector of weights: how often each
unit was drawn. A statistic maps a block of weight vectors to a block of values, so that many
replicates cost a few matrix products.

Units with equal contributions are interchangeable and form a *pattern*. A multinomial draw over
patterns is equivalent to the bootstrap over patients, and its cost does not depend on their number.
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

# A statistic that is undefined in a larger fraction of replicates has no bootstrap interval.
MAX_UNDEFINED_FRACTION = 0.05

_BLOCK_BYTES = 4 * 2**20  # keeps a block of weights in the processor's cache
_MAX_JACKKNIFE_GROUPS = 1_000


@dataclass(frozen=True, eq=False)
class BootstrapResult:
    """The values (M,) of M statistics, their replicates (R, M) and BCa accelerations (M,)."""

    values: Array
    replicates: Array
    acceleration: Array

    def percentile(self, statistic: int) -> Interval | None:
        """Return the percentile interval over the replicates in which the statistic is defined."""
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
) -> BootstrapResult:
    """Resample the units with replacement and evaluate `statistic` on each replicate.

    `multiplicity` (U,) is the number of units of each pattern, all ones if the units differ.
    `statistic` maps weights (B, U) to values (B, M), NaN if undefined.
    """
    values = statistic(multiplicity[np.newaxis].astype(np.float64))[0]
    drawn = np.empty((replicates, values.size))
    block = block_length(multiplicity.size)
    for start in range(0, replicates, block):
        stop = min(start + block, replicates)
        drawn[start:stop] = statistic(draw_weights(multiplicity, start, stop, seed=seed))
    return BootstrapResult(values, drawn, _acceleration(statistic, multiplicity))


def block_length(units: int) -> int:
    """Return the number of replicates per block for this number of units."""
    return max(1, _BLOCK_BYTES // (8 * units))


def draw_weights(
    multiplicity: NDArray[np.int64], start: int, stop: int, *, seed: int = SEED
) -> Array:
    """Return the weights (stop - start, U) of replicates `start` to `stop`.

    Each replicate has its own counter of the Philox generator (Salmon et al. 2011), so that it
    does not depend on the division into blocks.
    """
    weights = np.empty((stop - start, multiplicity.size))
    units = int(multiplicity.sum())
    units_differ = units == multiplicity.size
    probabilities = multiplicity / units
    for row, replicate in enumerate(range(start, stop)):
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, replicate]))
        if units_differ:
            drawn = generator.integers(0, units, units, dtype=np.int32)
            weights[row] = np.bincount(drawn, minlength=units)
        else:
            weights[row] = generator.multinomial(units, probabilities)
    return weights


def percentile_interval(replicates: Array, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the percentile interval of replicates (R,), `None` if too many are undefined."""
    defined = replicates[np.isfinite(replicates)]
    if defined.size < (1 - MAX_UNDEFINED_FRACTION) * replicates.size:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bca_interval(
    replicates: Array, value: float, acceleration: float, *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the BCa interval of replicates (R,): Efron 1987, J Am Stat Assoc 82:171–185.

    Replicates equal to the value count half, since many statistics are proportions with few
    distinct values. Undefined if all replicates are on one side of the value: the bias correction
    is infinite.
    """
    defined = replicates[np.isfinite(replicates)]
    if defined.size < (1 - MAX_UNDEFINED_FRACTION) * replicates.size or not np.isfinite(
        acceleration
    ):
        return None
    tolerance = 1e-12 * max(1.0, abs(value))
    below = np.mean(defined < value - tolerance)
    tied = np.mean(np.abs(defined - value) <= tolerance)
    fraction_below = below + tied / 2
    if not 0 < fraction_below < 1:
        return None
    bias = norm.ppf(fraction_below)
    ends = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    levels = norm.cdf(bias + ends / (1 - acceleration * ends))
    low, high = np.quantile(defined, levels)
    return Interval(float(low), float(high))


def bootstrap_p_value(differences: Array) -> float:
    """Return the two-sided p-value of replicates (R,) of a difference, by interval inversion.

    This is the smallest level whose percentile interval excludes 0, at least 2 / (R + 1): Davison
    and Hinkley 1997, Bootstrap Methods and their Application, section 4.4.
    """
    defined = differences[np.isfinite(differences)]
    if defined.size < (1 - MAX_UNDEFINED_FRACTION) * differences.size:
        return float("nan")
    at_most = (1 + np.sum(defined <= 0)) / (1 + defined.size)
    at_least = (1 + np.sum(defined >= 0)) / (1 + defined.size)
    return float(min(1.0, 2 * min(at_most, at_least)))


def leave_out_weights(
    multiplicity: NDArray[np.int64], start: int, stop: int
) -> tuple[Array, Array]:
    """Return the jackknife weights of groups `start` to `stop`, and the groups' multiplicities.

    A group is one unit of a pattern; with more than a thousand patterns, every thousandth pattern.
    """
    weights = np.repeat(multiplicity[np.newaxis].astype(np.float64), stop - start, axis=0)
    groups = jackknife_groups(multiplicity)
    for row, group in enumerate(range(start, stop)):
        left_out = slice(group, None, groups)
        weights[row, left_out] -= 1 if groups == multiplicity.size else multiplicity[left_out]
    counts = multiplicity if groups == multiplicity.size else np.ones(groups)
    return weights, counts[start:stop].astype(np.float64)


def jackknife_groups(multiplicity: NDArray[np.int64]) -> int:
    """Return the number of groups that the jackknife leaves out in turn."""
    return min(multiplicity.size, _MAX_JACKKNIFE_GROUPS)


def _acceleration(statistic: Statistic, multiplicity: NDArray[np.int64]) -> Array:
    """Return the acceleration (M,) of BCa: the skewness of the jackknife influence over 6."""
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
    constant = square <= np.finfo(np.float64).tiny
    with np.errstate(invalid="ignore"):
        return np.where(constant, 0.0, cube / (6 * np.where(constant, 1.0, square) ** 1.5))
