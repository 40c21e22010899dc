"""Model against readers, and readers assisted against alone, with what they have in common kept.

Every replicate of the bootstrap draws patients once, for the model and for all readers in both
phases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hipedge.study.comparisons import NonInferiority, holm, mcnemar_exact, non_inferiority, p_text
from hipedge.study.estimates import POINTS, Cell, Estimate, Table
from hipedge.study.estimator import K
from hipedge.study.metrics import mean_of_defined, ratio
from hipedge.study.reads import ReaderStudy
from hipedge.study.resampling import (
    Array,
    bootstrap,
    bootstrap_p_value,
    percentile_interval,
)

COMPARED = ("accuracy", "macro F1")


class Paired:
    """Accuracy and macro-F1 of model and readers, with joint replicates."""

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

        self._drawn = bootstrap(
            statistic,
            np.ones(units.size, dtype=np.int64),
            replicates=replicates,
            seed=seed,
        )

    def model(self, metric: str) -> tuple[float, Array]:
        """Return the model's value and its replicates (R,)."""
        return self._column(COMPARED.index(metric))

    def readers(self, metric: str, chosen: list[int], phase: int) -> tuple[float, Array]:
        """Return the mean of the chosen readers in a phase, and its replicates."""
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
        return float(self._drawn.values[column]), self._drawn.replicates[:, column]


def count_cells(
    truth: NDArray[np.integer], answer: NDArray[np.integer], unit: NDArray[np.int64], n_units: int
) -> Array:
    """Count each unit's hips per cell of the (K, K) confusion matrix: (U, K K)."""
    counts = np.zeros((n_units, K * K))
    np.add.at(counts, (unit, truth.astype(np.int64) * K + answer), 1)
    return counts


def _accuracy_and_f1(matrices: Array) -> Array:
    """Return accuracy and macro-F1 (B, C, 2) of the matrices (B, C, K, K) of C raters."""
    right = np.diagonal(matrices, axis1=2, axis2=3)
    f1 = ratio(2 * right, matrices.sum(axis=2) + matrices.sum(axis=3))
    macro = mean_of_defined(f1.reshape(-1, K)).reshape(f1.shape[:2])
    return np.stack([ratio(right.sum(axis=2), matrices.sum(axis=(2, 3))), macro], axis=2)


def groups_of(study: ReaderStudy) -> dict[str, list[int]]:
    """Name the groups of readers: each grade with the readers in it, then all."""
    groups = {
        grade: [r for r, of in enumerate(study.grades) if of == grade]
        for grade in dict.fromkeys(study.grades)
    }
    return groups | {"all readers": list(range(len(study.readers)))}


def paired_difference(
    first: tuple[float, Array], second: tuple[float, Array]
) -> tuple[Estimate, float]:
    """Return first less second with its percentile interval, and the p-value."""
    draws = first[1] - second[1]
    interval = percentile_interval(draws)
    return Estimate(first[0] - second[0], {"percentile": interval}, unit=POINTS), bootstrap_p_value(
        draws
    )


Comparison = tuple[tuple[Cell, ...], Estimate, float, tuple[Cell, ...]]


def _comparison_rows(
    compared: Sequence[Comparison],
) -> tuple[tuple[Cell, ...], ...]:
    """Lay out comparisons as head, difference, p, Holm's p, tail: Holm over all of a table."""
    adjusted = holm(np.array([p for _, _, p, _ in compared]))
    return tuple(
        (*head, difference, p_text(p), p_text(float(q)), *tail)
        for (head, difference, p, tail), q in zip(compared, adjusted, strict=True)
    )


