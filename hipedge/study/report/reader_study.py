"""The report of a reader study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from hipedge import __version__
from hipedge.study.auc import roc_curve
from hipedge.study.estimates import CATEGORY_LABELS, POINTS, QUESTIONS, Estimate, Table
from hipedge.study.estimator import binary_answers
from hipedge.study.evaluate import RocCurve
from hipedge.study.evaluation_tables import disagreements_table
from hipedge.study.reader_analysis import ReaderResults
from hipedge.study.report import figures, prose
from hipedge.study.report.checklist import checklists_html
from hipedge.study.report.document import RESEARCH_ONLY, Document, Provenance
from hipedge.study.report.html import (
    Section,
    banner_html,
    bullets_html,
    cards_html,
    details_html,
    figure_html,
    join,
    sentence,
    side_by_side_html,
    table_html,
)
from hipedge.study.report.pictures import Pictures, disagreement_gallery
from hipedge.study.scores import question_score

_MAX_DISAGREEMENTS = 40


def write_reader_study(
    results: ReaderResults,
    folder: Path,
    *,
    sources: Mapping[str, str],
    pictures: Pictures,
    note: str = "",
) -> Path:
    """Write report, JSON and CSV files into a folder and return the report's path.

    `sources` maps input files to their SHA-256; `note` is shown at the top.
    """
    disagreements = disagreements_table(results.study.cases)
    document = Document(
        "Reader study of the hip classifier",
        _lead(results),
        _sections(results, disagreements, pictures, note),
        {"readers": (*results.tables, disagreements)},
        Provenance(results.settings.replicates, results.settings.seed, sources),
    )
    return document.write(folder)


def _lead(results: ReaderResults) -> str:
    study = results.study
    patients = np.unique(study.cases.patients).size
    return (
        f"{len(study.readers)} readers ({', '.join(dict.fromkeys(study.grades))}) and the model on "
        f"the same {len(study.cases):,} hips of {patients:,} patients; read "
        f"{' and '.join(study.phases)}."
    )


def _sections(
    results: ReaderResults, disagreements: Table, pictures: Pictures, note: str
) -> list[Section]:
    tables = {table.key: table for table in results.tables}

    def tables_of(*names: str) -> Markup:
        return join(table_html(tables[name]) for name in names if name in tables)

    sections = [
        Section("summary", "In plain language", _summary(results, note)),
        Section("flow", "Cases and readers", tables_of("reader-flow")),
        Section("performance", "Model and readers", _performance(results) + tables_of("raters")
                + details_html("Sensitivity by category", tables_of("rater-sensitivity"))),
    ]  # fmt: skip
    if results.non_inferiority:
        sections.append(
            Section("non-inferiority", "Non-inferiority", figure_html(
                figures.non_inferiority_figure(results.non_inferiority),
                "The model less each reader or group of readers, alone. Filled green: the interval "
                "lies above the margin.",
            ) + tables_of("non-inferiority")),
        )  # fmt: skip
    sections.append(
        Section("comparisons", "Model against readers and grades",
                tables_of("model-less-grades", "model-less-readers"))
    )  # fmt: skip
    if "assistance" in tables:
        sections.append(
            Section("assistance", "What assistance changed",
                    tables_of("assistance", "multi-reader")
                    + details_html("Variance components", tables_of("multi-reader-variance"))),
        )  # fmt: skip
        sections.append(
            Section(
                "behaviour",
                "Time and automation bias",
                tables_of("reading-time", "automation-bias"),
            )
        )
    study = results.study
    sections += [
        Section("agreement", "Agreement", figure_html(
            figures.agreement_figure(results.kappas, study.readers, study.phases),
            "Cohen's κ of each pair of readers.",
        ) + tables_of("agreement") + details_html("Every pair", tables_of("pairwise-kappa"))),
        Section("worklist", "Hips that the model got wrong",
                table_html(disagreements, max_rows=_MAX_DISAGREEMENTS)
                + disagreement_gallery(disagreements, pictures)),
        Section("methods", "How it was done", bullets_html(_methods(results))),
        Section("checklist", "Reporting checklists", checklists_html(_answers(results))),
    ]  # fmt: skip
    return sections


def _summary(results: ReaderResults, note: str) -> Markup:
    _, _, _, model = results.raters[0]
    headline = [("model: accuracy", model["accuracy", None])]
    for phase in results.study.phases:
        values = [
            found["accuracy", None].value for _, _, of, found in results.raters if of == phase
        ]
        headline.append((f"readers {phase}: mean accuracy", Estimate(float(np.mean(values)))))
    for name, metric, verdict in results.non_inferiority:
        if name == "all readers" and metric == "accuracy":
            shown = Estimate(verdict.difference, {"percentile": verdict.interval}, unit=POINTS)
            headline.append((f"model less readers alone: {verdict.verdict}", shown))
    return (
        banner_html(note, RESEARCH_ONLY)
        + cards_html(headline)
        + bullets_html(prose.plain_language_readers(results))
    )


def _performance(results: ReaderResults) -> Markup:
    rows = [(name, phase, found["accuracy", None]) for name, _, phase, found in results.raters]
    forest = figure_html(
        figures.forest_figure(rows, "Accuracy", rows[0][2].value),
        "Accuracy of the model (dashed line) and of each reader: hollow alone, filled assisted.",
    )
    return forest + side_by_side_html(_reader_roc(results, question) for question in QUESTIONS)


def _reader_roc(results: ReaderResults, question: str) -> Markup:
    """Render readers as points over the model's ROC curve, if there are positives and negatives."""
    study, positive = results.study, QUESTIONS[question]
    truth = np.asarray(positive)[study.cases.truth]
    if not truth.any() or truth.all():
        return Markup()
    points = []
    for reader, answers in zip(study.readers, study.answers, strict=True):
        calls = [binary_answers(answer, positive) == 1 for answer in answers]
        rates = [(float(call[~truth].mean()), float(call[truth].mean())) for call in calls]
        points.append((reader, dict(zip(study.phases, rates, strict=True))))
    roc = None
    if study.cases.scored.all():
        false, true = roc_curve(question_score(study.cases.probabilities, positive), truth)
        roc = RocCurve(question, false, true, Estimate(float("nan")))
    return figure_html(
        figures.reader_roc_figure(roc, points, question.capitalize()),
        f"Readers on {question}: hollow alone, filled assisted; the model's curve in grey.",
    )


