"""Analysis of a reader study: each reader, the model against readers, assisted against alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.study.comparisons import MARGIN, NonInferiority
from hipedge.study.estimates import CATEGORY_LABELS, QUESTIONS, Cell, Table
from hipedge.study.estimator import Estimates, Estimator, K, binary_answers
from hipedge.study.mrmc import ObuchowskiRockette
from hipedge.study.paired import (
    PairedBootstrap,
    assess_non_inferiority,
    assistance_table,
    model_versus_grades,
    model_versus_readers,
    verdicts_table,
)
from hipedge.study.reader_agreement import Agreement
from hipedge.study.reader_behaviour import automation_bias_table, reading_time_tables
from hipedge.study.reader_mrmc import multi_reader, multi_reader_tables
from hipedge.study.reader_study import ReaderStudy
from hipedge.study.resampling import REPLICATES, SEED, Array

MODEL = "model"


@dataclass(frozen=True)
class ReaderSettings:
    """Settings of the analysis. `margin` is the non-inferiority margin, as a proportion."""

    replicates: int = REPLICATES
    seed: int = SEED
    margin: float = MARGIN


@dataclass(frozen=True, eq=False)
class ReaderResults:
    """The results of a reader study.

    `raters` are the model and the readers in each phase: name, grade, phase and metrics.
    `non_inferiority` compares the model with readers alone, and is empty without that phase.
    `kappas` (P, R, R) are pairwise, NaN on the diagonal.
    """

    study: ReaderStudy
    settings: ReaderSettings
    raters: tuple[tuple[str, str, str, Estimates], ...]
    non_inferiority: tuple[tuple[str, str, NonInferiority], ...]
    kappas: Array
    multi_reader: dict[str, ObuchowskiRockette]
    tables: tuple[Table, ...]


def analyse_readers(study: ReaderStudy, settings: ReaderSettings) -> ReaderResults:
    """Analyse a reader study. Raises `InputError` for a study with fewer than two readers."""
    if len(study.readers) < 2:
        raise InputError("a reader study needs at least two readers")
    bootstrap = {"replicates": settings.replicates, "seed": settings.seed}
    paired, agreement = PairedBootstrap(study, **bootstrap), Agreement(study, **bootstrap)
    raters = _raters(study, settings)
    verdicts = assess_non_inferiority(paired, settings.margin)
    both_phases = len(study.phases) == 2
    analysed = multi_reader(study) if both_phases else {}
    tables = [
        _flow_table(study),
        _rater_table(raters),
        _sensitivity_table(raters),
        model_versus_readers(paired),
        model_versus_grades(paired),
        *([verdicts_table(verdicts, settings.margin)] if verdicts else []),
        agreement.table(),
        agreement.pair_table(),
    ]
    if both_phases:
        tables += [
            assistance_table(paired),
            *reading_time_tables(study, **bootstrap),
            automation_bias_table(study),
        ]
        tables += multi_reader_tables(analysed)
    return ReaderResults(
        study, settings, raters, verdicts, agreement.matrices(), analysed, tuple(tables)
    )


def _raters(
    study: ReaderStudy, settings: ReaderSettings
) -> tuple[tuple[str, str, str, Estimates], ...]:
    """Estimate the metrics of each rater: (name, grade, phase, estimates)."""
    estimator = Estimator(settings.replicates, settings.seed, {})
    cases = study.cases

    def estimates(answer: NDArray[np.int8]) -> Estimates:
        found, _ = estimator.confusion(cases.truth, answer, cases.patients, K)
        for name, positive in QUESTIONS.items():
            of_question = estimator.binary(
                np.asarray(positive)[cases.truth], binary_answers(answer, positive), cases.patients
            )
            found |= {(f"{name}: {m}", None): value for m, value in of_question.items()}
        return found

    return (
        (MODEL, "", "", estimates(cases.answer)),
        *(
            (name, study.grades[r], phase, estimates(study.answers[r, p]))
            for p, phase in enumerate(study.phases)
            for r, name in enumerate(study.readers)
        ),
    )


def _flow_table(study: ReaderStudy) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("readers", len(study.readers)),
        ("phases", ", ".join(study.phases)),
        ("hips", len(study.cases)),
        ("patients", int(np.unique(study.cases.patients).size)),
        *((f"excluded: {why}", n) for why, n in study.excluded.items()),
    ]
    if study.confidence is None:
        rows.append(("confidence", "not recorded for every read: no AUC of readers"))
    return Table("reader-flow", "Readers and cases in the analysis", ("", "number"), tuple(rows))


_RATER_METRICS = (
    ("accuracy", None),
    ("balanced accuracy", None),
    ("macro F1", None),
    ("any acute fracture: sensitivity", None),
    ("any acute fracture: specificity", None),
    ("any abnormality: sensitivity", None),
    ("any abnormality: specificity", None),
)


def _rater_table(raters: tuple[tuple[str, str, str, Estimates], ...]) -> Table:
    return Table(
        "raters",
        "Model and readers",
        ("reader", "grade", "phase", *(name for name, _ in _RATER_METRICS)),
        tuple((*who, *(found[key] for key in _RATER_METRICS)) for *who, found in raters),
    )


def _sensitivity_table(raters: tuple[tuple[str, str, str, Estimates], ...]) -> Table:
    return Table(
        "rater-sensitivity",
        "Sensitivity by category",
        ("reader", "grade", "phase", *CATEGORY_LABELS),
        tuple((*who, *(found["sensitivity", k] for k in range(K))) for *who, found in raters),
    )
