"""How many cases a study needs: by formula, and by simulating the study that would be made.

The simulation runs the analysis of this package on simulated data, so that it also shows what
the formula leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, f, multivariate_normal, ncf, norm
from statsmodels.stats.proportion import proportion_confint

from hipedge.errors import InputError
from hipedge.study.comparisons import MARGIN
from hipedge.study.mrmc import (
    ErrorCovariances,
    average_covariances,
    jackknife_covariance,
    obuchowski_rockette,
)
from hipedge.study.resampling import CONFIDENCE, SEED, Array

SIMULATIONS = 2_000
POWER = 0.80
_MOST_CASES = 10_000_000
_HIGHEST_LATENT = 0.999


@dataclass(frozen=True)
class SampleSize:
    """A sample size and the chance that a study of that size does what it should.

    `cases` counts hips of the kind in question, `hips` all that must be collected to have them.
    `by_formula` and `by_simulation` are probabilities of success.
    """

    cases: int
    hips: int
    by_formula: float
    by_simulation: float


def size_for_sensitivity(
    sensitivity: float,
    half_width: float,
    *,
    prevalence: float = 1.0,
    simulations: int = SIMULATIONS,
    seed: int = SEED,
) -> SampleSize:
    """Return the cases that make a sensitivity's 95 % interval no wider than ± `half_width`.

    The size is the least at which the Wilson interval of the expected count is narrow enough;
    success is that the interval of the count which does come out is. Its chance, near a half by
    design, is summed over the binomial distribution, and simulated.
    """
    _check_share("sensitivity", sensitivity)
    _check_share("half-width", half_width)
    _check_share("prevalence", prevalence, one_too=True)
    n = _least(lambda n: bool(_half_width(sensitivity * n, n) <= half_width))
    narrow = _half_width(np.arange(n + 1), n) <= half_width
    chances = binom.pmf(np.arange(n + 1), n, sensitivity)
    drawn = np.random.default_rng(seed).binomial(n, sensitivity, simulations)
    return SampleSize(n, ceil(n / prevalence), float(chances @ narrow), float(narrow[drawn].mean()))


def size_for_non_inferiority(
    discordant: float,
    *,
    difference: float = 0.0,
    margin: float = MARGIN,
    power: float = POWER,
    simulations: int = SIMULATIONS,
    seed: int = SEED,
) -> SampleSize:
    """Return the hips for showing that a model is non-inferior in accuracy on the same hips.

    `discordant` is the share of hips that only one of the two gets right, `difference` the true
    difference (model less reader). Lu and Bean 1995, Stat Med 14:1831–1839, with the variance
    at the alternative; one-sided at 2.5 %.
    """
    _check_share("share of discordant hips", discordant)
    _check_share("margin", margin)
    _check_share("power", power)
    if not (abs(difference) <= discordant and difference > -margin):
        raise InputError(
            "the true difference must lie above minus the margin, and cannot exceed the share "
            "of discordant hips"
        )
    z_alpha, z_beta = norm.ppf((1 + CONFIDENCE) / 2), norm.ppf(power)
    spread = np.sqrt(discordant - difference**2)
    n = ceil((z_alpha + z_beta) ** 2 * spread**2 / (margin + difference) ** 2)
    by_formula = float(norm.cdf((margin + difference) * np.sqrt(n) / spread - z_alpha))

    only_model, only_reader = (discordant + difference) / 2, (discordant - difference) / 2
    counts = np.random.default_rng(seed).multinomial(
        n, [only_model, only_reader, 1 - discordant], simulations
    )
    found = (counts[:, 0] - counts[:, 1]) / n
    error = np.sqrt(((counts[:, 0] + counts[:, 1]) / n - found**2) / n)
    return SampleSize(n, n, by_formula, float(np.mean(found - z_alpha * error > -margin)))


@dataclass(frozen=True)
class ReaderStudyPlan:
    """What is expected of readers. The correlations are between two readings of one hip.

    `same_reader`: the same reader, alone and assisted. `same_phase`: two readers, both alone or
    both assisted. `neither`: two readers, one alone and one assisted. `reader_sd` is how far
    readers' own gains scatter.
    """

    readers: int
    accuracy: float
    gain: float
    same_reader: float = 0.45
    same_phase: float = 0.35
    neither: float = 0.30
    reader_sd: float = 0.015

    def covariances(self, hips: int) -> ErrorCovariances:
        """Return the error covariances with so many hips."""
        p = self.accuracy + self.gain / 2
        variance = p * (1 - p) / hips
        return ErrorCovariances(
            variance,
            self.same_reader * variance,
            self.same_phase * variance,
            self.neither * variance,
        )


def multi_reader_power(
    effect: float,
    readers: int,
    *,
    reader_by_test_variance: float,
    covariances: ErrorCovariances,
    alpha: float = 1 - CONFIDENCE,
) -> float:
    """Return the power to find an effect between two tests, for random readers and cases.

    Hillis, Obuchowski and Berbaum 2011, Acad Radiol 18:129–142, equation 10. `covariances` are
    those with the number of cases that the study will have.
    """
    c, beyond = covariances, max(covariances.cov2 - covariances.cov3, 0.0)
    variance = max(reader_by_test_variance, 0.0)
    denominator = variance + c.variance - c.cov1 + (readers - 1) * beyond
    interaction = variance + c.variance - c.cov1 - beyond
    degrees = denominator**2 * (readers - 1) / interaction**2
    noncentrality = readers * effect**2 / 2 / denominator
    return float(ncf.sf(f.ppf(1 - alpha, 1, degrees), 1, degrees, noncentrality))


def size_for_readers(
    plan: ReaderStudyPlan,
    *,
    power: float = POWER,
    simulations: int = 400,
    seed: int = SEED,
) -> SampleSize:
    """Return the hips with which a two-phase reader study finds the planned gain in accuracy.

    Raises `InputError` where no number of hips suffices: more readers do.
    """
    _check_share("accuracy", plan.accuracy)
    _check_share("accuracy with the gain", plan.accuracy + plan.gain)
    _check_share("power", power)
    if plan.readers < 2:
        raise InputError("a reader study needs at least two readers")
    if not 0 <= plan.neither <= min(plan.same_reader, plan.same_phase) < 1:
        raise InputError("readings that share neither reader nor phase must correlate least")
    if not plan.reader_sd >= 0:
        raise InputError(f"a standard deviation cannot be {plan.reader_sd:g}")

    def power_with(hips: int) -> float:
        return multi_reader_power(
            plan.gain,
            plan.readers,
            # The difference of two phases has twice this variance.
            reader_by_test_variance=plan.reader_sd**2 / 2,
            covariances=plan.covariances(hips),
        )

    n = _least(lambda hips: power_with(hips) >= power)
    return SampleSize(n, n, power_with(n), simulated_reader_power(plan, n, simulations, seed=seed))


def simulated_reader_power(
    plan: ReaderStudyPlan, hips: int, simulations: int = 400, *, seed: int = SEED
) -> float:
    """Return the share of simulated studies in which the multi-reader analysis finds the gain.

    A hip is read rightly where a normal variable, shared in part between readers and phases,
    stays under a threshold; its parts have the planned correlations of right and wrong.
    """
    rng = np.random.default_rng(seed)
    parts = _latent_parts(plan)
    planned = plan.accuracy + np.array([[0.0], [plan.gain]])
    found = 0
    for _ in range(simulations):
        own = rng.normal(scale=plan.reader_sd / np.sqrt(2), size=(2, plan.readers))
        chance = np.clip(planned + own, 0.001, 0.999)
        right = _draw_right(chance, parts, hips, rng)
        left_out = (right.sum(axis=2) - right.transpose(2, 0, 1)) / (hips - 1)
        result = obuchowski_rockette(
            right.mean(axis=2), average_covariances(jackknife_covariance(left_out))
        ).random_readers
        found += result.value > 0 and result.p_value < 1 - CONFIDENCE
    return found / simulations


def _latent_parts(plan: ReaderStudyPlan) -> NDArray[np.float64]:
    """Return the variances of a hip's part, hip by reader, hip by phase, and the rest."""
    p = plan.accuracy + plan.gain / 2
    shared = _latent_correlation(plan.neither, p)
    reader = _latent_correlation(plan.same_reader, p) - shared
    phase = _latent_correlation(plan.same_phase, p) - shared
    if shared + reader + phase > 1:
        raise InputError("these correlations cannot all hold: lower one of them")
    return np.array([shared, reader, phase, 1 - shared - reader - phase])


