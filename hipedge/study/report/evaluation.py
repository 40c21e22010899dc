"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from hipedge import __version__
from hipedge.study.estimates import CATEGORY_LABELS
from hipedge.study.evaluate import DataSet, Evaluation, EvaluationSettings
from hipedge.study.report import figures, prose
from hipedge.study.report.checklist import checklists_html
from hipedge.study.report.document import RESEARCH_ONLY, Document, Provenance
from hipedge.study.report.export import slug
from hipedge.study.report.html import (
    Section,
    banner_html,
    bullets_html,
    cards_html,
    details_html,
    figure_html,
    heading_html,
    join,
    sentence,
    table_html,
)
from hipedge.study.report.pictures import Pictures, disagreement_gallery

_MAX_DISAGREEMENTS = 40


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    *,
    sources: Mapping[str, str],
    pictures: Pictures,
    note: str = "",
) -> Path:
    """Write report, JSON and CSV files into a folder and return the report's path.

    `sources` maps input files to their SHA-256; `note` is shown at the top.
    """
    tables = {data.name: data.tables for data in evaluation.data_sets}
    if evaluation.differences is not None:
        tables["comparison"] = (evaluation.differences,)
    document = Document(
        "Validation of the hip classifier",
        _lead(evaluation),
        _sections(evaluation, pictures, note),
        tables,
        Provenance(evaluation.settings.replicates, evaluation.settings.seed, sources),
    )
    return document.write(folder)


def _lead(evaluation: Evaluation) -> str:
    parts = [
        f"{data.name}: {len(data.cases):,} hips of {_patients(data):,} patients"
        for data in evaluation.data_sets
    ]
    return "; ".join(parts) + "."


def _sections(evaluation: Evaluation, pictures: Pictures, note: str) -> list[Section]:
    sections = [Section("summary", "In plain language", _summary(evaluation, note))]
    if evaluation.differences is not None:
        sections.append(
            Section("comparison", "Data sets side by side", table_html(evaluation.differences))
        )
    for data in evaluation.data_sets:
        several = len(evaluation.data_sets) > 1
        sections += _data_sections(data, pictures, f": {data.name}" if several else "")
    sections.append(Section("methods", "How it was done", _methods(evaluation)))
    sections.append(
        Section("checklist", "Reporting checklists", checklists_html(_answers(evaluation)))
    )
    return sections


def _summary(evaluation: Evaluation, note: str) -> Markup:
    content = banner_html(note, RESEARCH_ONLY)
    for data in evaluation.data_sets:
        fracture = data.questions["any acute fracture"]
        headline = [
            ("accuracy", data.overall["accuracy"]),
            ("macro F1", data.overall["macro F1"]),
            ("fracture sensitivity", fracture["sensitivity"]),
            ("fracture specificity", fracture["specificity"]),
        ]
        if "macro AUC" in data.overall:
            headline.insert(2, ("macro AUC", data.overall["macro AUC"]))
        content += (
            heading_html(data.name)
            + cards_html(headline)
            + bullets_html(prose.plain_language_evaluation(data))
            + details_html(
                "Sentences for a manuscript", bullets_html(prose.manuscript_sentences(data))
            )
        )
    return content


def _data_sections(data: DataSet, pictures: Pictures, suffix: str) -> list[Section]:
    tables = {table.key: table for table in data.tables}
    key = slug(data.name)

    def tables_of(*names: str) -> Markup:
        return join(table_html(tables[name]) for name in names if name in tables)

    groups = [name for name in tables if name.startswith("by-")]
    sections = [
        Section(f"{key}-flow", f"Cases{suffix}", tables_of("flow")),
        Section(
            f"{key}-performance",
            f"Performance{suffix}",
            tables_of("overall", "categories", "questions", "patients")
            + details_html(
                "Categories, with no answer counted as an error",
                tables_of("categories-intention-to-diagnose"),
            ),
        ),
        Section(
            f"{key}-confusion",
            f"Confusion matrix{suffix}",
            figure_html(
                figures.confusion_figure(data.confusion),
                "Truth in rows, the model's answer in columns; shaded by the share of each row.",
            )
            + details_html("As a table", tables_of("confusion")),
        ),
    ]
    if data.rocs:
        sections.append(
            Section(
                f"{key}-roc",
                f"ROC curves{suffix}",
                figure_html(
                    figures.roc_figure(data.rocs),
                    "Each category against the rest, and the two binary questions.",
                ),
            )
        )
    if data.reliability is not None:
        sections.append(
            Section(
                f"{key}-calibration",
                f"Calibration{suffix}",
                figure_html(
                    figures.reliability_figure(data.reliability),
                    "Accuracy by the probability of the top category. A calibrated model lies on "
                    "the diagonal.",
                )
                + details_html("As a table", tables_of("reliability")),
            )
        )
    if "operating-points" in tables:
        sections.append(
            Section(
                f"{key}-operating",
                f"Operating points{suffix}",
                tables_of("flag-rates", "operating-points", "thresholds"),
            )
        )
    if groups:
        sections.append(Section(f"{key}-groups", f"Sub-groups{suffix}", tables_of(*groups)))
    sections.append(
        Section(
            f"{key}-worklist",
            f"Disagreements{suffix}",
            table_html(tables["disagreements"], max_rows=_MAX_DISAGREEMENTS)
            + disagreement_gallery(tables["disagreements"], pictures),
        )
    )
    return sections


