"""`hipedge evaluate`: evaluate the model on labelled hips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli import console
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.csv_input import finite_number
from hipedge.errors import InputError
from hipedge.study import check_installed

LABELS = typer.Argument(
    help="CSV of labels: path, content_hash, sha256, sop_instance_uid or case; side, category, "
    "patient."
)
LabelsArgument = Annotated[Path, LABELS]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(help="CSV of predictions (default: the database)."),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(help="Folder of <film>-<side>.png to show in the list of disagreements."),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")]
NoteOption = Annotated[
    str, typer.Option(help="Text at the top of the report, such as the names of study and model.")
]
ReplicatesOption = Annotated[int, typer.Option(min=100, help="Bootstrap replicates.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")]


def evaluate(
    labels: Annotated[Path | None, LABELS] = None,
    feedback: Annotated[
        bool,
        typer.Option("--feedback", help="The labels are readers' answers in `hipedge serve`."),
    ] = False,
    predictions: PredictionsOption = None,
    output: OutputOption = Path("evaluation"),
    split: Annotated[
        list[str] | None,
        typer.Option(help="Data set to evaluate, as named in the labels' column split."),
    ] = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(help="Prevalence at which to state PPV and NPV: 'any acute fracture=0.05'."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Site file whose temperature and operating points to evaluate."),
    ] = None,
    images: ImagesOption = None,
    note: NoteOption = "",
    replicates: ReplicatesOption = 10_000,
    seed: SeedOption = 20_260,
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Evaluate the model on labelled hips: an HTML report, with the numbers as JSON and CSV.

    Several data sets (internal, external) are compared. Results are given without the hips that
    have no answer, and with these counted as errors.
    """
    check_installed()
    from hipedge.study.evaluate import EvaluationSettings
    from hipedge.study.evaluate import evaluate as evaluate_data_sets
    from hipedge.study.report.evaluation import write_evaluation
    from hipedge.study.sources import load_inputs, split_cases

    if feedback == (labels is not None):
        raise InputError("give either a CSV of labels or --feedback")
    prevalences = dict(_prevalence(text) for text in prevalence or ())
    site = load_settings({"db": db, "operating_point": operating_point}, config)
    with load_inputs(labels, predictions, site, images, thresholds) as inputs:
        settings = EvaluationSettings(
            replicates, seed, prevalences, inputs.operating_points, site.flag_hardware
        )
        results = evaluate_data_sets(split_cases(inputs.cases, split or []), settings)
        report = write_evaluation(
            results,
            output,
            sources=inputs.files,
            pictures=inputs.pictures,
            note=inputs.report_note(note),
        )
    for data in results.data_sets:
        accuracy = data.overall["accuracy"]
        console.output.print(f"{data.name}: {accuracy.n:,} hips, accuracy {accuracy.value:.1%}")
    console.output.print(f"report: {report}", soft_wrap=True)


def _prevalence(text: str) -> tuple[str, float]:
    """Parse NAME=PREVALENCE."""
    name, _, number = text.rpartition("=")
    value = finite_number(number)
    if not name or value is None or not 0 < value < 1:
        raise InputError(f"{text!r} is not a name, an equals sign, and a number between 0 and 1")
    return name.replace("_", " "), value
