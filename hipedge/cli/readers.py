"""`hipedge readers`: the model against readers, and readers with the model's help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output
from hipedge.cli.evaluate import ImagesOption, NoteOption, ReplicatesOption, SeedOption
from hipedge.cli.options import ConfigOption, DbOption, OperatingPointOption
from hipedge.config import load_settings
from hipedge.study import check_installed


def readers(
    reads: Annotated[
        Path, typer.Argument(help="CSV: reader, grade, phase, a film's name, side, answer.")
    ],
    labels: Annotated[
        Path, typer.Option(help="CSV of the truth, as for `hipedge evaluate`.", show_default=False)
    ],
    model_predictions: Annotated[
        Path | None, typer.Option(help="CSV of the model's predictions, instead of the database.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reader-study"),
    margin: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Margin of non-inferiority, as a share.")
    ] = 0.05,
    images: ImagesOption = None,
    note: NoteOption = "",
    replicates: ReplicatesOption = 10_000,
    seed: SeedOption = 20_260,
    db: DbOption = None,
    operating_point: OperatingPointOption = None,
    config: ConfigOption = None,
) -> None:
    """Analyse a reader study: each reader, model against readers, alone against assisted."""
    check_installed()
    from hipedge.study.inputs import read_reads
    from hipedge.study.readers import ReaderSettings, analyse_readers
    from hipedge.study.reads import match_reads
    from hipedge.study.report.reading import write_reader_study
    from hipedge.study.sources import gather, sha256_of

    site = load_settings({"db": db, "operating_point": operating_point}, config)
    answers = read_reads(reads)
    with gather(labels, model_predictions, site, images) as material:
        study = match_reads(answers, material.labels, material.cases)
        results = analyse_readers(study, ReaderSettings(replicates, seed, margin))
        report = write_reader_study(
            results,
            out,
            sources={reads.name: sha256_of(reads)} | material.files,
            pictures=material.pictures,
            note=material.noted(note),
        )
    for name, metric, verdict in results.non_inferiority:
        if name == "all readers":
            points = f"{100 * verdict.difference:+.1f} points"
            output.print(f"model less readers, {metric}: {points}, {verdict.verdict}")
    output.print(f"report: {report}", soft_wrap=True)
