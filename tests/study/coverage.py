"""How often nominal 95 % intervals hold the truth, by simulation.

    OMP_NUM_THREADS=1 python -m tests.study.coverage

prints the tables of docs/study.md. The populations are cross-tabulations of a large simulated
study, taken as exact; every simulated study is a multinomial sample of hips from one of them.
"""

import sys
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.simulated_study import simulate_study
from hipedge.study.agreement import cohen_kappa
from hipedge.study.comparisons import non_inferiority, paired_non_inferiority
from hipedge.study.intervals import wilson
from hipedge.study.metrics import mean_of_defined, ratio
from hipedge.study.resampling import bootstrap

K = 8
REPLICATES = 1_000
SIMULATIONS = 4_000


@cache
def population():
    """A study so large that its shares serve as the truth."""
    return simulate_study(200_000, seed=7)


def shares(first, second):
    """The shares (K K,) of hips by the answers of two raters."""
    counts = np.bincount(first * K + second, minlength=K * K)
    return counts / counts.sum()


def with_rare_categories(chances):
    """The shares (K K,) of the same model where two categories are 1 % of hips each."""
    by_truth = chances.reshape(K, K)
    wanted = np.array([0.70, 0.15, 0.05, 0.03, 0.03, 0.02, 0.01, 0.01])
    return (by_truth / by_truth.sum(axis=1, keepdims=True) * wanted[:, np.newaxis]).ravel()


def accuracy(matrices):
    return ratio(np.trace(matrices, axis1=1, axis2=2), matrices.sum(axis=(1, 2)))


def macro_f1(matrices):
    right = np.diagonal(matrices, axis1=1, axis2=2)
    return mean_of_defined(ratio(2 * right, matrices.sum(axis=1) + matrices.sum(axis=2)))


@dataclass(frozen=True)
class Coverage:
    """The share of studies whose interval holds the truth, by method."""

    statistic: str
    hips: int
    by_method: dict


def coverage(statistic, hips, simulations=SIMULATIONS):
    """Simulate studies and count how often each interval of a statistic holds its truth."""
    study = population()
    model = study.probabilities.argmax(axis=1)
    measure, chances = {
        "accuracy": (accuracy, shares(study.truth, model)),
        "macro F1": (macro_f1, shares(study.truth, model)),
        "macro F1, rare categories": (macro_f1, with_rare_categories(shares(study.truth, model))),
        "κ": (cohen_kappa, shares(study.answers[2, 0], study.answers[4, 0])),
    }[statistic]
    truth = measure(chances.reshape(1, K, K))[0]
    held = {"percentile": 0, "BCa": 0} | ({"Wilson": 0} if statistic == "accuracy" else {})
    rng = np.random.default_rng([hips, len(statistic)])
    for simulation in range(simulations):
        counts = rng.multinomial(hips, chances)
        cells = np.flatnonzero(counts)
        drawn = bootstrap(
            _of_cells(measure, cells), counts[cells], replicates=REPLICATES, seed=simulation
        )
        found = {"percentile": drawn.percentile(0), "BCa": drawn.bca(0)}
        if "Wilson" in held:
            found["Wilson"] = wilson(np.trace(counts.reshape(K, K)), hips)
        for method, interval in found.items():
            held[method] += interval is not None and interval.low <= truth <= interval.high
    return Coverage(statistic, hips, {name: n / simulations for name, n in held.items()})


def _of_cells(measure, cells):
    """A statistic of weights (B, cells that occur)."""

    def statistic(weights):
        matrices = np.zeros((len(weights), K * K))
        matrices[:, cells] = weights
        return measure(matrices.reshape(-1, K, K))[:, np.newaxis]

    return statistic


def false_non_inferiority(statistic, hips, simulations=SIMULATIONS):
    """The share of studies, by method, that find non-inferiority though the truth is the margin.

    A junior reader is compared with an attending one; the margin is their true difference.
    """
    study = population()
    worse, better = study.answers[1, 0], study.answers[2, 0]
    chances = np.bincount((study.truth * K + worse) * K + better, minlength=K**3)
    chances = chances / chances.sum()
    measure = accuracy if statistic == "accuracy" else macro_f1
    truth, new, old = np.unravel_index(np.arange(K**3), (K, K, K))

    def difference(cubes):
        cubes = cubes.reshape(-1, K, K, K)
        return measure(cubes.sum(axis=3)) - measure(cubes.sum(axis=2))

    margin = -difference(chances)[0]
    rng = np.random.default_rng([hips, len(statistic), 1])
    found = {"bootstrap": 0} | ({"Tango": 0} if statistic == "accuracy" else {})
    for simulation in range(simulations):
        counts = rng.multinomial(hips, chances)
        cells = np.flatnonzero(counts)

        def statistic_of(weights, cells=cells):
            cubes = np.zeros((len(weights), K**3))
            cubes[:, cells] = weights
            return difference(cubes)[:, np.newaxis]

        drawn = bootstrap(statistic_of, counts[cells], replicates=REPLICATES, seed=simulation)
        judged = {
            "bootstrap": non_inferiority(drawn.values[0], drawn.replicates[:, 0], margin=margin)
        }
        if "Tango" in found:
            right = np.repeat(new == truth, counts), np.repeat(old == truth, counts)
            judged["Tango"] = paired_non_inferiority(*right, margin=margin)
        for method, verdict in judged.items():
            found[method] += verdict.verdict in ("non-inferior", "superior")
    return {method: n / simulations for method, n in found.items()}


def main():
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else SIMULATIONS
    for statistic in ("accuracy", "κ", "macro F1", "macro F1, rare categories"):
        for hips in (200, 5_000):
            found = coverage(statistic, hips, simulations)
            rates = ", ".join(f"{name} {rate:.1%}" for name, rate in found.by_method.items())
            print(f"{statistic}, n = {hips:,}: {rates}", flush=True)
    for statistic in ("accuracy", "macro F1"):
        for hips in (200, 5_000):
            found = false_non_inferiority(statistic, hips, simulations)
            rates = ", ".join(f"{name} {rate:.2%}" for name, rate in found.items())
            print(f"false non-inferiority, {statistic}, n = {hips:,}: {rates}", flush=True)


if __name__ == "__main__":
    main()
