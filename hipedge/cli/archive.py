"""`hipedge archive`: screen an archive of millions of films on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hipedge.archive import check_installed
from hipedge.cli.console import errors, output, plain, printable
from hipedge.cli.options import ConfigOption, DbOption, ModelOption, OperatingPointOption
from hipedge.cli.screen import files_progress, summary_table

if TYPE_CHECKING:
    from hipedge.archive.job import Progress as JobProgress
    from hipedge.archive.job import Request

app = typer.Typer(no_args_is_help=True, help="Screen an archive of millions of films with Ray.")

OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the run, shared by all nodes.", show_default=False)
]


@app.command()
def run(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of films, CSV or Parquet file with a column path or uri, or URI of a"
            " folder of objects (s3://bucket/films)."
        ),
    ],
    out: OutOption,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, or auto for the one of this machine (default: start one)."),
    ] = None,
    model: ModelOption = None,
    backend: Annotated[
        str | None, typer.Option(help="auto, or a backend that `hipedge doctor` lists.")
    ] = None,
    operating_point: OperatingPointOption = None,
    hips: Annotated[
        Path | None,
        typer.Option(help="CSV of hips marked by hand; none is searched for on their films."),
    ] = None,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Never run on the CPU.")
    ] = False,
    shard_films: Annotated[
        int, typer.Option(min=1, help="Films that are recorded, or lost by a death, together.")
    ] = 128,
    config: ConfigOption = None,
) -> None:
    """Screen every film of SOURCE; the same command resumes after an interruption.

    The results are Parquet files in OUT; `hipedge archive merge` brings them into the database.
    """
    check_installed()
    from hipedge.archive.cluster import connected
    from hipedge.archive.job import run_job

    request = _request(
        source, model, backend, operating_point, hips, require_gpu, shard_films, config
    )
    card = request.model.card
    errors.print(f"model [bold]{plain(card.name)}[/]: {plain(card.status_text)}", soft_wrap=True)
    with connected(address) as cluster, files_progress() as bar:
        if cluster.dashboard:
            errors.print(f"dashboard: http://{plain(cluster.dashboard)}", soft_wrap=True)
        task = bar.add_task("screening", total=None)

        def report(progress: JobProgress) -> None:
            bar.update(task, completed=progress.films_done, total=progress.films)

        try:
            done = run_job(request, out, cluster, changed=report)
        except KeyboardInterrupt:
            bar.stop()
            errors.print("interrupted: finished shards are kept; run the same command to resume")
            raise typer.Exit(130) from None
    output.print(summary_table(done.summary))
    if done.films_before:
        errors.print(f"screened before: {done.films_before} files")
    hint = f"record them with: hipedge archive merge {out}"
    errors.print(printable(hint), markup=False, soft_wrap=True)


@app.command()
def merge(
    out: Annotated[Path, typer.Argument(help="Folder of a run.")],
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Record the finished films of a run in the database. Merging again adds nothing."""
    check_installed()
    from hipedge.archive.folder import ArchiveFolder
    from hipedge.archive.merge import merge as merge_folder
    from hipedge.config import load_settings
    from hipedge.store import Store

    settings = load_settings({"db": db}, config)
    folder = ArchiveFolder(out)
    folder.manifest()  # before a database is created for nothing
    with Store(settings.db) as store, files_progress() as bar:
        task = bar.add_task("recording", total=None)
        summary = merge_folder(
            folder, store, lambda done, total: bar.update(task, completed=done, total=total)
        )
    output.print(summary_table(summary))


def _request(
    source: str,
    model: Path | None,
    backend: str | None,
    operating_point: str | None,
    hips: Path | None,
    require_gpu: bool,
    shard_films: int,
    config: Path | None,
) -> Request:
    from hipedge.archive.job import Request
    from hipedge.config import load_settings
    from hipedge.locate import GivenHips, read_hips_csv
    from hipedge.model import open_model, require_model
    from hipedge.pipeline.workers import Limits
    from hipedge.rules.site_rule import site_rule

    settings = load_settings(
        {"model": model, "backend": backend, "operating_point": operating_point}, config
    )
    folder = open_model(require_model(settings.model))
    return Request(
        source=source,
        model=folder,
        model_path=settings.model and settings.model.resolve(),
        rule=site_rule(folder.card, settings),
        backend=settings.backend,
        limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
        given_hips=read_hips_csv(hips) if hips else GivenHips(),
        hips_file=hips,
        require_gpu=require_gpu,
        shard_films=shard_films,
    )
