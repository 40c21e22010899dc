"""`hipedge benchmark --end-to-end`: how fast the whole line is here, and what limits it."""

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
from hipedge.perf.throughput import LineFigures, measure_line
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
    """Measure the line on the films of a folder, and print what came of it."""
    model = open_model(require_model(settings.model))
    name, _ = backends.choose(settings.backend)
    files = discover([folder]).files
    if not files:
        raise InputError(f"{folder} has no films in it")
    shares = tuned_allocation(model, name, settings.workers)
    rule, where = site_rule(model.card, settings), machine()
    figures = measure_line(
        files,
        model=model,
        open_backend=partial(backends.open_backend, name, model, threads=threads or shares.threads),
        rule=rule,
        workers=shares.workers,
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
    output.print(summary_table(figures, latency))


def record(figures: LineFigures) -> dict[str, object]:
    """Return the figures for JSON: those of each pass, and what they come to."""
    return {
        **asdict(figures),
        "films_per_s": figures.films_per_s,
        "hips_per_s": median(one.hips_per_s for one in figures.together),
        "limit_films_per_s": figures.limit,
        "limits_films_per_s": figures.limits,
        "bottleneck": figures.bottleneck,
        "efficiency": figures.efficiency,
    }


def stages_table(figures: LineFigures) -> Table:
    """Return what a film costs in each stage, and how busy each part of the line was."""
    passes = figures.together
    table = Table("stage", "ms a film", title="The line", title_justify="left")
    for name in passes[0].stages_ms:
        table.add_row(name, f"{median(one.stages_ms.get(name, 0.0) for one in passes):.2f}")
    table.add_section()
    for name in passes[0].busy:
        table.add_row(f"{name} busy", f"{median(one.busy[name] for one in passes):.0%}")
    return table


def summary_table(figures: LineFigures, latency: Distribution | None) -> Table:
    """Return the rates, the limit that the parts imply, and what was waiting."""
    passes = figures.together
    table = Table("", "", show_header=False, title=f"{figures.films} films", title_justify="left")
    table.add_row("films/s", f"{figures.films_per_s:.1f}")
    table.add_row("hips/s", f"{median(one.hips_per_s for one in passes):.1f}")
    for name in figures.limits[0]:
        table.add_row(
            f"{name} alone, films/s" if name != "processor" else "all on this processor, films/s",
            f"{median(one[name] for one in figures.limits):.1f}",
        )
    table.add_row("bottleneck", figures.bottleneck)
    table.add_row("efficiency", f"{figures.efficiency:.2f} of the limit {figures.limit:.1f}")
    for text, one in (
        ("films in work", passes[-1].films_in_work),
        ("hips waiting", passes[-1].hips_waiting),
    ):
        table.add_row(text, f"{one[0]:.1f} on average, {one[1]} at most")
    table.add_row("hips a batch", f"{median(one.hips_per_batch for one in passes):.1f}")
    table.add_row("memory of all, MB", f"{max(one.memory_mb for one in passes):.0f}")
    if latency is not None:
        table.add_row(
            "watch: settled to committed, ms", f"p50 {latency.median:.0f}, p99 {latency.p99:.0f}"
        )
    return table
