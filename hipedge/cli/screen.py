"""`hipedge screen`: screen files and folders into the database."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

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
from hipedge.errors import CODES
from hipedge.interrupts import ended_by_ctrl_c
from hipedge.pipeline.fork_server import SCREENING, start_fork_server

if TYPE_CHECKING:
    from hipedge.backends import Fingerprint
    from hipedge.pipeline.results import Summary


def screen(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM, PNG, JPEG or TIFF files, or folders of them.")
    ],
    db: DbOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    operating_point: OperatingPointOption = None,
    hips: HipsOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes (default: as tuned, or one per core)."),
    ] = None,
    require_gpu: RequireGpuOption = False,
    build_engine: Annotated[
        bool, typer.Option("--build-engine", help="Build a missing TensorRT engine first.")
    ] = False,
    fail_on_flag: Annotated[
        bool, typer.Option("--fail-on-flag", help="Exit 1 if a hip is flagged.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Find each hip, sort it into eight categories, flag what a doctor should see, record it all.

    Screening a folder again adds nothing but what is new in it.
    """
    start_fork_server(*SCREENING)  # where `hipedge.__main__` has not
    from hipedge import backends
    from hipedge.config import load_settings, patient_key_of
    from hipedge.locate.given import GivenHips, read_hips_csv
    from hipedge.model import open_model, require_model
    from hipedge.pipeline.batching import BatchScheduler
    from hipedge.pipeline.cpu_allocation import tuned_allocation
    from hipedge.pipeline.workers import Limits
    from hipedge.rules.site_rule import site_rule

    settings = load_settings(
        {
            "db": db,
            "model": model,
            "backend": backend,
            "operating_point": operating_point,
            "workers": workers,
        },
        config,
    )
    folder = open_model(require_model(settings.model))
    rule = site_rule(folder.card, settings)
    given_hips = read_hips_csv(hips) if hips else GivenHips()
    name, reason = backends.choose(settings.backend, require_gpu=require_gpu)
    reason = backends.why(name, reason, folder)
    if build_engine and name == "tensorrt":
        from hipedge.cli.export import build_progress
        from hipedge.export.engine import ensure_engine

        with build_progress() as report:
            ensure_engine(folder, report)
    patient_key = patient_key_of(settings)
    allocation = tuned_allocation(folder, name, settings.workers)
    card = folder.card
    errors.print(f"model [bold]{plain(card.name)}[/]: {plain(card.status_text)}", soft_wrap=True)

    def report_backend(fingerprint: Fingerprint) -> None:
        text = f"backend [bold]{plain(str(fingerprint))}[/]: {plain(reason)}"
        errors.print(text, soft_wrap=True)

    try:
        with BatchScheduler(
            partial(backends.open_backend, name, folder, threads=allocation.threads)
        ) as batches:
            # Import the rest while the inference thread imports the runtime and loads the model.
            with ended_by_ctrl_c():
                from hipedge.pipeline.screen import screen as run_pipeline
                from hipedge.store.store import Store

            with Store(settings.db) as store, files_progress() as bar:
                task = bar.add_task("screening", total=None)
                summary = run_pipeline(
                    paths,
                    model=folder,
                    batches=batches,
                    reason=reason,
                    store=store,
                    rule=rule,
                    given_hips=given_hips,
                    workers=allocation.workers,
                    limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
                    opened=report_backend,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                    patient_key=patient_key,
                )
    except KeyboardInterrupt:
        errors.print("interrupted: recorded results are kept; run the same command to resume")
        raise typer.Exit(130) from None
    output.print(summary_table(summary))
    for line in summary.unmatched_hips:
        errors.print(f"[yellow]warning:[/] {plain(f'{hips}, {line}: matches no film')}",
                     highlight=False, soft_wrap=True)  # fmt: skip
    if summary.hips_of_known:
        text = f"{hips}: films recorded before, whose hips are unchanged: {summary.hips_of_known}"
        errors.print(f"[yellow]warning:[/] {plain(text)}", highlight=False, soft_wrap=True)
    if summary.flagged:
        hint = f"see them with: hipedge flagged --db {settings.db}"
        errors.print(printable(hint), markup=False, soft_wrap=True)
    if fail_on_flag and summary.flagged:
        raise typer.Exit(1)


def summary_table(summary: Summary) -> Table:
    """Return a run's counts as a table: screened, flagged, and not read by reason."""
    from hipedge.types import Priority

    table = Table("", "files", "hips", title="Summary", title_justify="left")
    table.add_row("screened", str(summary.screened), str(summary.hips))
    for priority in (Priority.URGENT, Priority.ROUTINE):
        table.add_row(f"  flagged, {priority.value}", "", str(summary.flagged[priority]))
    for code, count in sorted(summary.refused.items(), key=lambda item: CODES[item[0]].state):
        info = CODES[code]
        state = info.state.value.replace("_", " ")
        table.add_row(f"{state}: {info.meaning} [dim]({code.value})[/]", str(count), "")
    for mark, count in sorted(summary.marks.items()):
        table.add_row(f"  of all these marked {mark.value}", str(count), "")
    if summary.known:
        table.add_row("already recorded", str(summary.known), "")
    if summary.left_aside:
        left_aside = "left aside: hidden, linked, or no images by their names"
        table.add_row(left_aside, str(summary.left_aside), "")
    return table


class _RateColumn(ProgressColumn):
    """Files per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} files/s")


def files_progress(period_s: float = 30.0) -> Progress:
    """Return a bar with files per second, over a period, and the time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=errors,
        speed_estimate_period=period_s,
    )
