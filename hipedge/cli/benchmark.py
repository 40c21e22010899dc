"""`hipedge benchmark`: latency and throughput of backends, or of the whole pipeline."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from hipedge import backends
from hipedge.cli.console import errors, fingerprint_lines, output
from hipedge.cli.end_to_end import measure_end_to_end
from hipedge.cli.options import BackendOption, ConfigOption
from hipedge.config import load_settings
from hipedge.errors import ConfigError
from hipedge.machine import machine
from hipedge.model import open_model, require_model
from hipedge.perf.inference import STATISTICS, Requirement, Sweep, sweep


def benchmark(
    model: Annotated[
        Path | None,
        typer.Argument(help="Model folder (default: the settings', or the reference model)."),
    ] = None,
    backend: BackendOption = None,
    compare: Annotated[
        str, typer.Option(help="Further backends to measure, separated by commas.")
    ] = "",
    batches: Annotated[
        str, typer.Option("--batch", help="Batch sizes, separated by commas.")
    ] = "1,8,32",
    duration: Annotated[float, typer.Option(min=0, help="Seconds per batch size.")] = 3.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Unmeasured seconds before each.")] = 1.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a backend on the CPU (default: all).")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Exit 1 unless this holds, e.g. 'p99_ms<=8'; may be repeated."),
    ] = None,
    end_to_end: Annotated[
        Path | None, typer.Option(help="Measure the whole pipeline on the films in this folder.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="With --end-to-end: also the latency of `hipedge watch`."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes (default: as tuned, or one per core)."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Passes over the films.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Measure the latency and throughput of a backend with a model, at several batch sizes.

    Requirements apply to every batch size of the first backend. With --end-to-end the whole
    pipeline is measured instead, from files to rows of a temporary database.
    """
    if end_to_end is not None:
        settings = load_settings({"model": model, "backend": backend, "workers": workers}, config)
        measure_end_to_end(settings, end_to_end, threads, repeats, watch=watch, as_json=as_json)
        return
    requirements = [Requirement.parse(text) for text in require or ()]
    sizes = _sizes(batches)
    settings = load_settings({"model": model, "backend": backend}, config)
    folder = open_model(require_model(settings.model))
    samples = folder.golden().samples
    name, reason = backends.choose(settings.backend)
    errors.print(f"backend [bold]{name}[/]: {escape(reason)}", soft_wrap=True)
    sweeps = []
    for measured in [name, *filter(None, compare.split(","))]:
        with backends.open_backend(measured, folder, threads=threads) as opened:
            sweeps.append(sweep(opened, samples, sizes, warmup_s=warm_up, duration_s=duration))
    violations = [
        text
        for requirement in requirements
        for point in sweeps[0].points
        if (text := requirement.broken_by(point)) is not None
    ]
    where = machine()
    if as_json:
        content = {
            "machine": where,
            "model": {"name": folder.card.name, "id": folder.model_id},
            "warm_up_s": warm_up,
            "duration_s": duration,
            "sweeps": [_record(each) for each in sweeps],
            "broken": violations,
        }
        json.dump(content, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for fact, value in where.items():
            output.print(f"{fact}: {value}", soft_wrap=True, markup=False)
        output.print(_throughput(sweeps))
        for each in sweeps:
            _print_latency(each)
    for text in violations:
        errors.print(f"[red]required:[/] {text}", soft_wrap=True)
    if violations:
        raise typer.Exit(1)


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--batch {text!r} is not a list of sizes such as 1,8,32")
    return [int(part) for part in parts]


def _record(measured: Sweep) -> dict[str, object]:
    points = [{**asdict(point), "warnings": point.warnings} for point in measured.points]
    return {**asdict(measured), "points": points}


def _throughput(sweeps: list[Sweep]) -> Table:
    """Return images per second, and their ratio to those of the first backend."""
    table = Table("images/s at batch", *(str(point.batch) for point in sweeps[0].points))
    for measured in sweeps:
        pairs = zip(measured.points, sweeps[0].points, strict=True)
        rates = [
            f"{point.images_per_s:.1f} (×{point.images_per_s / first.images_per_s:.2f})"
            for point, first in pairs
        ]
        table.add_row(fingerprint_lines(measured.backend), *rates)
    return table


def _print_latency(measured: Sweep) -> None:
    graphs = " with CUDA graphs" if measured.cuda_graphs else ""
    table = Table("batch", "ms", *STATISTICS, box=box.SIMPLE_HEAD, pad_edge=False,
                  title=f"{measured.backend}{graphs}", title_justify="left")  # fmt: skip
    for point in measured.points:
        for name, times in {"latency": point.latency, **point.parts}.items():
            figures = [_short(getattr(times, statistic)) for statistic in STATISTICS]
            table.add_row(str(point.batch), name, *figures)
    output.print(table)
    for point in measured.points:
        for text in point.warnings:
            errors.print(f"batch {point.batch}: {text}", soft_wrap=True)


def _short(milliseconds: float) -> str:
    """Format with at most four digits, so that seven columns fit into a terminal."""
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"
