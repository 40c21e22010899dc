"""Evaluation of the model on labelled hips: by data set, hip, patient and sub-group.

Hips without an answer are excluded from the main results and counted as errors in the
intention-to-diagnose results. Every estimate has all its intervals; tables show one of them, JSON
and CSV files all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hipedge.errors import InputError
from hipedge.rules.operating_points import OperatingPoint
from hipedge.study.auc import roc_curve
from hipedge.study.calibration import Reliability, reliability
from hipedge.study.cases import Cases
from hipedge.study.comparisons import p_text
from hipedge.study.estimates import (
    CATEGORY_LABELS,
    PERCENT,
    PLAIN,
    POINTS,
    QUESTIONS,
    Cell,
    Estimate,
    Table,
)
from hipedge.study.estimator import (
    SCORE_METRICS,
    Estimates,
    Estimator,
    K,
    score_questions,
)
from hipedge.study.evaluation_tables import (
    category_error_table,
    category_table,
    confusion_table,
    disagreements_table,
    flow_table,
    group_tables,
    operating_tables,
    overall_table,
    patient_table,
    question_table,
    reliability_tables,
)
from hipedge.study.flag_rates import flag_rate_tables
from hipedge.study.metrics import OVERALL
from hipedge.study.resampling import (
    REPLICATES,
    SEED,
    Array,
    bootstrap_p_value,
    percentile_interval,
)


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation.

    `prevalence` is by category or question, named as in the tables. `flag_hardware` is the site's
    setting of that name: implants are flagged too.
    """

    replicates: int = REPLICATES
    seed: int = SEED
    prevalence: Mapping[str, float] = field(default_factory=dict)
    operating_points: tuple[OperatingPoint, ...] = ()
    flag_hardware: bool = False


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The ROC curve of a question: false and true positive rates (T,), and the AUC."""

    name: str
    false: Array
    true: Array
    auc: Estimate


@dataclass(frozen=True, eq=False)
class DataSet:
    """The results on one data set.

    `confusion` is (K, K + 1), with the hips without an answer in the last column. `as_errors` are
    the overall metrics with those hips counted as errors. `replicates` (R,) are by overall metric.
    """

    name: str
    cases: Cases
    confusion: Array
    overall: Mapping[str, Estimate]
    as_errors: Mapping[str, Estimate]
    questions: Mapping[str, Mapping[str, Estimate]]
    tables: tuple[Table, ...]
    rocs: tuple[RocCurve, ...]
    reliability: Reliability | None
    replicates: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results on all data sets, and the differences of the others from the first."""

    settings: EvaluationSettings
    data_sets: tuple[DataSet, ...]
    differences: Table | None


def evaluate(data_sets: Mapping[str, Cases], settings: EvaluationSettings) -> Evaluation:
    """Evaluate each data set, then compare the others with the first.

    Raises `InputError` if a data set has no hip with an answer, if thresholds are given and it has
    no hip with probabilities, or if a prevalence names neither a category nor a question.
    """
    known = (*CATEGORY_LABELS, *QUESTIONS)
    unknown = [name for name in settings.prevalence if name not in known]
    if unknown:
        raise InputError(f"no category or question is called {', '.join(unknown)}: {known}")
    results = tuple(
        # Data sets are independent samples, so each has its own random numbers.
        _evaluate_data_set(name, cases, settings, settings.seed + index)
        for index, (name, cases) in enumerate(data_sets.items())
    )
    return Evaluation(settings, results, _differences(results) if len(results) > 1 else None)


def _evaluate_data_set(name: str, cases: Cases, settings: EvaluationSettings, seed: int) -> DataSet:
    answered = cases.select(cases.answered)
    if not len(answered):
        raise InputError(f"data set {name}: no labelled hip has an answer")
    if settings.operating_points and not cases.scored.any():
        raise InputError(f"data set {name}: no hip has the probabilities that thresholds are for")
    estimator = Estimator(settings.replicates, seed, settings.prevalence)
    categories, confusion = estimator.categories(answered)
    as_errors, _ = estimator.categories(cases)
    scored = cases.select(cases.scored)
    curve = _reliability(scored)
    scores, of_questions, score_bootstrap = estimator.scores(scored)
    questions = {
        question: estimator.question(answered, question, positive) | of_questions.get(question, {})
        for question, positive in QUESTIONS.items()
    }
    overall = {metric: categories[metric, None] for metric in OVERALL} | {
        metric: scores[metric, None] for metric in SCORE_METRICS if (metric, None) in scores
    }
    errors = {metric: as_errors[metric, None] for metric in OVERALL}
    replicates = {metric: confusion.replicates(metric) for metric in OVERALL}
    if score_bootstrap is not None:
        replicates |= {m: score_bootstrap.replicates[:, i] for i, m in enumerate(SCORE_METRICS)}
    return DataSet(
        name,
        cases,
        confusion=_confusion(cases),
        overall=overall,
        as_errors=errors,
        questions=questions,
        tables=(
            flow_table(cases),
            overall_table(overall, errors),
            category_table(categories, scores, settings.prevalence),
            question_table(questions, settings.prevalence),
            patient_table(cases, estimator),
            *flag_rate_tables(
                cases, settings.operating_points, flag_hardware=settings.flag_hardware
            ),
            *operating_tables(cases, settings.operating_points, settings.flag_hardware, estimator),
            *group_tables(cases, estimator),
            category_error_table(as_errors),
            confusion_table(_confusion(cases)),
            *reliability_tables(curve),
            disagreements_table(cases),
        ),
        rocs=_rocs(scored, scores, of_questions),
        reliability=curve,
        replicates=replicates,
    )


def _confusion(cases: Cases) -> Array:
    matrix = np.zeros((K, K + 1))
    np.add.at(matrix, (cases.truth, np.where(cases.answered, cases.answer, K)), 1)
    return matrix


def _reliability(scored: Cases) -> Reliability | None:
    if not len(scored):
        return None
    top = scored.probabilities.argmax(axis=1)
    return reliability(scored.probabilities.max(axis=1), top == scored.truth)


def _rocs(
    scored: Cases, scores: Estimates, of_questions: Mapping[str, Mapping[str, Estimate]]
) -> tuple[RocCurve, ...]:
    if not len(scored):
        return ()
    curves = []
    for q, (name, score, positive) in enumerate(score_questions(scored)):
        area = scores["AUC", q] if q < K else of_questions[name]["AUC"]
        if area.defined:
            curves.append(RocCurve(name, *roc_curve(score, positive), area))
    return tuple(curves)


def _differences(results: tuple[DataSet, ...]) -> Table:
    first, *others = results
    rows: list[tuple[Cell, ...]] = []
    for other in others:
        for metric, value in other.overall.items():
            if metric not in first.overall:
                continue
            replicates = other.replicates[metric] - first.replicates[metric]
            difference = Estimate(
                value.value - first.overall[metric].value,
                {"percentile": percentile_interval(replicates)},
                unit=POINTS if value.unit == PERCENT else PLAIN,
            )
            rows.append(
                (f"{other.name} less {first.name}", metric, first.overall[metric], value,
                 difference, p_text(bootstrap_p_value(replicates)))
            )  # fmt: skip
    return Table(
        "differences",
        "Differences",
        ("comparison", "metric", "first", "second", "difference", "p"),
        tuple(rows),
        "The data sets are taken to be independent samples: no patient may be in two of them.",
    )