def against_readers(paired: Paired) -> Table:
    """Compare the model with each reader in each phase; McNemar too where hips are independent."""
    study = paired.study
    independent = not study.cases.clustered
    compared = []
    for r, reader in enumerate(study.readers):
        for p, phase in enumerate(study.phases):
            for metric in COMPARED:
                model, other = paired.model(metric), paired.readers(metric, [r], p)
                difference, p_value = paired_difference(model, other)
                exact = mcnemar_exact(study.model_right, study.right[r, p])
                shown = p_text(exact) if independent and metric == "accuracy" else None
                head = (reader, phase, metric, Estimate(model[0]), Estimate(other[0]))
                compared.append((head, difference, p_value, (shown,)))
    return Table(
        "model-less-readers",
        "Model less each reader",
        ("reader", "phase", "metric", "model", "of the reader", "difference", "p", "p (Holm)",
         "p (McNemar, exact)"),
        _comparison_rows(compared),
        "Paired bootstrap by patient."
        + ("" if independent else " McNemar's test is left out: some patients have several hips."),
    )  # fmt: skip


def against_grades(paired: Paired) -> Table:
    """Compare the model with the mean of each grade's readers, and of all."""
    compared = []
    for name, chosen in groups_of(paired.study).items():
        for p, phase in enumerate(paired.study.phases):
            for metric in COMPARED:
                model, others = paired.model(metric), paired.readers(metric, chosen, p)
                difference, p_value = paired_difference(model, others)
                head = (name, len(chosen), phase, metric, Estimate(model[0]), Estimate(others[0]))
                compared.append((head, difference, p_value, ()))
    return Table(
        "model-less-grades",
        "Model less the mean of each grade",
        ("grade", "readers", "phase", "metric", "model", "of the grade", "difference", "p",
         "p (Holm)"),
        _comparison_rows(compared),
        "The readers of this study are taken as they are; cases are drawn.",
    )  # fmt: skip


def judge_non_inferiority(
    paired: Paired, margin: float
) -> tuple[tuple[str, str, NonInferiority], ...]:
    """Judge the model against each reader and each group of readers reading alone."""
    study = paired.study
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    verdicts = []
    for name, chosen in (singles | groups_of(study)).items():
        for metric in COMPARED:
            value, draws = paired.model(metric)
            other, other_draws = paired.readers(metric, chosen, 0)
            verdicts.append(
                (name, metric, non_inferiority(value - other, draws - other_draws, margin=margin))
            )
    return tuple(verdicts)


def verdicts_table(verdicts: tuple[tuple[str, str, NonInferiority], ...], margin: float) -> Table:
    """Lay out difference, interval, margin and verdict."""
    return Table(
        "non-inferiority",
        "Is the model non-inferior?",
        ("against", "metric", "difference", "margin", "p (one-sided)", "verdict"),
        tuple(
            (name, metric, Estimate(v.difference, {"percentile": v.interval}, unit=POINTS),
             Estimate(-v.margin, unit=POINTS), p_text(v.p_value), v.verdict)
            for name, metric, v in verdicts
        ),
        f"Non-inferior where the interval lies above −{100 * margin:g} points: a one-sided test "
        "at 2.5 %. Superior where it lies above 0. Not adjusted for the number of comparisons.",
    )  # fmt: skip


def assistance(paired: Paired) -> Table:
    """Compare each reader, and each grade, assisted with alone."""
    study = paired.study
    independent = not study.cases.clustered
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    compared = []
    for name, chosen in (singles | groups_of(study)).items():
        for metric in COMPARED:
            alone, assisted = (paired.readers(metric, chosen, p) for p in (0, 1))
            difference, p_value = paired_difference(assisted, alone)
            exact = None
            if independent and metric == "accuracy" and name in singles:
                r = chosen[0]
                exact = p_text(mcnemar_exact(study.right[r, 1], study.right[r, 0]))
            head = (name, metric, Estimate(alone[0]), Estimate(assisted[0]))
            compared.append((head, difference, p_value, (exact,)))
    return Table(
        "assistance",
        "Gain from assistance",
        ("reader or grade", "metric", "alone", "assisted", "gain", "p", "p (Holm)",
         "p (McNemar, exact)"),
        _comparison_rows(compared),
        "Assisted less alone; paired bootstrap by patient.",
    )  # fmt: skip
