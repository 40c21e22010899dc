"""Inside and outside: hospitals one and two with patients held out, and hospital three.

The numbers are `hipedge evaluate`'s, and beside them the thumbnail model's on the same hips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference.joint import joint_macro_f1
from benchmarks.reference.thumbnail import predict_by_thumbnail
from hipedge.model import Card
from hipedge.rules.operating_points import operating_points
from hipedge.study.cases import Cases, match_predictions
from hipedge.study.estimates import (
    CATEGORY_LABELS,
    PERCENT,
    POINTS,
    Cell,
    Estimate,
    Table,
)
from hipedge.study.evaluate import DataSet, EvaluationSettings, evaluate
from hipedge.study.inputs import Label, read_labels, read_predictions
from hipedge.study.paired import paired_difference
from hipedge.study.resampling import percentile_interval
from hipedge.train.manifest import EXTERNAL, TEST, read_manifest
from hipedge.types import CATEGORIES

SPLITS = {"inside": TEST, "outside": EXTERNAL}
# Of the study that the recipe is taken from, on real radiographs of real patients.
STUDY = {
    "inside": {"accuracy": 0.9393, "macro F1": 0.9066},
    "outside": {"accuracy": 0.9011, "macro F1": 0.8729},
}
# Aimed at without a GPU: so much above the thumbnail model.
AIM_POINTS = 0.25
OPERATING = ("sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class Against:
    """The thumbnail model's macro-F1, and the classifier's less that, on the same hips."""

    linear: Estimate
    difference: Estimate


@dataclass(frozen=True, eq=False)
class Simulated:
    """The results inside and outside, by those names."""

    data_sets: Mapping[str, DataSet]
    against: Mapping[str, Against]


def measure_simulated(
    manifest_path: Path, predictions: Path, cache: Path, card: Card, *, replicates: int
) -> Simulated:
    """Evaluate a training's `predictions.csv`, and a thumbnail model on the same hips."""
    manifest = read_manifest(manifest_path)
    labels = [label for label in read_labels(manifest_path) if label.split in SPLITS.values()]
    classifier = match_predictions(labels, read_predictions(predictions))
    linear = match_predictions(labels, predict_by_thumbnail(manifest, card.input, cache))
    points = operating_points(card)
    settings = EvaluationSettings(replicates, operating_points=points, flag_hardware=True)
    chosen = {name: in_split(labels, split) for name, split in SPLITS.items()}
    found = evaluate({name: classifier.select(hips) for name, hips in chosen.items()}, settings)
    return Simulated(
        {data.name: data for data in found.data_sets},
        {
            name: compare(classifier.select(hips), linear.select(hips), settings)
            for name, hips in chosen.items()
        },
    )


def in_split(labels: Sequence[Label], split: str) -> NDArray[np.bool_]:
    """Return which labels (N,) are of a split."""
    return np.array([label.split == split for label in labels])


def compare(classifier: Cases, linear: Cases, settings: EvaluationSettings) -> Against:
    """Compare macro-F1 on the same hips, each replicate drawing the same patients for both."""
    ours, theirs = joint_macro_f1(
        (classifier, linear), replicates=settings.replicates, seed=settings.seed
    )
    difference, _ = paired_difference(ours, theirs)
    interval = {"percentile": percentile_interval(theirs[1])}
    return Against(Estimate(theirs[0], interval, len(linear)), difference)


def overall_table(found: Simulated) -> Table:
    """Set accuracy and macro-F1 beside the thumbnail model's and the study's."""
    rows: list[tuple[Cell, ...]] = []
    for name, data in found.data_sets.items():
        patients = int(np.unique(data.cases.patients).size)
        for metric, study in STUDY[name].items():
            value, against = data.overall[metric], found.against[name]
            rows.append(
                (
                    f"{name}, {metric}",
                    len(data.cases),
                    patients,
                    value,
                    against.linear if metric == "macro F1" else None,
                    against.difference if metric == "macro F1" else None,
                    Estimate(study, unit=PERCENT),
                    Estimate(value.value - study, unit=POINTS),
                )
            )
    return Table(
        "simulated",
        "Simulated hips",
        (
            "",
            "hips",
            "patients",
            "reference model",
            "thumbnail model",
            "difference",
            "the study",
            "less the study",
        ),
        tuple(rows),
        "The thumbnail model is a logistic regression on 64 × 64 pixels of the crops in train. "
        f"Aim without a GPU: macro-F1 at least {100 * AIM_POINTS:g} points above the thumbnail "
        "model. The study's numbers are of real radiographs, ours of simulated ones: they say how "
        "far the training came, not how good the model is on patients. Intervals are 95 %, by a "
        "bootstrap of patients.",
    )


def category_tables(found: Simulated) -> list[Table]:
    """Report each category: F1, and sensitivity and specificity at both operating points."""
    tables = []
    for name, data in found.data_sets.items():
        by_key = {table.key: table for table in data.tables}
        categories, thresholds = by_key["categories"], by_key["thresholds"]
        f1 = categories.columns.index("F1")
        points = list(dict.fromkeys(str(row[0]) for row in thresholds.rows))
        at = {(row[0], row[1]): row for row in thresholds.rows}
        columns = [thresholds.columns.index(metric) for metric in OPERATING]
        rows = [
            (
                row[0],
                row[1],
                row[f1],
                *(
                    at[point, row[0]][column] if (point, row[0]) in at else None
                    for point in points
                    for column in columns
                ),
            )
            for row in categories.rows
        ]
        head = [f"{metric}, {point}" for point in points for metric in OPERATING]
        tables.append(
            Table(
                f"simulated-{name}",
                f"Simulated hips, {name}, by category",
                ("category", "hips", "F1", *head),
                tuple(rows),
                "At an operating point a hip counts as called where the category's probability "
                "reaches its threshold, whichever is the most probable.",
            )
        )
    return tables


def metrics_of(found: Simulated) -> dict[str, float]:
    """Return the card's numbers."""
    metrics: dict[str, float] = {}
    for name, data in found.data_sets.items():
        metrics[f"{name}_hips"] = len(data.cases)
        named = {metric.replace(" ", "_"): data.overall[metric] for metric in STUDY[name]}
        named["linear_macro_F1"] = found.against[name].linear
        named["less_linear_macro_F1"] = found.against[name].difference
        for table in category_tables(found):
            if table.key == f"simulated-{name}":
                named |= _by_category(table)
        for metric, estimate in named.items():
            metrics |= with_interval(f"{name}_{metric}".lower(), estimate)
    return metrics


def _by_category(table: Table) -> dict[str, Estimate]:
    names = dict(zip(CATEGORY_LABELS, (category.value for category in CATEGORIES), strict=True))
    found = {}
    for row in table.rows:
        for column, cell in zip(table.columns[2:], row[2:], strict=True):
            if isinstance(cell, Estimate) and cell.defined:
                metric = "_".join(reversed(column.split(", ")))
                found[f"{metric}_{names[str(row[0])]}"] = cell
    return found


def with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    """Return an estimate as a card holds it: its value, and the ends of its interval."""
    metrics = {name: estimate.value}
    if estimate.shown is not None:
        metrics |= {f"{name}_low": estimate.shown.low, f"{name}_high": estimate.shown.high}
    return metrics
