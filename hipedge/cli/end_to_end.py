"""`hipedge benchmark --end-to-end`: the throughput of the pipeline, and what limits it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

from rich.table import Table

from hipedge import backends
from hipedge.cli.console import output
from hipedge.config import Settings
from hipedge.errors import InputError
from hipedge.machine import machine
from hipedge.model import open_model, require_model
from hipedge.perf.inference import Distribution
from hipedge.perf.throughput import Throughput, measure_throughput
from hipedge.perf.watch_latency import measure_watch
from hipedge.pipeline.cpu_allocation import tuned_allocation
from hipedge.pipeline.discover import discover
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule


def measure_end_to_end(
    settings: Settings,
    folder: Path,
    threads: int | None,
    repeats: int,
    *,
    watch: bool,
    as_json: bool,
) -> None:
    """Measure the pipeline on the films of a folder, and print the results."""
    model = open_model(require_model(settings.model))
    name, _ = backends.choose(settings.backend)
    files = discover([folder]).files
    if not files:
        raise InputError(f"{folder} has no films in it")
    allocation = tuned_allocation(model, name, settings.workers)
    rule, where = site_rule(model.card, settings), machine()
    figures = measure_throughput(
        files,
        model=model,
        open_backend=partial(
            backends.open_backend, name, model, threads=threads or allocation.threads
        ),
        rule=rule,
        workers=allocation.workers,
        limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
        repeats=repeats,
    )
    latency = measure_watch(files, model=model, backend=name, rule=rule) if watch else None
    if as_json:
        content = {
            "machine": where,
            "model": {"name": model.card.name, "id": model.model_id},
            **record(figures),
            "watch_latency_ms": None if latency is None else asdict(latency),
        }
        json.dump(content, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    for fact, value in where.items():
        output.print(f"{fact}: {value}", soft_wrap=True, markup=False)
    output.print(f"{figures.backend}", soft_wrap=True, markup=False)
    output.print(stages_table(figures))
    output.print(cores_table(figures))
    output.print(summary_table(figures, latency))


def record(figures: Throughput) -> dict[str, object]:
    """Return the measurements for JSON: those of each pass, and their summary."""
    return {
        **asdict(figures),
        "films_per_s": figures.films_per_s,
        "hips_per_s": median(run.hips_per_s for run in figures.together),
        "limit_films_per_s": figures.limit,
        "limits_films_per_s": figures.limits,
        "core_s_per_film": {**figures.core_s, "pipeline": median(pass_core_s(figures))},
        "bottleneck": figures.bottleneck,
        "limited_by": figures.limited_by,
        "efficiency": figures.efficiency,
    }


def stages_table(figures: Throughput) -> Table:
    """Return the time per film in each stage, and how busy each part of the pipeline was."""
    passes = figures.together
    table = Table("stage", "ms per film", title="Pipeline", title_justify="left")
    for name in passes[0].stages_ms:
        table.add_row(name, f"{median(run.stages_ms.get(name, 0.0) for run in passes):.2f}")
    table.add_section()
    for name in passes[0].busy:
        table.add_row(f"{name} busy", f"{median(run.busy[name] for run in passes):.0%}")
    return table


def cores_table(figures: Throughput) -> Table:
    """Return the core-seconds of a film: in each part alone, and in the whole pipeline."""
    parts, together = figures.core_s, median(pass_core_s(figures))
    there = median(figures.cores / run.films_per_s for run in figures.together)
    table = Table("part", "core-ms per film", title="Processor", title_justify="left")
    for name, core_s in parts.items():
        table.add_row(f"{name} alone", f"{core_s * 1e3:.2f}")
    table.add_section()
    table.add_row("all three", f"{sum(parts.values()) * 1e3:.2f}")
    table.add_row("the pipeline", f"{together * 1e3:.2f}")
    table.add_row(f"{figures.cores} cores, idle or not", f"{there * 1e3:.2f}")
    return table


def pass_core_s(figures: Throughput) -> list[float]:
    """Return the CPU time of a film in the whole pipeline, in seconds, by pass."""
    return [run.core_s for run in figures.together]


def summary_table(figures: Throughput, latency: Distribution | None) -> Table:
    """Return throughput, the limit that the parts imply, and the lengths of the queues."""
    passes = figures.together
    table = Table("", "", show_header=False, title=f"{figures.films} films", title_justify="left")
    table.add_row("films/s", f"{figures.films_per_s:.1f}")
    table.add_row("hips/s", f"{median(run.hips_per_s for run in passes):.1f}")
    for name in figures.limits[0]:
        table.add_row(
            f"{name} alone, films/s" if name != "processor" else "all on this CPU, films/s",
            f"{median(limits[name] for limits in figures.limits):.1f}",
        )
    table.add_row("bottleneck", figures.bottleneck)
    table.add_row("limited by", figures.limited_by)
    table.add_row("efficiency", f"{figures.efficiency:.2f} of the limit {figures.limit:.1f}")
    for text, (mean, most) in (
        ("films in work", passes[-1].films_in_work),
        ("hips waiting", passes[-1].hips_waiting),
    ):
        table.add_row(text, f"{mean:.1f} on average, {most} at most")
    table.add_row("hips per batch", f"{median(run.hips_per_batch for run in passes):.1f}")
    table.add_row("memory in total, MB", f"{max(run.memory_mb for run in passes):.0f}")
    if latency is not None:
        table.add_row(
            "watch: settled to committed, ms", f"p50 {latency.median:.0f}, p99 {latency.p99:.0f}"
        )
    return table
