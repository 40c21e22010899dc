"""Macro-F1 of several classifiers on the same hips, each replicate drawing the same patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hipedge.study.cases import Cases
from hipedge.study.estimator import K
from hipedge.study.metrics import confusion_cells, confusion_statistics
from hipedge.study.resampling import SEED, Array, bootstrap


def joint_macro_f1(
    raters: Sequence[Cases], *, replicates: int, seed: int = SEED
) -> list[tuple[float, Array]]:
    """Return each classifier's macro-F1 and its replicates (R,), which may be subtracted.

    `raters` are the same hips in the same order, each with the answers of one classifier.
    """
    units, unit = np.unique(raters[0].patients, return_inverse=True)
    flat = np.concatenate([_cells(cases, unit, units.size) for cases in raters], axis=1)

    def statistic(weights: Array) -> Array:
        matrices = (weights @ flat).reshape(-1, K, K + 1)
        return confusion_statistics(matrices)["macro F1", None].reshape(-1, len(raters))

    ones = np.ones(units.size, dtype=np.int64)
    drawn = bootstrap(statistic, ones, replicates=replicates, seed=seed)
    return [(float(drawn.values[i]), drawn.replicates[:, i]) for i in range(len(raters))]


def _cells(cases: Cases, unit: NDArray[np.int64], n_units: int) -> Array:
    """Count each patient's hips by cell of the confusion matrix: (U, K (K + 1))."""
    counts = np.zeros((n_units, K * (K + 1)))
    np.add.at(counts, (unit, confusion_cells(cases.truth, cases.answer, K)), 1)
    return counts
