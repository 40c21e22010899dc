"""`hipedge archive`: screen an archive of millions of films on a Ray cluster."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hipedge.archive import check_installed
from hipedge.cli.console import errors, output, plain, printable
from hipedge.cli.options import (
    BackendOption,
    ConfigOption,
    DbOption,
    HipsOption,
    ModelOption,
    OperatingPointOption,
    RequireGpuOption,
)
from hipedge.cli.screen import files_progress, summary_table

if TYPE_CHECKING:
    from hipedge.archive.job import Progress as JobProgress
    from hipedge.archive.job import Request
    from hipedge.archive.simulate import Outlook, Plan

app = typer.Typer(no_args_is_help=True, help="Screen an archive of millions of films with Ray.")

PriceOption = Annotated[
    float | None, typer.Option(min=0, help="Price of a node for an hour, for the cost.")
]
SAMPLED_FILMS = 64
RATE_PERIOD_S = 600.0  # a shard takes a minute on a small machine
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
    backend: BackendOption = None,
    operating_point: OperatingPointOption = None,
    hips: HipsOption = None,
    require_gpu: RequireGpuOption = False,
    shard_films: Annotated[
        int, typer.Option(min=1, help="Films that are recorded, or lost by a death, together.")
    ] = 128,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Metrics for Prometheus on this port; 0: none.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure a sample here; say how long it would take.")
    ] = False,
    price: PriceOption = None,
    config: ConfigOption = None,
) -> None:
    """Screen every film of SOURCE; the same command resumes after an interruption.

    The results are Parquet files in OUT; `hipedge archive merge` brings them into the database.
    """
    check_installed()
    from hipedge.archive.cluster import connected
    from hipedge.archive.job import run_job
    from hipedge.archive.metrics import JobMetrics

    request = _request(
        source, model, backend, operating_point, hips, require_gpu, shard_films, config
    )
    if dry_run:
        _estimate(request, address, price)
        return
    card = request.model.card
    errors.print(f"model [bold]{plain(card.name)}[/]: {plain(card.status_text)}", soft_wrap=True)
    metrics = JobMetrics()
    server = metrics.server(metrics_port) if metrics_port else nullcontext()
    with connected(address) as cluster, server, files_progress(RATE_PERIOD_S) as bar:
        if cluster.dashboard:
            errors.print(f"dashboard: http://{plain(cluster.dashboard)}", soft_wrap=True)
        task = bar.add_task("screening", total=None)

        def report(progress: JobProgress) -> None:
            metrics.update(progress)
            if progress.films_done == progress.films_before:  # done earlier: no part of the rate
                bar.reset(task, completed=progress.films_before, total=progress.films)
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
    from hipedge.store.store import Store

    settings = load_settings({"db": db}, config)
    folder = ArchiveFolder(out)
    folder.manifest()  # before a database is created for nothing
    with Store(settings.db) as store, files_progress() as bar:
        task = bar.add_task("recording", total=None)
        summary = merge_folder(
            folder, store, lambda done, total: bar.update(task, completed=done, total=total)
        )
    output.print(summary_table(summary))


@app.command()
def plan(
    films: Annotated[int, typer.Option(min=1, help="Films of the archive.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the cluster.")] = 1,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a node.")] = 16,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a node; 0: inference on CPUs.")] = 0,
    measured_in: Annotated[
        Path | None,
        typer.Option("--run", help="Folder of a run, from which the times of a film are taken."),
    ] = None,
    read_s: Annotated[
        float | None, typer.Option(min=0, help="Processor time of reading a film.")
    ] = None,
    infer_s: Annotated[
        float | None, typer.Option(min=0, help="Time of the backend for a film.")
    ] = None,
    film_mb: Annotated[float, typer.Option(min=0, help="Size of a film in MB.")] = 0.0,
    storage_mb_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="What the storage delivers to all nodes.")
    ] = None,
    shard_films: Annotated[int, typer.Option(min=1, help="Films of a shard.")] = 128,
    failure_hours: Annotated[
        float | None, typer.Option(min=0.01, help="Mean time between failures of a node.")
    ] = None,
    slow_nodes: Annotated[
        int, typer.Option(min=0, help="Nodes that are ten times slower than the others.")
    ] = 0,
    price: PriceOption = None,
) -> None:
    """Simulate a run: how long a cluster would take for an archive.

    The times of a film come from a run (--run), or from `hipedge archive run --dry-run`.
    """
    check_installed()
    from hipedge.archive.estimate import cost_of_run
    from hipedge.archive.folder import ArchiveFolder
    from hipedge.archive.simulate import Plan, simulate

    if measured_in is not None:
        cost = cost_of_run(ArchiveFolder(measured_in))
        read_s = cost.read_s if read_s is None else read_s
        infer_s = cost.infer_s if infer_s is None else infer_s
    if read_s is None or infer_s is None:
        raise typer.BadParameter("name --run, or both --read-s and --infer-s")
    wanted = Plan(
        films=films,
        nodes=nodes,
        cores=cores,
        read_core_s=read_s,
        infer_s=infer_s,
        gpus=gpus,
        film_mb=film_mb,
        storage_mb_per_s=storage_mb_per_s,
        shard_films=shard_films,
        node_mtbf_h=failure_hours,
        slow_nodes=slow_nodes,
    )
    output.print(_outlook_table(wanted, simulate(wanted), price))


def _estimate(request: Request, address: str | None, price: float | None) -> None:
    """Measure a sample on this machine; print what the cluster would take for all films."""
    from functools import partial

    from hipedge import backends
    from hipedge.archive.cluster import connected
    from hipedge.archive.estimate import local_files, mean_mb, sample_source
    from hipedge.archive.simulate import Plan, simulate
    from hipedge.perf.throughput import measure_throughput

    sampled = sample_source(request.source, SAMPLED_FILMS)
    name, reason = backends.choose(request.backend, require_gpu=request.require_gpu)
    with local_files(sampled.paths) as files:
        film_mb = mean_mb(files)
        errors.print(f"measuring {len(files)} of {sampled.films} files on {name} ({plain(reason)})")
        found = measure_throughput(
            files,
            model=request.model,
            open_backend=partial(backends.open_backend, name, request.model),
            rule=request.rule,
            workers=1,
            limits=request.limits,
            repeats=1,
        )
    (alone,) = found.alone
    on_cpu = backends.BACKENDS[name].on_cpu
    nodes, cores, gpus = 1, len(os.sched_getaffinity(0)), 0 if on_cpu else 1
    if address is not None:
        with connected(address) as cluster:
            nodes, cores = len(cluster.cores), min(cluster.cores)
            gpus = cluster.gpus // nodes
    if gpus and on_cpu:
        errors.print("[yellow]warning:[/] inference was measured on a CPU: the cluster has GPUs")
    wanted = Plan(
        films=sampled.films,
        nodes=nodes,
        cores=cores,
        read_core_s=alone.reading_core_s,
        infer_s=alone.inference_core_s if on_cpu else 1 / alone.inference,
        gpus=gpus,
        film_mb=film_mb,
        shard_films=request.shard_films,
    )
    output.print(_outlook_table(wanted, simulate(wanted), price))


def _outlook_table(plan: Plan, outlook: Outlook, price: float | None) -> Table:
    """Return what was simulated, as a table."""
    least, middle, most = outlook.hours
    one = outlook.forecasts[0]
    table = Table("", "", title="Forecast", title_justify="left", show_header=False)
    table.add_row("films", f"{plan.films:,} of {plan.film_mb:.1f} MB")
    gpus = f", {plan.gpus} GPUs" if plan.gpus else ""
    table.add_row("nodes", f"{plan.nodes}, each {plan.cores} cores{gpus}")
    table.add_row("reading a film", f"{plan.read_core_s:.4f} s of a core")
    unit = "s of a GPU" if plan.gpus else "s of a core"
    table.add_row("inference of a film", f"{plan.infer_s:.4f} {unit}")
    table.add_row("hours", f"{middle:.2f} ({least:.2f} to {most:.2f})")
    table.add_row("films per second", f"{plan.films / middle / 3600:,.1f}")
    if price is not None:
        table.add_row("cost", f"{middle * plan.nodes * price:,.2f}")
    table.add_row("busiest", one.bottleneck)
    table.add_row("readers busy", f"{100 * one.readers_busy:.1f} %")
    if plan.gpus:
        table.add_row("GPUs busy", f"{100 * one.backends_busy:.1f} %")
    if plan.storage_mb_per_s is not None:
        table.add_row("storage busy", f"{100 * one.storage_busy:.1f} %")
    table.add_row("driver busy", f"{100 * one.driver_busy:.1f} %")
    table.add_row("work repeated after failures", f"{100 * one.repeated:.2f} %")
    table.add_row("from the last shard's start to its end", f"{one.tail_s:.0f} s")
    table.add_row("assumed", _assumptions(plan))
    return table


def _assumptions(plan: Plan) -> str:
    """Return what a forecast takes for granted, and was measured elsewhere or not at all."""
    lines = [
        f"{plan.start_s:.0f} s until the first shard is begun",
        f"{plan.shard_films} films a shard, {plan.shard_overhead_s:g} s of a reader more for each",
        f"{1e3 * plan.driver_s:g} ms of the driver for each shard, one after another",
        f"times of films vary by {100 * plan.variation:.0f} %, independently",
        "cores are alike, and no hyperthreads of each other",
    ]
    if plan.node_mtbf_h is not None:
        lines.append(
            f"a node fails every {plan.node_mtbf_h:g} h, is missed after {plan.notice_s:.0f} s and"
            f" back after {plan.repair_s / 60:.0f} min"
        )
    if plan.slow_nodes:
        lines.append(f"{plan.slow_nodes} nodes are {plan.slowness:g} times slower")
    return "\n".join(lines)


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
    from hipedge.config import load_settings, patient_key_of
    from hipedge.locate.given import GivenHips, read_hips_csv
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
        patient_key=patient_key_of(settings),
    )
