"""Metrics of probabilities over replicates: AUC, average precision, Brier score and ECE.

Cases are sorted once. A replicate only changes the weights of cases, so that its AUC and average
precision are cumulative sums along the sorted cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.study.metrics import mean_of_defined
from hipedge.study.resampling import Array

N_BINS = 15  # of equal width: Guo et al. 2017, On Calibration of Modern Neural Networks


@dataclass(frozen=True, eq=False)
class RankedScores:
    """The cases of a binary question, sorted by score.

    `positives` (m,) and `negatives` (n,) index the cases by ascending score. For each positive,
    `below` and `upto` (m,) count the negatives with a lower score, without and with ties, and
    `first` (m,) the positives with a lower score.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    below: NDArray[np.int64]
    upto: NDArray[np.int64]
    first: NDArray[np.int64]


def rank_scores(scores: Array, positive: NDArray[np.bool_]) -> RankedScores:
    """Sort the cases by scores (N,), for `weighted_auc_and_ap`."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    positives = positives[np.argsort(scores[positives], kind="stable")]
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    high, low = scores[positives], scores[negatives]
    return RankedScores(
        positives,
        negatives,
        np.searchsorted(low, high, side="left"),
        np.searchsorted(low, high, side="right"),
        np.searchsorted(high, high, side="left"),
    )


def weighted_auc_and_ap(weights: Array, ranked: RankedScores) -> tuple[Array, Array]:
    """Return the AUC (B,) and the average precision (B,) under weights (B, N).

    Both are defined as in scikit-learn: ties count half in the AUC and form one threshold in the
    average precision. NaN for a replicate without positives or without negatives.
    """
    positive = np.ascontiguousarray(weights[:, ranked.positives])
    below = _cumulative(weights[:, ranked.negatives])
    m, n = positive.sum(axis=1), below[:, -1]
    lower = below[:, ranked.below]
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = np.einsum("bi,bi->b", positive, lower + below[:, ranked.upto]) / 2
        true = m[:, np.newaxis] - _cumulative(positive)[:, ranked.first]
        predicted = np.maximum(true + n[:, np.newaxis] - lower, np.finfo(np.float64).tiny)
        precision = np.einsum("bi,bi->b", positive, true / predicted) / m
        auc = np.where(n > 0, pairs / (m * n), np.nan)
    return auc, np.where(n > 0, precision, np.nan)


def brier_terms(probabilities: Array, truth: NDArray[np.integer]) -> Array:
    """Return each case's Brier score (N,): Brier 1950, over all K categories, from 0 to 2."""
    error = probabilities.copy()
    error[np.arange(truth.size), truth] -= 1
    return np.asarray(np.sum(error**2, axis=1))


def calibration_bins(confidence: Array) -> NDArray[np.int64]:
    """Return the bin (N,) of each confidence (N,): equal widths, the upper edge included."""
    return np.clip(np.ceil(confidence * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)


def ece_terms(confidence: Array, correct: NDArray[np.bool_]) -> Array:
    """Return terms (N, bins): the absolute values of their column sums add up to N times the ECE.

    The expected calibration error is that of the top category (Guo et al. 2017).
    """
    terms = np.zeros((confidence.size, N_BINS))
    terms[np.arange(confidence.size), calibration_bins(confidence)] = correct - confidence
    return terms


@dataclass(frozen=True, eq=False)
class ScoreTables:
    """The data from which replicates of the score metrics are computed.

    `questions` are each category against the rest, then the binary questions. `additive`
    (N, 1 + bins) holds the Brier and ECE terms. `patients` (N,) is the unit of each case, or
    `None` if each case is a unit.
    """

    questions: tuple[RankedScores, ...]
    n_categories: int
    additive: Array
    patients: NDArray[np.int64] | None


def score_tables(
    probabilities: Array,
    truth: NDArray[np.integer],
    binary: tuple[tuple[bool, ...], ...] = (),
    *,
    patients: NDArray[np.int64] | None = None,
) -> ScoreTables:
    """Sort and tabulate probabilities (N, K) and truth (N,).

    `binary` lists, for each binary question, which of the K categories are positive.
    """
    n_categories = probabilities.shape[1]
    one_vs_rest = [rank_scores(probabilities[:, k], truth == k) for k in range(n_categories)]
    grouped = [
        rank_scores(question_score(probabilities, positive), np.asarray(positive)[truth])
        for positive in binary
    ]
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    additive = np.column_stack([brier_terms(probabilities, truth), ece_terms(confidence, correct)])
    return ScoreTables((*one_vs_rest, *grouped), n_categories, additive, patients)


def question_score(probabilities: Array, positive: tuple[bool, ...]) -> Array:
    """Return the probability (N,) of the positive categories together."""
    return np.asarray(probabilities[:, np.asarray(positive)].sum(axis=1))


def score_statistic(weights: Array, tables: ScoreTables) -> Array:
    """Return, under unit weights (B, U): macro AUC, macro AP, Brier, ECE, then AUCs, then APs.

    AUCs and APs are (B, questions) in the order of `tables.questions`. The macro averages run
    over the categories for which they are defined in the replicate.
    """
    if tables.patients is not None:
        weights = weights[:, tables.patients]
    pairs = [weighted_auc_and_ap(weights, question) for question in tables.questions]
    auc = np.stack([pair[0] for pair in pairs], axis=1)
    precision = np.stack([pair[1] for pair in pairs], axis=1)
    sums = weights @ tables.additive / weights.sum(axis=1, keepdims=True)
    overall = [
        mean_of_defined(auc[:, : tables.n_categories]),
        mean_of_defined(precision[:, : tables.n_categories]),
        sums[:, 0],
        np.abs(sums[:, 1:]).sum(axis=1),
    ]
    return np.column_stack([*overall, auc, precision])


def _cumulative(weights: Array) -> Array:
    """Return cumulative sums (B, n + 1) with a leading 0."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
