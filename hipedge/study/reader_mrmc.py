"""Multi-reader multi-case analysis of a reader study: assisted against alone."""

from __future__ import annotations

import numpy as np

from hipedge.study.comparisons import p_text
from hipedge.study.estimates import PERCENT, PLAIN, POINTS, QUESTIONS, Cell, Estimate, Table
from hipedge.study.mrmc import (
    ObuchowskiRockette,
    average_covariances,
    jackknife_covariance,
    obuchowski_rockette,
)
from hipedge.study.reader_study import ReaderStudy
from hipedge.study.resampling import Array
from hipedge.study.scores import RankedScores, rank_scores, weighted_auc_and_ap


def multi_reader(study: ReaderStudy) -> dict[str, ObuchowskiRockette]:
    """Analyse accuracy, and the AUC of each question if confidence was recorded.

    A reader's rating is the confidence in the answer, negated if the answer is no. An AUC is
    omitted if the jackknife makes it undefined, as with a single fracture.
    """
    units, unit = np.unique(study.cases.patients, return_inverse=True)
    results: dict[str, ObuchowskiRockette] = {}
    if units.size < 2:
        return results
    leave_one_out = 1.0 - (np.arange(units.size)[:, np.newaxis] == unit)
    correct = study.correct.transpose(1, 0, 2).astype(np.float64)
    left_out = (
        np.einsum("un,prn->upr", leave_one_out, correct) / leave_one_out.sum(axis=1)[:, None, None]
    )
    results["accuracy"] = obuchowski_rockette(
        correct.mean(axis=2), average_covariances(jackknife_covariance(left_out))
    )
    if study.confidence is None:
        return results
    all_hips = np.ones((1, len(study.cases)))
    for question, positive in QUESTIONS.items():
        truth = np.asarray(positive)[study.cases.truth]
        rating = np.where(np.asarray(positive)[study.answers], 1, -1) * study.confidence
        ranked = [
            [rank_scores(reader_rating[p], truth) for reader_rating in rating] for p in range(2)
        ]
        areas = _areas(leave_one_out, ranked)
        if np.isfinite(areas).all():
            results[f"AUC, {question}"] = obuchowski_rockette(
                _areas(all_hips, ranked)[0], average_covariances(jackknife_covariance(areas))
            )
    return results


def _areas(weights: Array, ranked: list[list[RankedScores]]) -> Array:
    """Return the AUC (B, P, R) of each phase and reader under weights (B, N)."""
    phases = [
        np.stack([weighted_auc_and_ap(weights, ranks)[0] for ranks in phase], axis=1)
        for phase in ranked
    ]
    return np.stack(phases, axis=1)


def multi_reader_tables(results: dict[str, ObuchowskiRockette]) -> list[Table]:
    """Report the tests and the variance components."""
    rows: list[tuple[Cell, ...]] = []
    components: list[tuple[Cell, ...]] = []
    for name, found in results.items():
        unit, of_difference = (PERCENT, POINTS) if name == "accuracy" else (PLAIN, PLAIN)
        alone, assisted = (
            Estimate(float(mean), unit=unit) for mean in found.figures_of_merit.mean(axis=1)
        )
        for kind, tested in (("random", found.random_readers), ("fixed", found.fixed_readers)):
            difference = Estimate(tested.value, {"t": tested.interval}, unit=of_difference)
            degrees = (
                f"{tested.degrees_of_freedom:.1f}"
                if np.isfinite(tested.degrees_of_freedom)
                else "∞"
            )
            rows.append((name, kind, alone, assisted, difference, degrees, p_text(tested.p_value)))
        c = found.covariances
        parts = (found.reader_variance, found.reader_by_test_variance,
                 c.variance, c.cov1, c.cov2, c.cov3)  # fmt: skip
        components.append((name, *(f"{part:.3e}" for part in parts)))
    if not rows:
        return []
    return [
        Table(
            "multi-reader",
            "Alone and assisted: multi-reader multi-case analysis",
            ("figure", "readers", "alone", "assisted", "difference", "degrees of freedom", "p"),
            tuple(rows),
            "Obuchowski and Rockette 1995, Hillis 2007; covariances by the jackknife over "
            "patients. Random readers: the result generalises to other readers. Fixed: it holds "
            "for these readers. "
            "A reader's rating is the confidence in the answer, negated if the answer is no.",
        ),
        Table(
            "multi-reader-variance",
            "Variance components",
            ("figure", "reader", "reader × phase", "error", "Cov1", "Cov2", "Cov3"),
            tuple(components),
            "Estimates by analysis of variance, which may be negative.",
        ),
    ]
