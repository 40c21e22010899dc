"""`hipedge evaluate`: how good the model is on labelled hips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.errors import InputError
from hipedge.study import check_installed

LabelsArgument = Annotated[
    Path,
    typer.Argument(help="CSV: path, sha256, sop_instance_uid or case; side, category, patient."),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(help="CSV of predictions, instead of the database."),
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Folder of <film>-<side>.png for the list of disagreements.")
]
NoteOption = Annotated[
    str, typer.Option(help="A line for the top of the report: which study, which model.")
]
ReplicatesOption = Annotated[int, typer.Option(min=100, help="Bootstrap replicates.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")]


def evaluate(
    labels: LabelsArgument,
    predictions: PredictionsOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    split: Annotated[
        list[str] | None, typer.Option(help="Data set to evaluate, by the labels' column split.")
    ] = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(help="State PPV and NPV at a prevalence: 'any acute fracture=0.05'."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Site file to evaluate: its temperature and operating points."),
    ] = None,
    images: ImagesOption = None,
    note: NoteOption = "",
    replicates: ReplicatesOption = 10_000,
    seed: SeedOption = 20_260,
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Evaluate the model on labelled hips: an HTML report, and its numbers as JSON and CSV.

    Several data sets (internal, external) are set side by side. Hips without an answer are
    reported left out and counted as errors.
    """
    check_installed()
    from hipedge.study.evaluate import Settings
    from hipedge.study.evaluate import evaluate as evaluate_data_sets
    from hipedge.study.report.evaluation import write_evaluation
    from hipedge.study.sources import gather, split_cases

    shares = dict(_share(text) for text in prevalence or ())
    site = load_settings({"db": db, "operating_point": operating_point}, config)
    with gather(labels, predictions, site, images, thresholds) as material:
        settings = Settings(replicates, seed, shares, material.operating_points, site.flag_hardware)
        found = evaluate_data_sets(split_cases(material.cases, split or []), settings)
        report = write_evaluation(
            found,
            out,
            sources=material.files,
            pictures=material.pictures,
            note=material.noted(note),
        )
    for data in found.data_sets:
        accuracy = data.overall["accuracy"]
        output.print(f"{data.name}: {accuracy.n:,} hips, accuracy {accuracy.value:.1%}")
    output.print(f"report: {report}", soft_wrap=True)


def _share(text: str) -> tuple[str, float]:
    """Split NAME=SHARE."""
    name, _, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not name or not 0 < value < 1:
        raise InputError(f"{text!r} is not a name, an equals sign, and a share between 0 and 1")
    return name.replace("_", " "), value
