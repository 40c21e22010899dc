"""Model against readers, and readers assisted against alone, with what they have in common kept.

Every replicate of the bootstrap draws patients once, for the model and for all readers in both
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


@dataclass(frozen=True)
class _Comparison:
    """A row of a table of comparisons: what is compared, by how much, and the tests.

    `discordant` are two raters' right answers (N,) for McNemar's test, where there are two.
    """

    head: tuple[Cell, ...]
    difference: Estimate
    p_value: float
    discordant: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None


def _comparison_table(
    key: str,
    title: str,
    columns: tuple[str, ...],
    compared: Sequence[_Comparison],
    note: str,
    *,
    exact: bool = False,
) -> Table:
    """Lay out comparisons, Holm's correction over all of them; `exact` adds McNemar's test."""
    adjusted = holm(np.array([one.p_value for one in compared]))
    rows: list[tuple[Cell, ...]] = []
    for one, q in zip(compared, adjusted, strict=True):
        mcnemar = p_text(mcnemar_exact(*one.discordant)) if one.discordant else None
        tail = (mcnemar,) if exact else ()
        rows.append((*one.head, one.difference, p_text(one.p_value), p_text(float(q)), *tail))
    tests = ("p", "p (Holm)", *(("p (McNemar, exact)",) if exact else ()))
    return Table(key, title, (*columns, *tests), tuple(rows), note)


def against_readers(paired: Paired) -> Table:
    """Compare the model with each reader in each phase; McNemar too where hips are independent."""
    study, compared = paired.study, []
    for r, reader in enumerate(study.readers):
        for p, phase in enumerate(study.phases):
            for metric in COMPARED:
                model, other = paired.model(metric), paired.readers(metric, [r], p)
                head = (reader, phase, metric, Estimate(model[0]), Estimate(other[0]))
                right = (study.model_right, study.right[r, p]) if metric == "accuracy" else None
                compared.append(_Comparison(head, *paired_difference(model, other), right))
    clustered = study.cases.clustered
    return _comparison_table(
        "model-less-readers",
        "Model less each reader",
        ("reader", "phase", "metric", "model", "of the reader", "difference"),
        compared,
        "Paired bootstrap by patient."
        + (" McNemar's test is left out: some patients have several hips." if clustered else ""),
        exact=not clustered,
    )


def against_grades(paired: Paired) -> Table:
    """Compare the model with the mean of each grade's readers, and of all."""
    compared = []
    for name, chosen in groups_of(paired.study).items():
        for p, phase in enumerate(paired.study.phases):
            for metric in COMPARED:
                model, others = paired.model(metric), paired.readers(metric, chosen, p)
                head = (name, len(chosen), phase, metric, Estimate(model[0]), Estimate(others[0]))
                compared.append(_Comparison(head, *paired_difference(model, others)))
    return _comparison_table(
        "model-less-grades",
        "Model less the mean of each grade",
        ("grade", "readers", "phase", "metric", "model", "of the grade", "difference"),
        compared,
        "The readers of this study are taken as they are; cases are drawn.",
    )


def judge_non_inferiority(
    paired: Paired, margin: float
) -> tuple[tuple[str, str, NonInferiority], ...]:
    """Judge the model against each reader and each group of readers reading alone, if they did.

    Accuracy against a single reader by Tango's interval where every hip is another patient's,
    everything else by the bootstrap.
    """
    study = paired.study
    if "alone" not in study.phases:
        return ()
    phase = study.phases.index("alone")
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    verdicts = []
    for name, chosen in (singles | groups_of(study)).items():
        for metric in COMPARED:
            if metric == "accuracy" and name in singles and not study.cases.clustered:
                alone = study.right[chosen[0], phase]
                verdict = paired_non_inferiority(study.model_right, alone, margin=margin)
            else:
                value, draws = paired.model(metric)
                other, other_draws = paired.readers(metric, chosen, phase)
                verdict = non_inferiority(value - other, draws - other_draws, margin=margin)
            verdicts.append((name, metric, verdict))
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
    study, compared = paired.study, []
    singles = {reader: [r] for r, reader in enumerate(study.readers)}
    for name, chosen in (singles | groups_of(study)).items():
        for metric in COMPARED:
            alone, assisted = (paired.readers(metric, chosen, p) for p in (0, 1))
            head = (name, metric, Estimate(alone[0]), Estimate(assisted[0]))
            single = metric == "accuracy" and name in singles
            right = (study.right[chosen[0], 1], study.right[chosen[0], 0]) if single else None
            compared.append(_Comparison(head, *paired_difference(assisted, alone), right))
    return _comparison_table(
        "assistance",
        "Gain from assistance",
        ("reader or grade", "metric", "alone", "assisted", "gain"),
        compared,
        "Assisted less alone; paired bootstrap by patient.",
        exact=not study.cases.clustered,
    )