def _methods(evaluation: Evaluation) -> Markup:
    settings = evaluation.settings
    clustered = any(data.cases.clustered for data in evaluation.data_sets)
    return bullets_html(
        [
            f"Bootstrap: {settings.replicates:,} replicates, resampling patients with all their "
            "hips; percentile and BCa intervals (Efron 1987). A category that is absent from a "
            "replicate "
            "leaves its own metrics undefined there, and macro averages run over the categories "
            "that are defined; a metric that is undefined in more than 5 % of replicates gets no "
            "bootstrap interval.",
            "Proportions: Wilson's interval"
            + (
                ", at the effective sample size of hips that cluster in patients (Rao and Scott "
                "1992)."
                if clustered
                else "."
            ),
            "AUC: "
            + (
                "Obuchowski's variance for clustered data (1997)"
                if clustered
                else "DeLong's variance (1988)"
            )
            + ", on the logit scale.",
            "Tables show Wilson's interval for proportions, the AUC's own for AUC, BCa for ECE "
            "(which resampling inflates) and the percentile interval for the rest. The JSON and "
            "CSV files have all of them.",
            "A hip without an answer (film refused, or hip not found) is excluded from the main "
            "results and counted as an error in those marked so (intention to diagnose).",
        ]
    )


def _answers(evaluation: Evaluation) -> dict[str, str]:
    """Return the checklist answers that follow from the data, by topic."""
    settings, sets = evaluation.settings, evaluation.data_sets
    first = sets[0]
    unread = sum(int((~data.cases.answered).sum()) for data in sets)
    names = ", ".join(data.name for data in sets)
    absent = [
        label
        for k, label in enumerate(CATEGORY_LABELS)
        if not any((data.cases.truth == k).any() for data in sets)
    ]
    groups = sorted({g for data in sets for g in data.cases.groups if g != "split"})
    return {
        "software": f"hipedge {__version__}; {len(CATEGORY_LABELS)} categories per hip.",
        "design": "Validation of a classifier that was fixed beforehand.",
        "flow": _lead(evaluation) + " See 'Cases'.",
        "groups": f"By {', '.join(groups)}: see 'Sub-groups'." if groups else "",
        "missing": f"{unread:,} hips without an answer; excluded, and counted as errors.",
        "thresholds": _thresholds(settings),
        "metrics": "Accuracy, balanced accuracy, F1, sensitivity, specificity, PPV, NPV, AUC, "
        "average precision, Brier score, ECE; see 'How it was done'.",
        "intervals": f"95 % intervals; bootstrap by patient with {settings.replicates:,} "
        "replicates, Wilson, and DeLong or Obuchowski.",
        "performance": f"Accuracy {sentence(first.overall['accuracy'])} in {first.name}; "
        "see 'Performance'.",
        "cross_table": "See 'Confusion matrix'.",
        "calibration": "See 'Calibration'." if first.reliability is not None else "",
        "failures": "See 'Disagreements'.",
        "external": f"Data sets: {names}." if len(sets) > 1 else "",
        "limits": ("No case of " + ", ".join(absent) + ". " if absent else "")
        + "The results apply to similar cases.",
    }


def _thresholds(settings: EvaluationSettings) -> str:
    if not settings.operating_points:
        return "The category of the highest probability; no operating points were given."
    return "Operating points: " + ", ".join(point.name for point in settings.operating_points) + "."


def _patients(data: DataSet) -> int:
    return len(set(data.cases.patients.tolist()))