def _methods(results: ReaderResults) -> list[str]:
    settings = results.settings
    non_inferiority = (
        f"Non-inferiority: the 95 % interval of the difference against a margin of "
        f"{100 * settings.margin:g} points; "
        + (
            "the bootstrap's percentile interval."
            if results.study.cases.clustered
            else "Tango's score interval (1998) for accuracy against one reader, the bootstrap's "
            "percentile interval for the rest."
        )
        if results.non_inferiority
        else "Non-inferiority is not judged: it compares the model with readers alone, and none "
        "read alone."
    )
    return [
        "Model and readers are compared on the hips that all of them answered.",
        f"Comparisons: paired bootstrap, {settings.replicates:,} replicates drawing patients with "
        "all their hips, for model, readers and phases together; Holm's correction within each "
        "table; McNemar's exact test if each patient has one hip.",
        non_inferiority,
        "Agreement: Cohen's κ of each pair, Fleiss' κ and Gwet's AC1 of all, over "
        f"{len(CATEGORY_LABELS)} categories.",
        "Assisted against alone, over readers and cases: Obuchowski and Rockette 1995 with "
        "Hillis' degrees of freedom (2007), jackknifing patients. With few readers its "
        "power is low, since the result generalises to readers who were not in the study.",
        "Tables show Wilson's interval for proportions and the percentile interval for the rest. "
        "The JSON and CSV files have all of them.",
    ]


def _answers(results: ReaderResults) -> dict[str, str]:
    """Return the checklist answers that follow from the data, by topic."""
    study = results.study
    _, _, _, model = results.raters[0]
    excluded = sum(study.excluded.values())
    margin = f"; non-inferiority at a margin of {100 * results.settings.margin:g} points"
    return {
        "software": f"hipedge {__version__}; {len(CATEGORY_LABELS)} categories per hip.",
        "design": f"Reader study, {' and '.join(study.phases)}"
        f"{margin if results.non_inferiority else ''}.",
        "flow": f"{_lead(results)} {excluded:,} labelled hips are excluded: see 'Cases and "
        "readers'.",
        "missing": "Hips that a reader or the model did not answer are excluded and counted.",
        "metrics": "Accuracy, F1, sensitivity, specificity; paired differences; multi-reader "
        "multi-case analysis; see 'How it was done'.",
        "intervals": f"95 % intervals; paired bootstrap by patient with "
        f"{results.settings.replicates:,} replicates; Holm's correction.",
        "performance": f"Model: accuracy {sentence(model['accuracy', None])}; readers: see "
        "'Model and readers'.",
        "failures": "See 'Hips that the model got wrong'.",
        "readers": f"{len(study.readers)} readers, {' and '.join(study.phases)}; see 'What "
        "assistance changed'.",
        "agreement": "See 'Agreement'.",
        "limits": "The results apply to similar cases and readers.",
    }
