"""Metrics of confusion matrices, vectorised over bootstrap replicates.

Rows are the truth, columns the answers; an additional last column counts hips without an answer, so
that a matrix is (K, K + 1). A hip without an answer is an error: a false negative for its own
category and a false positive for every other.

An undefined value is NaN: sensitivity without cases of a category, PPV without positive answers, F1
without either. Macro averages run over the categories for which the metric is defined, as in
scikit-learn's `f1_score` and `balanced_accuracy_score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.study.resampling import SEED, Array, BootstrapResult, bootstrap

OVERALL = ("accuracy", "balanced accuracy", "macro F1")
BINARY = ("sensitivity", "specificity", "PPV", "NPV")
PER_CATEGORY = (*BINARY, "F1")
AT_PREVALENCE = ("PPV at prevalence", "NPV at prevalence")


@dataclass(frozen=True, eq=False)
class Patterns:
    """The distinct contributions of patients to a confusion matrix.

    `counts` (U, K (K + 1)) are hips per cell, `multiplicity` (U,) the number of patients per row.
    """

    counts: Array
    multiplicity: NDArray[np.int64]


def confusion_cells(
    truth: NDArray[np.integer], answer: NDArray[np.integer], n_categories: int
) -> NDArray[np.int64]:
    """Return the index (N,) of each hip's cell in the flattened (K, K + 1) matrix.

    An answer of -1 means no answer.
    """
    column = np.where(answer < 0, n_categories, answer)
    return (truth.astype(np.int64) * (n_categories + 1) + column).astype(np.int64)


def patterns_of(cells: NDArray[np.int64], patients: NDArray[np.integer], n_cells: int) -> Patterns:
    """Group the patients (N,) whose hips are in the same cells (N,)."""
    order = np.lexsort((cells, patients))
    starts = np.flatnonzero(np.diff(patients[order], prepend=-1))
    sizes = np.diff(starts, append=cells.size)
    counts, multiplicity = [], []
    for size in np.unique(sizes):
        rows = cells[order][starts[sizes == size, np.newaxis] + np.arange(size)]
        distinct, count = np.unique(rows, axis=0, return_counts=True)
        contribution = np.zeros((len(distinct), n_cells))
        np.add.at(contribution, (np.arange(len(distinct))[:, np.newaxis], distinct), 1)
        counts.append(contribution)
        multiplicity.append(count)
    return Patterns(np.concatenate(counts), np.concatenate(multiplicity).astype(np.int64))


def confusion_statistics(
    matrices: Array, *, prevalence: Mapping[int, float] | None = None
) -> dict[tuple[str, int | None], Array]:
    """Return each statistic (B,) of the matrices (B, K, K + 1), by name and category.

    `prevalence` maps categories to the prevalence at which PPV and NPV are also computed, from
    sensitivity and specificity by Bayes' theorem.
    """
    n_categories = matrices.shape[1]
    answered, unanswered = matrices[:, :, :n_categories], matrices[:, :, n_categories]
    correct = np.diagonal(answered, axis1=1, axis2=2)
    support, predicted = matrices.sum(axis=2), answered.sum(axis=1)
    total = support.sum(axis=1, keepdims=True)
    unanswered_elsewhere = unanswered.sum(axis=1, keepdims=True) - unanswered
    false_positives = predicted - correct
    true_negatives = total - support - false_positives - unanswered_elsewhere
    false_negatives = support - correct - unanswered

    sensitivity = ratio(correct, support)
    specificity = ratio(true_negatives, total - support)
    f1 = ratio(2 * correct, support + predicted)
    values: dict[tuple[str, int | None], Array] = {
        ("accuracy", None): ratio(correct.sum(axis=1), total[:, 0]),
        ("balanced accuracy", None): mean_of_defined(sensitivity),
        ("macro F1", None): mean_of_defined(f1),
    }
    columns = (
        sensitivity,
        specificity,
        ratio(correct, predicted),
        ratio(true_negatives, true_negatives + false_negatives),
    )
    for name, column in zip(PER_CATEGORY, (*columns, f1), strict=True):
        values.update({(name, k): column[:, k] for k in range(n_categories)})
    for k, prior in (prevalence or {}).items():
        tp, tn = prior * sensitivity[:, k], (1 - prior) * specificity[:, k]
        values["PPV at prevalence", k] = ratio(tp, tp + (1 - prior) - tn)
        values["NPV at prevalence", k] = ratio(tn, tn + prior - tp)
    return values


@dataclass(frozen=True, eq=False)
class ConfusionBootstrap:
    """The statistics of a confusion matrix with their replicates, by name and category."""

    keys: tuple[tuple[str, int | None], ...]
    result: BootstrapResult
    matrix: Array

    def column(self, name: str, category: int | None = None) -> int:
        """Return the column of a statistic in `result`."""
        return self.keys.index((name, category))

    def value(self, name: str, category: int | None = None) -> float:
        """Return the statistic of the observed data."""
        return float(self.result.values[self.column(name, category)])

    def replicates(self, name: str, category: int | None = None) -> Array:
        """Return the statistic's replicates (R,)."""
        return self.result.replicates[:, self.column(name, category)]


def bootstrap_confusion(
    patterns: Patterns,
    n_categories: int,
    *,
    replicates: int,
    seed: int = SEED,
    prevalence: Mapping[int, float] | None = None,
) -> ConfusionBootstrap:
    """Bootstrap every statistic of the confusion matrix, resampling patients."""
    shape = (-1, n_categories, n_categories + 1)

    def statistic(weights: Array) -> Array:
        matrices = (weights @ patterns.counts).reshape(shape)
        return np.stack(list(confusion_statistics(matrices, prevalence=prevalence).values()), 1)

    matrix = (patterns.multiplicity @ patterns.counts).reshape(shape)
    keys = tuple(confusion_statistics(matrix, prevalence=prevalence))
    result = bootstrap(statistic, patterns.multiplicity, replicates=replicates, seed=seed)
    return ConfusionBootstrap(keys, result, matrix[0])


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN (undefined) where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=denominator > 0))


def mean_of_defined(values: Array) -> Array:
    """Average (B, K) over the defined values of each row; NaN if there are none."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))
