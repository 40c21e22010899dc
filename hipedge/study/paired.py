"""Paired comparisons: the model with readers, and readers assisted with alone.

Each replicate of the bootstrap draws the same patients for the model and for all readers in both
phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.study.comparisons import (
    NonInferiority,
    holm,
    mcnemar_exact,
    non_inferiority,
    p_text,
    paired_non_inferiority,
)
from hipedge.study.estimates import POINTS, Cell, Estimate, Table
from hipedge.study.estimator import K
from hipedge.study.metrics import mean_of_defined, ratio
from hipedge.study.reader_study import ReaderStudy
from hipedge.study.resampling import (
    Array,
    bootstrap,
    bootstrap_p_value,
    percentile_interval,
)

COMPARED = ("accuracy", "macro F1")


class PairedBootstrap:
    """Accuracy and macro-F1 of model and readers, with joint bootstrap replicates."""

    def __init__(self, study: ReaderStudy, *, replicates: int, seed: int) -> None:
        self.study = study
        truth, patients = study.cases.truth, study.cases.patients
        columns = [study.cases.answer, *study.answers.reshape(-1, len(truth))]
        units, unit = np.unique(patients, return_inverse=True)
        counts = np.stack([count_cells(truth, answer, unit, units.size) for answer in columns])
        flat = counts.transpose(1, 0, 2).reshape(units.size, -1)

        def statistic(weights: Array) -> Array:
            matrices = (weights @ flat).reshape(len(weights), len(columns), K, K)
            return _accuracy_and_f1(matrices).reshape(len(weights), -1)

        self._bootstrap = bootstrap(
            statistic,
            np.ones(units.size, dtype=np.int64),
            replicates=replicates,
            seed=seed,
        )

    def model(self, metric: str) -> tuple[float, Array]:
        """Return the model's value and its replicates (R,)."""
        return self._column(COMPARED.index(metric))

    def readers(self, metric: str, chosen: list[int], phase: int) -> tuple[float, Array]:
        """Return the mean of the chosen readers in a phase, and its replicates (R,)."""
        n_phases = len(self.study.phases)
        columns = [
            self._column((1 + r * n_phases + phase) * len(COMPARED) + COMPARED.index(metric))
            for r in chosen
        ]
        return (
            float(np.mean([value for value, _ in columns])),
            np.mean([replicates for _, replicates in columns], axis=0),
        )

    def _column(self, column: int) -> tuple[float, Array]:
        return float(self._bootstrap.values[column]), self._bootstrap.replicates[:, column]


def count_cells(
    truth: NDArray[np.integer], answer: NDArray[np.integer], unit: NDArray[np.int64], n_units: int
) -> Array:
    """Return the confusion matrix of each unit, flattened: (U, K K)."""
    counts = np.zeros((n_units, K * K))
    np.add.at(counts, (unit, truth.astype(np.int64) * K + answer), 1)
    return counts


def _accuracy_and_f1(matrices: Array) -> Array:
    """Return accuracy and macro-F1 (B, C, 2) of the matrices (B, C, K, K) of C raters."""
    correct = np.diagonal(matrices, axis1=2, axis2=3)
    f1 = ratio(2 * correct, matrices.sum(axis=2) + matrices.sum(axis=3))
    macro = mean_of_defined(f1.reshape(-1, K)).reshape(f1.shape[:2])
    return np.stack([ratio(correct.sum(axis=2), matrices.sum(axis=(2, 3))), macro], axis=2)


def reader_groups(study: ReaderStudy) -> dict[str, list[int]]:
    """Return the indices of the readers of each grade, and of all readers, by name."""
    groups = {
        grade: [r for r, of in enumerate(study.grades) if of == grade]
        for grade in dict.fromkeys(study.grades)
    }
    return groups | {"all readers": list(range(len(study.readers)))}


def paired_difference(
    first: tuple[float, Array], second: tuple[float, Array]
) -> tuple[Estimate, float]:
    """Return first less second with its percentile interval, and the p-value.

    `first` and `second` are values with their joint replicates (R,).
    """
    replicates = first[1] - second[1]
    interval = percentile_interval(replicates)
    difference = Estimate(first[0] - second[0], {"percentile": interval}, unit=POINTS)
    return difference, bootstrap_p_value(replicates)


@dataclass(frozen=True)
class _Comparison:
    """A row of a table of comparisons: its first cells, the difference and the p-value.

    `correct` says which answers (N,) of the two raters are correct, for McNemar's test; `None` if
    more than two raters are comparisons, or another metric than accuracy.
    """

    head: tuple[Cell, ...]
    difference: Estimate
    p_value: float
    correct: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None


