"""Sample sizes of studies, by formula and by simulation.

The simulation runs the analysis of this package on simulated data, and so includes what the formula
neglects.
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
_MAX_CASES = 10_000_000
_MAX_LATENT_CORRELATION = 0.999


@dataclass(frozen=True)
class SampleSize:
    """A sample size and the probability that a study of that size succeeds.

    `cases` is the number of hips with the condition, `hips` the number to collect for these. The
    probability is given `by_formula` and `by_simulation`.
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
    """Return the sample size for a 95 % interval of the sensitivity within ± `half_width`.

    This is the smallest size at which the Wilson interval of the expected count is narrow enough.
    Success means that the interval of the observed count is; its probability, near one half by
    design, is summed over the binomial distribution, and simulated.
    """
    _check_proportion("sensitivity", sensitivity)
    _check_proportion("half-width", half_width)
    _check_proportion("prevalence", prevalence, allow_one=True)
    n = _smallest_sufficient(lambda n: bool(_half_width(sensitivity * n, n) <= half_width))
    is_narrow_enough = _half_width(np.arange(n + 1), n) <= half_width
    probabilities = binom.pmf(np.arange(n + 1), n, sensitivity)
    drawn = np.random.default_rng(seed).binomial(n, sensitivity, simulations)
    return SampleSize(
        n,
        ceil(n / prevalence),
        float(probabilities @ is_narrow_enough),
        float(is_narrow_enough[drawn].mean()),
    )


def size_for_non_inferiority(
    discordant: float,
    *,
    difference: float = 0.0,
    margin: float = MARGIN,
    power: float = POWER,
    simulations: int = SIMULATIONS,
    seed: int = SEED,
) -> SampleSize:
    """Return the sample size for a paired non-inferiority test of the model's accuracy.

    `discordant` is the proportion of hips that only one of model and reader answers correctly,
    `difference` the true difference (model less reader). Lu and Bean 1995, Stat Med 14:1831–1839,
    with the variance under the alternative; one-sided at 2.5 %.
    """
    _check_proportion("proportion of discordant hips", discordant)
    _check_proportion("margin", margin)
    _check_proportion("power", power)
    if not (abs(difference) <= discordant and difference > -margin):
        raise InputError(
            "the true difference must lie above minus the margin, and cannot exceed the "
            "proportion of discordant hips"
        )
    z_alpha, z_beta = norm.ppf((1 + CONFIDENCE) / 2), norm.ppf(power)
    spread = np.sqrt(discordant - difference**2)
    n = ceil((z_alpha + z_beta) ** 2 * spread**2 / (margin + difference) ** 2)
    by_formula = float(norm.cdf((margin + difference) * np.sqrt(n) / spread - z_alpha))

    only_model, only_reader = (discordant + difference) / 2, (discordant - difference) / 2
    counts = np.random.default_rng(seed).multinomial(
        n, [only_model, only_reader, 1 - discordant], simulations
    )
    observed = (counts[:, 0] - counts[:, 1]) / n
    error = np.sqrt(((counts[:, 0] + counts[:, 1]) / n - observed**2) / n)
    return SampleSize(n, n, by_formula, float(np.mean(observed - z_alpha * error > -margin)))


@dataclass(frozen=True)
class ReaderStudyPlan:
    """The assumptions of a two-phase reader study.

    `accuracy` is that of the readers alone, `gain` the difference that assistance makes. The
    correlations are between two reads of one hip, correct or not: `same_reader` in both phases,
    `same_phase` by two readers, `neither` by two readers in different phases. `reader_sd` is the
    standard deviation of the gain between readers.
    """

    readers: int
    accuracy: float
    gain: float
    same_reader: float = 0.45
    same_phase: float = 0.35
    neither: float = 0.30
    reader_sd: float = 0.015

    def covariances(self, hips: int) -> ErrorCovariances:
        """Return the error covariances for a number of hips."""
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
    """Return the power to detect an effect between two tests, for random readers and cases.

    Hillis, Obuchowski and Berbaum 2011, Acad Radiol 18:129–142, equation 10. `covariances` are
    those for the planned number of cases.
    """
    c, excess = covariances, max(covariances.cov2 - covariances.cov3, 0.0)
    variance = max(reader_by_test_variance, 0.0)
    denominator = variance + c.variance - c.cov1 + (readers - 1) * excess
    interaction = variance + c.variance - c.cov1 - excess
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
    """Return the sample size at which a two-phase reader study detects the planned gain.

    Raises `InputError` if no number of hips is sufficient with this number of readers.
    """
    _check_proportion("accuracy", plan.accuracy)
    _check_proportion("accuracy with the gain", plan.accuracy + plan.gain)
    _check_proportion("power", power)
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

    n = _smallest_sufficient(lambda hips: power_with(hips) >= power)
    return SampleSize(n, n, power_with(n), simulated_reader_power(plan, n, simulations, seed=seed))


