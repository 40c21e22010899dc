"""`hipedge readers`: analyse a reader study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli import console
from hipedge.cli.evaluate import (
    ImagesOption,
    NoteOption,
    OutputOption,
    ReplicatesOption,
    SeedOption,
)
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.study import check_installed


def readers(
    reads: Annotated[
        Path, typer.Argument(help="CSV of reads: reader, grade, phase, film, side, answer.")
    ],
    labels: Annotated[
        Path, typer.Option(help="CSV of labels, as for `hipedge evaluate`.", show_default=False)
    ],
    model_predictions: Annotated[
        Path | None, typer.Option(help="CSV of the model's predictions (default: the database).")
    ] = None,
    output: OutputOption = Path("reader-study"),
    margin: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Non-inferiority margin, as a proportion.")
    ] = 0.05,
    images: ImagesOption = None,
    note: NoteOption = "",
    replicates: ReplicatesOption = 10_000,
    seed: SeedOption = 20_260,
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Analyse a reader study: each reader, the model against readers, assisted against alone."""
    check_installed()
    from hipedge.study.inputs import read_reads
    from hipedge.study.reader_analysis import ReaderSettings, analyse_readers
    from hipedge.study.reader_study import match_reads
    from hipedge.study.report.reader_study import write_reader_study
    from hipedge.study.sources import load_inputs, sha256_of

    site = load_settings({"db": db, "operating_point": operating_point}, config)
    answers = read_reads(reads)
    with load_inputs(labels, model_predictions, site, images) as inputs:
        study = match_reads(answers, inputs.labels, inputs.cases)
        results = analyse_readers(study, ReaderSettings(replicates, seed, margin))
        report = write_reader_study(
            results,
            output,
            sources={reads.name: sha256_of(reads)} | inputs.files,
            pictures=inputs.pictures,
            note=inputs.report_note(note),
        )
    for name, metric, verdict in results.non_inferiority:
        if name == "all readers":
            points = f"{100 * verdict.difference:+.1f} points"
            console.output.print(f"model less readers, {metric}: {points}, {verdict.verdict}")
    console.output.print(f"report: {report}", soft_wrap=True)
