"""Point estimates with all applicable intervals, by bootstrap and by formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.study.auc import auc_interval, clustered_variance, delong_variance, placements
from hipedge.study.cases import Cases
from hipedge.study.estimates import CATEGORY_LABELS, PLAIN, QUESTIONS, Estimate, Interval
from hipedge.study.intervals import clustered_wilson
from hipedge.study.metrics import (
    ConfusionBootstrap,
    bootstrap_confusion,
    confusion_cells,
    patterns_of,
)
from hipedge.study.resampling import Array, BootstrapResult, bootstrap
from hipedge.study.scores import question_score, score_statistic, score_tables
from hipedge.types import CATEGORIES

K = len(CATEGORIES)
SCORE_METRICS = ("macro AUC", "macro average precision", "Brier score", "ECE")

Estimates = dict[tuple[str, int | None], Estimate]


@dataclass(frozen=True)
class Estimator:
    """Estimates statistics with all their intervals.

    `prevalence` gives the prevalences at which PPV and NPV are stated, by category or question.
    """

    replicates: int
    seed: int
    prevalence: Mapping[str, float]

    def categories(self, cases: Cases) -> tuple[Estimates, ConfusionBootstrap]:
        """Estimate the metrics of all categories."""
        prevalence_of = {
            k: self.prevalence[label]
            for k, label in enumerate(CATEGORY_LABELS)
            if label in self.prevalence
        }
        return self.confusion(cases.truth, cases.answer, cases.patients, K, prevalence_of)

    def confusion(
        self,
        truth: NDArray[np.integer],
        answer: NDArray[np.integer],
        patients: NDArray[np.int64],
        n_categories: int,
        prevalence: Mapping[int, float] | None = None,
    ) -> tuple[Estimates, ConfusionBootstrap]:
        """Estimate every metric of the confusion matrix of `truth` and `answer` (N,)."""
        cells = confusion_cells(truth, answer, n_categories)
        patterns = patterns_of(cells, patients, n_categories * (n_categories + 1))
        confusion = bootstrap_confusion(
            patterns, n_categories,
            replicates=self.replicates, seed=self.seed, prevalence=prevalence,
        )  # fmt: skip
        estimates = {}
        for column, (name, k) in enumerate(confusion.keys):
            intervals = confusion.result.intervals(column)
            among, success = _proportion(name, k, truth, answer)
            if success is not None:
                wilson = clustered_wilson(success[among], patients[among])
                intervals = {"wilson": wilson} | intervals
            estimates[name, k] = Estimate(
                float(confusion.result.values[column]), intervals, int(among.sum())
            )
        return estimates, confusion

    def binary(
        self,
        truth: NDArray[np.bool_],
        call: NDArray[np.integer],
        patients: NDArray[np.int64],
        prevalence: float | None = None,
    ) -> dict[str, Estimate]:
        """Estimate the metrics of a binary answer `call` (N,): 1, 0, or -1 for none."""
        prevalence_of = None if prevalence is None else {1: prevalence}
        found, _ = self.confusion(truth.astype(np.int8), call, patients, 2, prevalence_of)
        return {name: estimate for (name, k), estimate in found.items() if k == 1} | {
            "accuracy": found["accuracy", None]
        }

    def question(
        self, cases: Cases, question: str, positive: tuple[bool, ...]
    ) -> dict[str, Estimate]:
        """Estimate the metrics of a binary question, answered by the model's category."""
        return self.binary(
            np.asarray(positive)[cases.truth],
            binary_answers(cases.answer, positive),
            cases.patients,
            self.prevalence.get(question),
        )

    def scores(
        self, cases: Cases
    ) -> tuple[Estimates, dict[str, dict[str, Estimate]], BootstrapResult | None]:
        """Estimate the metrics of the probabilities, of the categories and of the questions.

        Returns the estimates, those of each question, and the bootstrap behind both.
        """
        if not len(cases):
            return {}, {}, None
        units, patient = np.unique(cases.patients, return_inverse=True)
        tables = score_tables(
            cases.probabilities, cases.truth, tuple(QUESTIONS.values()),
            patients=patient if units.size < len(cases) else None,
        )  # fmt: skip
        result = bootstrap(
            lambda weights: score_statistic(weights, tables),
            np.ones(units.size, dtype=np.int64),
            replicates=self.replicates,
            seed=self.seed,
        )
        estimates: Estimates = {}
        for column, metric in enumerate(SCORE_METRICS):
            intervals = result.intervals(column)
            if metric == "ECE":  # Biased upwards by resampling, which BCa corrects.
                intervals = dict(reversed(intervals.items()))
            estimates[metric, None] = Estimate(
                float(result.values[column]), intervals, len(cases), unit=PLAIN
            )
        n_questions = len(tables.questions)
        of_questions: dict[str, dict[str, Estimate]] = {}
        for q, (name, score, positive) in enumerate(score_questions(cases)):
            area, precision = len(SCORE_METRICS) + q, len(SCORE_METRICS) + n_questions + q
            formula = _auc_by_formula(score, positive, cases.patients)
            metrics = {
                metric: Estimate(
                    float(result.values[column]), formula_interval | result.intervals(column),
                    len(cases), unit=PLAIN,
                )
                for metric, column, formula_interval in (
                    ("AUC", area, formula), ("average precision", precision, {})
                )
            }  # fmt: skip
            if q < K:
                estimates.update({(metric, q): value for metric, value in metrics.items()})
            else:
                of_questions[name] = metrics
        return estimates, of_questions, result


def binary_answers(answer: NDArray[np.integer], positive: tuple[bool, ...]) -> NDArray[np.int64]:
    """Return whether each answer (N,) is a positive category: 1, 0, or -1 for no answer."""
    called = np.asarray(positive)[np.maximum(answer, 0)].astype(np.int64)
    return np.where(answer < 0, -1, called)


def _proportion(
    name: str, k: int | None, truth: NDArray[np.integer], answer: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Return the hips (N,) in a metric's denominator, and its successes if it is a proportion."""
    answered = answer >= 0
    all_hips = np.ones(truth.shape, dtype=bool)
    if name == "accuracy":
        return all_hips, truth == answer
    if name == "sensitivity":
        return truth == k, answer == k
    if name == "specificity":
        return truth != k, answered & (answer != k)
    if name == "PPV":
        return answer == k, truth == k
    if name == "NPV":
        return answered & (answer != k), truth != k
    return (truth == k if name == "F1" else all_hips), None


def score_questions(cases: Cases) -> list[tuple[str, Array, NDArray[np.bool_]]]:
    """List the one-vs-rest questions, then the binary ones: name, score (N,), positive (N,)."""
    one_vs_rest = [
        (label, cases.probabilities[:, k], cases.truth == k)
        for k, label in enumerate(CATEGORY_LABELS)
    ]
    binary = [
        (name, question_score(cases.probabilities, positive), np.asarray(positive)[cases.truth])
        for name, positive in QUESTIONS.items()
    ]
    return one_vs_rest + binary


def _auc_by_formula(
    score: Array, positive: NDArray[np.bool_], patients: NDArray[np.int64]
) -> dict[str, Interval | None]:
    placed = placements(score, positive)
    clustered = np.unique(patients).size < patients.size
    name = "obuchowski" if clustered else "delong"
    if placed is None:
        return {name: None}
    variance = (
        clustered_variance(placed, positive, patients) if clustered else delong_variance(placed)
    )
    return {name: auc_interval(placed.auc, variance)}