def simulated_reader_power(
    plan: ReaderStudyPlan, hips: int, simulations: int = 400, *, seed: int = SEED
) -> float:
    """Return the fraction of simulated studies in which the multi-reader analysis finds the gain.

    A read is correct if a latent normal variable is below a threshold. Its variance components
    (hip, hip × reader, hip × phase, residual) give the planned correlations of correct reads.
    """
    rng = np.random.default_rng(seed)
    components = _variance_components(plan)
    planned = plan.accuracy + np.array([[0.0], [plan.gain]])
    detected = 0
    for _ in range(simulations):
        own = rng.normal(scale=plan.reader_sd / np.sqrt(2), size=(2, plan.readers))
        probability = np.clip(planned + own, 0.001, 0.999)
        correct = _draw_correct(probability, components, hips, rng)
        jackknifed = (correct.sum(axis=2) - correct.transpose(2, 0, 1)) / (hips - 1)
        result = obuchowski_rockette(
            correct.mean(axis=2), average_covariances(jackknife_covariance(jackknifed))
        ).random_readers
        detected += result.value > 0 and result.p_value < 1 - CONFIDENCE
    return detected / simulations


def _variance_components(plan: ReaderStudyPlan) -> NDArray[np.float64]:
    """Return the variance components: hip, hip × reader, hip × phase, residual."""
    p = plan.accuracy + plan.gain / 2
    shared = _latent_correlation(plan.neither, p)
    reader = _latent_correlation(plan.same_reader, p) - shared
    phase = _latent_correlation(plan.same_phase, p) - shared
    if shared + reader + phase > 1:
        raise InputError("these correlations cannot all hold: lower one of them")
    return np.array([shared, reader, phase, 1 - shared - reader - phase])


def _latent_correlation(correlation: float, p: float) -> float:
    """Return the latent correlation at which two binary variables of mean p have `correlation`.

    Raises `InputError` if that correlation is too close to 1.
    """
    if correlation <= 0:
        return 0.0
    threshold = norm.ppf(p)
    both = p**2 + correlation * p * (1 - p)

    def excess(latent: float) -> float:
        distribution = multivariate_normal(cov=[[1, latent], [latent, 1]])
        return float(distribution.cdf([threshold, threshold])) - both

    if excess(_MAX_LATENT_CORRELATION) < 0:
        raise InputError(
            f"a correlation of {correlation:g} is too near 1 to be simulated: lower it"
        )
    return float(brentq(excess, 0.0, _MAX_LATENT_CORRELATION, xtol=1e-4))


def _draw_correct(
    probability: Array, components: NDArray[np.float64], hips: int, rng: np.random.Generator
) -> Array:
    """Draw which reads (2, R, N) are correct, with probabilities (2, R)."""
    readers = probability.shape[1]
    shapes = ((1, 1, hips), (1, readers, hips), (2, 1, hips), (2, readers, hips))
    latent = sum(
        np.sqrt(component) * rng.normal(size=shape)
        for component, shape in zip(components, shapes, strict=True)
    )
    return np.asarray(latent < norm.ppf(probability)[:, :, np.newaxis], dtype=np.float64)


def _half_width(counts: float | NDArray[np.int64], n: int) -> Array:
    low, high = proportion_confint(counts, n, alpha=1 - CONFIDENCE, method="wilson")
    return np.asarray((high - low) / 2)


def _smallest_sufficient(enough: Callable[[int], bool]) -> int:
    """Return the smallest number of cases that is enough, by doubling and bisection."""
    high = 2
    while not enough(high):
        high *= 2
        if high > _MAX_CASES:
            raise InputError("no number of cases is enough: plan for more readers or a larger gain")
    low = high // 2
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check_proportion(name: str, value: float, *, allow_one: bool = False) -> None:
    if not (0 < value < 1 or (allow_one and value == 1)):
        raise InputError(f"{name} must lie between 0 and 1, not {value:g}")
