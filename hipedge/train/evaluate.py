"""Performance of a network on held-out hips: the metrics of the model card, and predictions.

This module computes only the metrics of the card; `hipedge evaluate` reports far more from the
same predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.files import write_csv
from hipedge.rules.flags import softmax
from hipedge.train.calibrate import Calibration
from hipedge.train.classifier import confusion, macro_f1
from hipedge.train.manifest import Row
from hipedge.types import ABNORMAL, CATEGORIES, Category

REPLICATES = 2000
INTERVAL = (0.025, 0.975)


def probabilities_of(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return calibrated probabilities (N, K)."""
    return softmax(logits.reshape(-1, len(CATEGORIES)), temperature)


def write_predictions(
    path: Path, rows: Sequence[Row], probabilities: NDArray[np.float64], folder: Path
) -> None:
    """Write a CSV for `hipedge evaluate`: path, side, split and the probability of each category.

    As in the manifest, paths are relative to `folder`, the manifest's folder, wherever possible.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        write_csv(
            file,
            ("path", "side", "split", *(category.value for category in CATEGORIES)),
            (
                (_relative(row.path, folder), row.side.value, row.split,
                 *(f"{p:.6f}" for p in values))
                for row, values in zip(rows, probabilities, strict=True)
            ),
        )  # fmt: skip


def _relative(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def measure(
    rows: Sequence[Row], probabilities: NDArray[np.float64], calibration: Calibration
) -> dict[str, float]:
    """Return the metrics of a model card for hips and their probabilities (N, K).

    Accuracy and macro-F1 have 95 % percentile intervals from a bootstrap (Efron, 1979) that
    resamples patients, because the two hips of one patient are not independent.
    """
    truth = np.array([CATEGORIES.index(row.category) for row in rows])
    answer = probabilities.argmax(axis=1)
    matrix = confusion(truth, answer)
    accuracies, macro_f1s = _replicates(rows, truth, answer)
    found: dict[str, float] = {"hips": len(rows)}
    for name, value, replicates in (
        ("accuracy", float(np.mean(truth == answer)), accuracies),
        ("macro_f1", macro_f1(matrix), macro_f1s),
    ):
        low, high = np.quantile(replicates, INTERVAL)
        found |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    for k, category in enumerate(CATEGORIES):
        if matrix[k].any():
            found[f"f1_{category.value}"] = float(
                2 * matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum())
            )
    uncertain = probabilities.max(axis=1) < calibration.min_confidence
    for point in calibration.operating_points:
        flags = point.margins(probabilities, hardware=True) >= 0
        any_flag = flags.any(axis=1) | uncertain
        without = truth == CATEGORIES.index(Category.NORMAL)
        if without.any():
            found[f"{point.name}_flag_rate_without_finding"] = float(any_flag[without].mean())
        for category in ABNORMAL:
            k = CATEGORIES.index(category)
            flagged, of_it = flags[:, k], truth == k
            if of_it.any() and not of_it.all():
                found[f"{point.name}_{category.value}_flagged"] = float(any_flag[of_it].mean())
                found[f"{point.name}_{category.value}_sensitivity"] = float(flagged[of_it].mean())
                found[f"{point.name}_{category.value}_specificity"] = float(
                    (~flagged)[~of_it].mean()
                )
    return found


def _replicates(
    rows: Sequence[Row], truth: NDArray[np.int64], answer: NDArray[np.int64]
) -> tuple[list[float], list[float]]:
    """Return accuracy and macro-F1 of bootstrap samples of patients, drawn with replacement."""
    _, patients = np.unique([row.patient for row in rows], return_inverse=True)
    K, n = len(CATEGORIES), int(patients.max()) + 1
    cells = np.zeros((n, K * K), np.int64)
    np.add.at(cells, (patients, truth * K + answer), 1)
    rng = np.random.default_rng(0)
    accuracies, macro_f1s = [], []
    for _ in range(REPLICATES):
        drawn = np.bincount(rng.integers(n, size=n), minlength=n)
        matrix = (drawn @ cells).reshape(K, K)
        accuracies.append(float(np.trace(matrix) / matrix.sum()))
        macro_f1s.append(macro_f1(matrix))
    return accuracies, macro_f1s
