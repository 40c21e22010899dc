"""What a confusion matrix says, for one matrix or for ten thousand replicates at a time.

Rows are the truth, columns the answers; a last column beyond the K categories holds the hips for
which there is no answer, so that a matrix is (K, K + 1). Such a hip is an error whatever it is:
a miss for its own category and a false alarm for every other.

Undefined is NaN. Sensitivity is undefined for a category of which there is no case, PPV where
nothing was called so, F1 where neither happened. An average over categories runs over those for
which the metric is defined: the rule of scikit-learn's `f1_score` and `balanced_accuracy_score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.study.resampling import SEED, Array, Bootstrapped, bootstrap

OVERALL = ("accuracy", "balanced accuracy", "macro F1")
PER_CATEGORY = ("sensitivity", "specificity", "PPV", "NPV", "F1")
AT_PREVALENCE = ("PPV at prevalence", "NPV at prevalence")


@dataclass(frozen=True, eq=False)
class Patterns:
    """The distinct contributions of patients to a confusion matrix.

    `counts` (U, K (K + 1)) are hips per cell, `multiplicity` (U,) how many patients share a row.
    """

    counts: Array
    multiplicity: NDArray[np.int64]


def confusion_cells(
    truth: NDArray[np.integer], answer: NDArray[np.integer], n_categories: int
) -> NDArray[np.int64]:
    """Return each hip's cell (N,) in the flattened (K, K + 1) matrix; an answer of -1 is none."""
    column = np.where(answer < 0, n_categories, answer)
    return (truth.astype(np.int64) * (n_categories + 1) + column).astype(np.int64)


def patterns_of(cells: NDArray[np.int64], patients: NDArray[np.integer], n_cells: int) -> Patterns:
    """Group patients (N,) whose hips lie in the same cells (N,)."""
    order = np.lexsort((cells, patients))
    starts = np.flatnonzero(np.diff(patients[order], prepend=-1))
    sizes = np.diff(starts, append=cells.size)
    counts, multiplicity = [], []
    for size in np.unique(sizes):
        rows = cells[order][starts[sizes == size, np.newaxis] + np.arange(size)]
        distinct, shared_by = np.unique(rows, axis=0, return_counts=True)
        contribution = np.zeros((len(distinct), n_cells))
        np.add.at(contribution, (np.arange(len(distinct))[:, np.newaxis], distinct), 1)
        counts.append(contribution)
        multiplicity.append(shared_by)
    return Patterns(np.concatenate(counts), np.concatenate(multiplicity).astype(np.int64))


def confusion_statistics(
    matrices: Array, *, prevalence: Mapping[int, float] | None = None
) -> dict[tuple[str, int | None], Array]:
    """Return each statistic (B,) of the matrices (B, K, K + 1), by name and category.

    `prevalence` gives, for some categories, the share at which to state PPV and NPV as well, by
    Bayes' theorem from sensitivity and specificity.
    """
    n_categories = matrices.shape[1]
    answered, unread = matrices[:, :, :n_categories], matrices[:, :, n_categories]
    right = np.diagonal(answered, axis1=1, axis2=2)
    support, called = matrices.sum(axis=2), answered.sum(axis=1)
    total = support.sum(axis=1, keepdims=True)
    unread_elsewhere = unread.sum(axis=1, keepdims=True) - unread
    false_alarms = called - right
    rejected = total - support - false_alarms - unread_elsewhere
    missed = support - right - unread

    sensitivity = ratio(right, support)
    specificity = ratio(rejected, total - support)
    f1 = ratio(2 * right, support + called)
    values: dict[tuple[str, int | None], Array] = {
        ("accuracy", None): ratio(right.sum(axis=1), total[:, 0]),
        ("balanced accuracy", None): mean_of_defined(sensitivity),
        ("macro F1", None): mean_of_defined(f1),
    }
    columns = (sensitivity, specificity, ratio(right, called), ratio(rejected, rejected + missed))
    for name, column in zip(PER_CATEGORY, (*columns, f1), strict=True):
        values.update({(name, k): column[:, k] for k in range(n_categories)})
    for k, share in (prevalence or {}).items():
        hit, clear = share * sensitivity[:, k], (1 - share) * specificity[:, k]
        values["PPV at prevalence", k] = ratio(hit, hit + (1 - share) - clear)
        values["NPV at prevalence", k] = ratio(clear, clear + share - hit)
    return values


@dataclass(frozen=True, eq=False)
class ConfusionBootstrap:
    """The statistics of one confusion matrix with their replicates, found by name and category."""

    keys: tuple[tuple[str, int | None], ...]
    drawn: Bootstrapped
    matrix: Array

    def column(self, name: str, category: int | None = None) -> int:
        """Return the column of a statistic."""
        return self.keys.index((name, category))

    def value(self, name: str, category: int | None = None) -> float:
        """Return the statistic in the data themselves."""
        return float(self.drawn.values[self.column(name, category)])

    def replicates(self, name: str, category: int | None = None) -> Array:
        """Return the statistic's replicates (R,)."""
        return self.drawn.replicates[:, self.column(name, category)]


def bootstrap_confusion(
    patterns: Patterns,
    n_categories: int,
    *,
    replicates: int,
    seed: int = SEED,
    prevalence: Mapping[int, float] | None = None,
) -> ConfusionBootstrap:
    """Bootstrap every statistic of the confusion matrix, by patient."""
    shape = (-1, n_categories, n_categories + 1)

    def statistic(weights: Array) -> Array:
        matrices = (weights @ patterns.counts).reshape(shape)
        return np.stack(list(confusion_statistics(matrices, prevalence=prevalence).values()), 1)

    matrix = (patterns.multiplicity @ patterns.counts).reshape(shape)
    keys = tuple(confusion_statistics(matrix, prevalence=prevalence))
    drawn = bootstrap(statistic, patterns.multiplicity, replicates=replicates, seed=seed)
    return ConfusionBootstrap(keys, drawn, matrix[0])


def ratio(part: Array, whole: Array) -> Array:
    """Divide; NaN, meaning undefined, where the whole is nothing."""
    undefined = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=undefined, where=whole > 0))


def mean_of_defined(values: Array) -> Array:
    """Average (B, K) over the categories for which a value is defined; NaN where none is."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1))
