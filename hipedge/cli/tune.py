"""`hipedge tune`: find the fastest allocation of the cores to preprocessing and inference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hipedge import backends
from hipedge.cli.console import errors, output
from hipedge.cli.options import BackendOption, ConfigOption, ModelOption
from hipedge.config import load_settings
from hipedge.errors import ConfigError, InputError
from hipedge.files import cache_folder
from hipedge.model import open_model, require_model
from hipedge.perf.tuning import tune as measure
from hipedge.pipeline.cpu_allocation import CpuAllocation, save_allocation
from hipedge.pipeline.discover import discover
from hipedge.pipeline.workers import Limits
from hipedge.rules.site_rule import site_rule


def tune(
    folder: Annotated[
        Path, typer.Argument(help="A folder with about a hundred films of this site.")
    ],
    model: ModelOption = None,
    backend: BackendOption = None,
    repeats: Annotated[int, typer.Option(min=1, help="Passes over the films.")] = 3,
    config: ConfigOption = None,
) -> None:
    """Measure how many worker processes and inference threads are the fastest here.

    `screen` and `watch` use the result for this model, unless their settings say otherwise.
    """
    settings = load_settings({"model": model, "backend": backend}, config)
    opened = open_model(require_model(settings.model))
    name, reason = backends.choose(settings.backend)
    errors.print(f"backend [bold]{name}[/]: {escape(reason)}", soft_wrap=True)
    files = discover([folder]).files
    if not files:
        raise InputError(f"{folder} has no films in it")

    def report(allocation: CpuAllocation, films_per_s: float) -> None:
        errors.print(f"{describe(allocation)}: {films_per_s:.1f} films/s", highlight=False)

    rule = site_rule(opened.card, settings)
    limits = Limits.of(settings.worker_memory_mb, settings.worker_timeout_s)
    best = measure(files, opened, name, rule, limits=limits, repeats=repeats, progress=report)
    output.print(f"fastest: {describe(best)}")
    try:
        save_allocation(opened, name, best)
    except OSError as error:
        raise ConfigError(
            f"the result cannot be saved: {error.strerror} ({cache_folder()});"
            " make that folder writable, or set XDG_CACHE_HOME"
        ) from error


def describe(allocation: CpuAllocation) -> str:
    """Return an allocation as text."""
    threads = allocation.threads
    inference = "" if threads is None else f", {threads} inference threads"
    return f"{allocation.workers} workers{inference}"