def _comparison_table(
    key: str,
    title: str,
    columns: tuple[str, ...],
    comparisons: Sequence[_Comparison],
    note: str,
    *,
    exact: bool = False,
) -> Table:
    """Make a table with Holm's correction over all rows; `exact` adds McNemar's test."""
    adjusted = holm(np.array([comparison.p_value for comparison in comparisons]))
    rows: list[tuple[Cell, ...]] = []
    for comparison, adjusted_p in zip(comparisons, adjusted, strict=True):
        correct = comparison.correct
        mcnemar = (p_text(mcnemar_exact(*correct)) if correct else None,) if exact else ()
        p_values = p_text(comparison.p_value), p_text(float(adjusted_p))
        rows.append((*comparison.head, comparison.difference, *p_values, *mcnemar))
    tests = ("p", "p (Holm)", *(("p (McNemar, exact)",) if exact else ()))
    return Table(key, title, (*columns, *tests), tuple(rows), note)


def model_versus_readers(paired: PairedBootstrap) -> Table:
    """Compare the model with each reader in each phase.

    McNemar's test is added if hips are independent.
    """
    study, comparisons = paired.study, []
    for r, reader in enumerate(study.readers):
        for p, phase in enumerate(study.phases):
            for metric in COMPARED:
                model, other = paired.model(metric), paired.readers(metric, [r], p)
                head = (reader, phase, metric, Estimate(model[0]), Estimate(other[0]))
                correct = (
                    (study.model_correct, study.correct[r, p]) if metric == "accuracy" else None
                )
                comparisons.append(_Comparison(head, *paired_difference(model, other), correct))
    clustered = study.cases.clustered
    return _comparison_table(
        "model-less-readers",
        "Model less each reader",
        ("reader", "phase", "metric", "model", "reader's", "difference"),
        comparisons,
        "Paired bootstrap by patient."
        + (" McNemar's test is omitted: some patients have several hips." if clustered else ""),
        exact=not clustered,
    )


def model_versus_grades(paired: PairedBootstrap) -> Table:
    """Compare the model with the mean of the readers of each grade, and of all readers."""
    comparisons = []
    for name, chosen in reader_groups(paired.study).items():
        for p, phase in enumerate(paired.study.phases):
            for metric in COMPARED:
                model, others = paired.model(metric), paired.readers(metric, chosen, p)
                head = (name, len(chosen), phase, metric, Estimate(model[0]), Estimate(others[0]))
                comparisons.append(_Comparison(head, *paired_difference(model, others)))
    return _comparison_table(
        "model-less-grades",
        "Model less the mean of each grade",
        ("grade", "readers", "phase", "metric", "model", "grade's mean", "difference"),
        comparisons,
        "Readers are fixed; cases are resampled.",
    )


def assess_non_inferiority(
    paired: PairedBootstrap, margin: float
) -> tuple[tuple[str, str, NonInferiority], ...]:
    """Test the model for non-inferiority to each reader and group of readers, reading alone.

    Returns (reader or group, metric, result); nothing without the phase "alone". Accuracy against
    a single reader is tested by Tango's interval if hips are independent, otherwise the paired
    bootstrap is used.
    """
    study = paired.study
    if "alone" not in study.phases:
        return ()
    phase = study.phases.index("alone")
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    results = []
    for name, chosen in (singles | reader_groups(study)).items():
        for metric in COMPARED:
            if metric == "accuracy" and name in singles and not study.cases.clustered:
                alone = study.correct[chosen[0], phase]
                result = paired_non_inferiority(study.model_correct, alone, margin=margin)
            else:
                value, replicates = paired.model(metric)
                other, other_replicates = paired.readers(metric, chosen, phase)
                result = non_inferiority(
                    value - other, replicates - other_replicates, margin=margin
                )
            results.append((name, metric, result))
    return tuple(results)


def verdicts_table(verdicts: tuple[tuple[str, str, NonInferiority], ...], margin: float) -> Table:
    """Report difference, interval, margin and conclusion of each test."""
    return Table(
        "non-inferiority",
        "Non-inferiority of the model",
        ("against", "metric", "difference", "margin", "p (one-sided)", "verdict"),
        tuple(
            (name, metric, Estimate(v.difference, {"percentile": v.interval}, unit=POINTS),
             Estimate(-v.margin, unit=POINTS), p_text(v.p_value), v.verdict)
            for name, metric, v in verdicts
        ),
        f"Non-inferior where the interval lies above −{100 * margin:g} points: a one-sided test "
        "at 2.5 %. Superior where it lies above 0. Not adjusted for the number of comparisons.",
    )  # fmt: skip


def assistance_table(paired: PairedBootstrap) -> Table:
    """Compare each reader and each group of readers, assisted with alone."""
    study, comparisons = paired.study, []
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    for name, chosen in (singles | reader_groups(study)).items():
        for metric in COMPARED:
            alone, assisted = (paired.readers(metric, chosen, p) for p in (0, 1))
            head = (name, metric, Estimate(alone[0]), Estimate(assisted[0]))
            single = metric == "accuracy" and name in singles
            correct = (study.correct[chosen[0], 1], study.correct[chosen[0], 0]) if single else None
            comparisons.append(_Comparison(head, *paired_difference(assisted, alone), correct))
    return _comparison_table(
        "assistance",
        "Gain from assistance",
        ("reader or grade", "metric", "alone", "assisted", "gain"),
        comparisons,
        "Assisted less alone; paired bootstrap by patient.",
        exact=not study.cases.clustered,
    )