def _latent_correlation(correlation: float, p: float) -> float:
    """Return the normal correlation at which two 0-or-1 variables of mean p have `correlation`.

    Raises `InputError` for one so high that its normal correlation is 1 in all but name.
    """
    if correlation <= 0:
        return 0.0
    threshold = norm.ppf(p)
    both = p**2 + correlation * p * (1 - p)

    def excess(latent: float) -> float:
        law = multivariate_normal(cov=[[1, latent], [latent, 1]])
        return float(law.cdf([threshold, threshold])) - both

    if excess(_HIGHEST_LATENT) < 0:
        raise InputError(
            f"a correlation of {correlation:g} is too near 1 to be simulated: lower it"
        )
    return float(brentq(excess, 0.0, _HIGHEST_LATENT, xtol=1e-4))


def _draw_right(
    chance: Array, parts: NDArray[np.float64], hips: int, rng: np.random.Generator
) -> Array:
    """Draw which readings (2, R, N) are right, each with its chance (2, R)."""
    readers = chance.shape[1]
    shapes = ((1, 1, hips), (1, readers, hips), (2, 1, hips), (2, readers, hips))
    latent = sum(
        np.sqrt(part) * rng.normal(size=shape) for part, shape in zip(parts, shapes, strict=True)
    )
    return np.asarray(latent < norm.ppf(chance)[:, :, np.newaxis], dtype=np.float64)


def _half_width(counts: float | NDArray[np.int64], n: int) -> Array:
    low, high = proportion_confint(counts, n, alpha=1 - CONFIDENCE, method="wilson")
    return np.asarray((high - low) / 2)


def _least(enough: Callable[[int], bool]) -> int:
    """Return the least number of cases that is enough, by doubling and then halving."""
    high = 2
    while not enough(high):
        high *= 2
        if high > _MOST_CASES:
            raise InputError("no number of cases is enough: plan for more readers or a larger gain")
    low = high // 2
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check_share(name: str, value: float, *, one_too: bool = False) -> None:
    if not (0 < value < 1 or (one_too and value == 1)):
        raise InputError(f"{name} must lie between 0 and 1, not {value:g}")
