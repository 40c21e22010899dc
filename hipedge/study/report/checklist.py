"""The reporting checklists, filled in as far as the data answer them.

STARD 2015 (Bossuyt et al., BMJ 351:h5527), TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) and
CLAIM (Mongan, Moy and Kahn 2020, Radiol Artif Intell 2:e200029). The items are paraphrased: consult
the originals before submitting. Items that only the authors can answer stay open.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from hipedge.study.report.html import checklist_html, join

# Number, what it asks for, and the topic of the report that answers it ("" for none).
Item = tuple[str, str, str]

STARD: tuple[Item, ...] = (
    ("1", "Title or abstract names at least one measure of accuracy", ""),
    ("2", "Structured abstract", ""),
    ("3", "Background, and the clinical role of the index test", ""),
    ("4", "Objectives and hypotheses", ""),
    ("5", "Data collected before or after the tests were done", ""),
    ("6", "Eligibility criteria", ""),
    ("7", "On what basis participants were identified", ""),
    ("8", "Where and when participants were identified", ""),
    ("9", "Consecutive, random or convenience series", ""),
    ("10a", "Index test, in enough detail to repeat it", "software"),
    ("10b", "Reference standard, in enough detail to repeat it", ""),
    ("11", "Why this reference standard", ""),
    ("12a", "Cut-offs of the index test, and whether set beforehand", "thresholds"),
    ("12b", "Categories of the reference standard, and whether set beforehand", ""),
    ("13a", "What performers of the index test knew", ""),
    ("13b", "What assessors of the reference standard knew", ""),
    ("14", "Methods for estimating and comparing accuracy", "metrics"),
    ("15", "How indeterminate results were handled", "missing"),
    ("16", "How missing data were handled", "missing"),
    ("17", "Analyses of variability", "groups"),
    ("18", "Intended sample size, and how it was set", "sample"),
    ("19", "Flow of participants", "flow"),
    ("20", "Demographic and clinical characteristics", "groups"),
    ("21a", "Distribution of severity among those with the condition", ""),
    ("21b", "Distribution of other diagnoses among those without it", "cross_table"),
    ("22", "Time and treatment between index test and reference standard", ""),
    ("23", "Cross tabulation of index test and reference standard", "cross_table"),
    ("24", "Accuracy, with precision", "performance"),
    ("25", "Adverse events", ""),
    ("26", "Limitations", "limits"),
    ("27", "Implications for practice", ""),
    ("28", "Registration", ""),
    ("29", "Where the full protocol can be read", ""),
    ("30", "Funding and the funders' role", ""),
)

TRIPOD_AI: tuple[Item, ...] = (
    ("1", "Title: development or evaluation of a model, population, outcome", ""),
    ("2", "Abstract (TRIPOD+AI for abstracts)", ""),
    ("3a", "Healthcare context and rationale, and existing models", ""),
    ("3b", "Target population and intended use", ""),
    ("3c", "Known health inequalities between groups", ""),
    ("4", "Objectives: development, validation or both", "design"),
    ("5a", "Sources of data, and why they are representative", ""),
    ("5b", "Dates of collection", ""),
    ("6a", "Setting: number and place of centres", "groups"),
    ("6b", "Eligibility criteria", ""),
    ("6c", "Treatments received", ""),
    ("7", "Preparation of the data, alike across groups", ""),
    ("8a", "Outcome: definition, time horizon, how assessed", ""),
    ("8b", "Who assessed a subjective outcome", ""),
    ("8c", "What assessors knew", ""),
    ("9a", "Choice of predictors", ""),
    ("9b", "Definition of predictors", "software"),
    ("9c", "Who assessed subjective predictors", ""),
    ("10", "Study size, and how it was arrived at", "sample"),
    ("11", "Missing data", "missing"),
    ("12a", "How the data were used: partitions", "external"),
    ("12b", "Handling of predictors", ""),
    ("12c", "Type of model, and how it was built", ""),
    ("12d", "Heterogeneity between clusters", "groups"),
    ("12e", "Measures of performance, and comparison of models", "metrics"),
    ("12f", "Model updating", "calibration"),
    ("12g", "How predictions were made, for an evaluation", "software"),
    ("13", "Class imbalance, and any recalibration", "calibration"),
    ("14", "Fairness: what was done about it", "groups"),
    ("15", "Output of the model: probabilities, classes, thresholds", "thresholds"),
    ("16", "Differences between development and evaluation data", "external"),
    ("17", "Ethical approval", ""),
    ("18a", "Funding", ""),
    ("18b", "Conflicts of interest", ""),
    ("18c", "Protocol", ""),
    ("18d", "Registration", ""),
    ("18e", "Data sharing", ""),
    ("18f", "Code sharing", "software"),
    ("19", "Patient and public involvement", ""),
    ("20a", "Flow of participants", "flow"),
    ("20b", "Characteristics, overall and by centre", "groups"),
    ("20c", "Comparison with the development data", "external"),
    ("21", "Number of participants and events in each analysis", "flow"),
    ("22", "The full model, so that others can use it", ""),
    ("23a", "Performance with intervals, in key groups too", "performance"),
    ("23b", "Heterogeneity of performance between clusters", "groups"),
    ("24", "Results of any updating", ""),
    ("25", "Interpretation, fairness included", ""),
    ("26", "Limitations", "limits"),
    ("27a", "How poor or missing input is handled in use", "missing"),
    ("27b", "Whether users must interact, and with what expertise", "readers"),
    ("27c", "Next steps for research", ""),
)

CLAIM: tuple[Item, ...] = (
    ("1", "Title names the use of AI and its category", ""),
    ("2", "Structured summary", ""),
    ("3", "Background and clinical role", ""),
    ("4", "Objectives and hypotheses", ""),
    ("5", "Prospective or retrospective", ""),
    ("6", "Goal: development, feasibility, non-inferiority, …", "design"),
    ("7", "Data sources", ""),
    ("8", "Eligibility", ""),
    ("9", "Pre-processing", "software"),
    ("10", "Selection of subsets", "flow"),
    ("11", "Definitions of data elements", ""),
    ("12", "De-identification", ""),
    ("13", "Missing data", "missing"),
    ("14", "Ground truth, in enough detail to repeat it", ""),
    ("15", "Why this reference standard", ""),
    ("16", "Who annotated, and their qualifications", ""),
    ("17", "Annotation tools", ""),
    ("18", "Variability between and within annotators", "agreement"),
    ("19", "Intended sample size", "sample"),
    ("20", "How data were partitioned", "external"),
    ("21", "Level at which partitions are disjoint", "external"),
    ("22", "The model", ""),
    ("23", "Software libraries", "software"),
    ("24", "Initialisation of parameters", ""),
    ("25", "Training approach", ""),
    ("26", "Choice of the final model", ""),
    ("27", "Ensembling", ""),
    ("28", "Metrics of performance", "metrics"),
    ("29", "Statistical measures of significance and uncertainty", "intervals"),
    ("30", "Robustness or sensitivity analysis", "groups"),
    ("31", "Explainability", "failures"),
    ("32", "Testing on external data", "external"),
    ("33", "Flow of participants", "flow"),
    ("34", "Demographics of each partition", "groups"),
    ("35", "Performance on all partitions, against readers too", "performance"),
    ("36", "Accuracy with precision", "performance"),
    ("37", "Failure analysis", "failures"),
    ("38", "Limitations", "limits"),
    ("39", "Implications for practice", ""),
    ("40", "Registration", ""),
    ("41", "Where the full protocol can be read", ""),
    ("42", "Funding", ""),
)

CHECKLISTS: Mapping[str, tuple[Item, ...]] = {
    "STARD 2015": STARD,
    "TRIPOD+AI 2024": TRIPOD_AI,
    "CLAIM 2020": CLAIM,
}


def checklists_html(answers: Mapping[str, str]) -> Markup:
    """Render the checklists; `answers` maps topics to what the data answer."""
    return join(checklist_html(name, items, answers) for name, items in CHECKLISTS.items())
