"""The tables of an evaluation of one data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from hipedge.rules.operating_points import OperatingPoint
from hipedge.study.calibration import Reliability
from hipedge.study.cases import Cases
from hipedge.study.estimates import (
    ABNORMAL_BUT_HARDWARE,
    CATEGORY_LABELS,
    QUESTIONS,
    Cell,
    Estimate,
    Table,
)
from hipedge.study.estimator import Estimates, Estimator, K, binary_answers
from hipedge.study.intervals import clustered_wilson
from hipedge.study.metrics import AT_PREVALENCE, BINARY, OVERALL, PER_CATEGORY
from hipedge.study.resampling import Array
from hipedge.types import CATEGORIES


def flow_table(cases: Cases) -> Table:
    """Report the number of hips: labelled, answered, and not answered by reason."""
    rows: list[tuple[Cell, ...]] = [
        ("labelled hips", len(cases)),
        ("patients", int(np.unique(cases.patients).size)),
        ("hips with an answer", int(cases.answered.sum())),
        ("hips with probabilities", int(cases.scored.sum())),
    ]
    reasons = Counter(cases.reasons.values())
    rows += [(f"no answer: {why.replace('_', ' ')}", n) for why, n in reasons.most_common()]
    rows.append(("predictions without a label, excluded", cases.unlabelled))
    return Table("flow", "Cases in the analysis", ("", "number"), tuple(rows))


def overall_table(overall: Mapping[str, Estimate], errors: Mapping[str, Estimate]) -> Table:
    """Report the overall metrics of the answered hips, and with unanswered hips as errors."""
    return Table(
        "overall",
        "Overall",
        ("metric", "of the hips with an answer", "no answer counted as an error"),
        tuple((metric, value, errors.get(metric)) for metric, value in overall.items()),
        "Macro averages run over the categories for which the metric is defined. The Brier score "
        "is over all categories (0 to 2, lower is better); ECE is over 15 bins of the top "
        "probability (lower is better).",
    )


def category_table(
    categories: Estimates, scores: Estimates, prevalence: Mapping[str, float]
) -> Table:
    """Report the metrics of each category against the rest."""
    at_prevalence = AT_PREVALENCE if any(x in prevalence for x in CATEGORY_LABELS) else ()
    metrics = (*PER_CATEGORY, *at_prevalence, "AUC", "average precision")
    rows = [
        (
            label,
            categories["sensitivity", k].n,
            *((categories | scores).get((m, k)) for m in metrics),
        )
        for k, label in enumerate(CATEGORY_LABELS)
    ]
    stated = ", ".join(f"{x} {p:.1%}" for x, p in prevalence.items() if x in CATEGORY_LABELS)
    return Table(
        "categories",
        "Each category against the rest",
        ("category", "hips", *metrics),
        tuple(rows),
        f"Stated prevalence: {stated}." if at_prevalence else "",
    )


def category_error_table(as_errors: Estimates) -> Table:
    """Report each category with unanswered hips counted as errors."""
    return Table(
        "categories-intention-to-diagnose",
        "Each category, no answer counted as an error",
        ("category", "hips", *PER_CATEGORY),
        tuple(
            (label, as_errors["sensitivity", k].n, *(as_errors[m, k] for m in PER_CATEGORY))
            for k, label in enumerate(CATEGORY_LABELS)
        ),
    )


def question_table(
    questions: Mapping[str, Mapping[str, Estimate]], prevalence: Mapping[str, float]
) -> Table:
    """Report the binary questions per hip."""
    at_prevalence = AT_PREVALENCE if any(x in prevalence for x in QUESTIONS) else ()
    metrics = (*PER_CATEGORY, *at_prevalence, "AUC", "average precision")
    stated = ", ".join(f"{x} {p:.1%}" for x, p in prevalence.items() if x in QUESTIONS)
    return Table(
        "questions",
        "The binary questions, per hip",
        ("question", "hips with it", *metrics),
        tuple(
            (name, found["sensitivity"].n, *(found.get(m) for m in metrics))
            for name, found in questions.items()
        ),
        f"Stated prevalence: {stated}." if at_prevalence else "",
    )


def patient_table(cases: Cases, estimator: Estimator) -> Table:
    """Report metrics per patient, who is positive if any hip is, in truth and in the answers.

    A patient with an unanswered hip and no positive one has no answer, which counts as an error.
    """
    _, patient = np.unique(cases.patients, return_inverse=True)
    n = int(patient.max()) + 1
    unanswered = np.bincount(patient, ~cases.answered, n) > 0
    units = np.arange(n)
    all_correct = np.bincount(patient, cases.truth != cases.answer, n) == 0
    questions = {
        label: tuple(j == k for j in range(K)) for k, label in enumerate(CATEGORY_LABELS) if k
    } | dict(QUESTIONS)
    every_hip = Estimate(
        float(all_correct.mean()), {"wilson": clustered_wilson(all_correct, units)}, n
    )
    rows: list[tuple[Cell, ...]] = [("every hip right", n, every_hip, *[None] * 4)]
    for name, positive in questions.items():
        positive_truth = np.bincount(patient, np.asarray(positive)[cases.truth], n) > 0
        positive_answer = np.bincount(patient, binary_answers(cases.answer, positive) == 1, n) > 0
        call = np.where(positive_answer, 1, np.where(unanswered, -1, 0))
        found = estimator.binary(positive_truth, call, units)
        rows.append(
            (name, int(positive_truth.sum()), found["accuracy"], *(found[m] for m in BINARY))
        )
    return Table(
        "patients",
        "Per patient",
        ("any hip with", "patients with it", "accuracy", *BINARY),
        tuple(rows),
        "A patient is positive where any hip is. A patient with an unanswered hip and no positive "
        "answer has no answer, which counts as an error.",
    )


def operating_tables(
    cases: Cases, points: tuple[OperatingPoint, ...], flag_hardware: bool, estimator: Estimator
) -> list[Table]:
    """Report the flags at each operating point, and the flags as recorded."""
    questions = dict(QUESTIONS)
    if not flag_hardware:
        questions["any abnormality but hardware"] = ABNORMAL_BUT_HARDWARE
    calls = {}
    if (cases.flagged >= 0).any():
        calls["as recorded"] = np.where(cases.answered, cases.flagged, -1)
    for point in points:
        flags = point.flags(np.nan_to_num(cases.probabilities), hardware=flag_hardware)
        calls[point.name] = np.where(cases.scored, flags.astype(np.int8), -1)
    if not calls:
        return []
    rows: list[tuple[Cell, ...]] = []
    for name, call in calls.items():
        for question, positive in questions.items():
            truth = np.asarray(positive)[cases.truth]
            answered_only = estimator.binary(
                truth[call >= 0], call[call >= 0], cases.patients[call >= 0]
            )
            all_hips = estimator.binary(truth, call, cases.patients)
            rows.append(
                (name, question, *(answered_only[m] for m in BINARY),
                 all_hips["sensitivity"], all_hips["specificity"])
            )  # fmt: skip
    flag_table = Table(
        "operating-points",
        "Flags at the operating points",
        ("operating point", "flag as a test for", *BINARY,
         "sensitivity, no answer an error", "specificity, no answer an error"),
        tuple(rows),
        "" if flag_hardware else "Implants are recorded but not flagged at this site.",
    )  # fmt: skip
    return [flag_table, *_threshold_tables(cases, points, estimator)]


def _threshold_tables(
    cases: Cases, points: tuple[OperatingPoint, ...], estimator: Estimator
) -> list[Table]:
    scored = cases.select(cases.scored)
    rows: list[tuple[Cell, ...]] = []
    for point in points:
        for category, threshold in point.thresholds.items():
            k = CATEGORIES.index(category)
            margins = point.margins(scored.probabilities, hardware=True)
            call = (margins[:, k] >= 0).astype(np.int8)
            found = estimator.binary(scored.truth == k, call, scored.patients)
            rows.append(
                (point.name, CATEGORY_LABELS[k], f"{threshold:.4f}",
                 *(found[m] for m in BINARY))
            )  # fmt: skip
    return [
        Table(
            "thresholds",
            "Each category at its threshold",
            ("operating point", "category", "threshold", *BINARY),
            tuple(rows),
        )
    ] if rows else []  # fmt: skip


def group_tables(cases: Cases, estimator: Estimator) -> list[Table]:
    """Report each attribute that has at least two sub-groups."""
    answered = cases.select(cases.answered)
    tables = []
    for group, (names, codes) in answered.groups.items():
        chosen = [(name, codes == names.index(name)) for name in sorted(names)]
        chosen = [(name, mask) for name, mask in chosen if mask.any()]
        if len(chosen) < 2 or group == "split":
            continue
        if (codes < 0).any():
            chosen.append(("not stated", codes < 0))
        rows: list[tuple[Cell, ...]] = []
        for name, mask in chosen:
            group_cases = answered.select(mask)
            overall, _ = estimator.categories(group_cases)
            fracture = estimator.question(group_cases, "", QUESTIONS["any acute fracture"])
            rows.append(
                (name, len(group_cases), *(overall[m, None] for m in OVERALL),
                 fracture["sensitivity"], fracture["specificity"])
            )  # fmt: skip
        tables.append(
            Table(
                f"by-{group}",
                f"By {group}",
                (group, "hips", *OVERALL, "fracture sensitivity", "fracture specificity"),
                tuple(rows),
            )
        )
    return tables


def confusion_table(confusion: Array) -> Table:
    """Report the confusion matrix (K, K + 1)."""
    return Table(
        "confusion",
        "Confusion matrix",
        ("truth", *CATEGORY_LABELS, "no answer"),
        tuple(
            (label, *(int(x) for x in row))
            for label, row in zip(CATEGORY_LABELS, confusion, strict=True)
        ),
    )


def reliability_tables(curve: Reliability | None) -> list[Table]:
    """Report the points of the reliability curve."""
    if curve is None:
        return []
    rows = zip(curve.hips, curve.confidence, curve.accuracy, strict=True)
    return [
        Table(
            "reliability",
            "Reliability of the top probability",
            ("hips", "mean probability", "accuracy"),
            tuple((int(n), Estimate(float(c)), Estimate(float(r))) for n, c, r in rows if n),
        )
    ]


def disagreements_table(cases: Cases) -> Table:
    """List the hips with a wrong answer or none, missed fractures first."""
    fracture = np.asarray(QUESTIONS["any acute fracture"])
    missed = fracture[cases.truth] & (binary_answers(cases.answer, tuple(fracture)) != 1)
    confidence = np.nan_to_num(cases.probabilities).max(axis=1)
    wrong = np.flatnonzero(cases.truth != cases.answer)
    order = wrong[np.lexsort((-confidence[wrong], ~missed[wrong]))]
    rows: list[tuple[Cell, ...]] = []
    for i in order:
        answer = int(cases.answer[i])
        answer_probability = cases.probabilities[i, answer] if answer >= 0 else np.nan
        rows.append(
            (
                cases.films[i],
                cases.sides[i].value,
                CATEGORY_LABELS[cases.truth[i]],
                CATEGORY_LABELS[answer] if answer >= 0 else "no answer",
                Estimate(float(answer_probability)) if np.isfinite(answer_probability) else None,
                Estimate(float(cases.probabilities[i, cases.truth[i]]))
                if cases.scored[i] else None,
                "missed fracture" if missed[i] else cases.reasons.get(int(i), ""),
            )
        )  # fmt: skip
    return Table(
        "disagreements",
        "Hips where model and truth disagree",
        (
            "film",
            "side",
            "truth",
            "model",
            "probability of the model's answer",
            "probability of the truth",
            "remark",
        ),
        tuple(rows),
        "Missed fractures first, then by the model's confidence.",
    )
