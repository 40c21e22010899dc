"""`hipedge tune`: how this machine's cores are best shared between reading and inference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hipedge import backends
from hipedge.cli.console import errors, output
from hipedge.cli.options import ConfigOption, ModelOption
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
    folder: Annotated[Path, typer.Argument(help="A folder of this site's films, a hundred or so.")],
    model: ModelOption = None,
    backend: Annotated[
        str | None, typer.Option(help="auto, or one of those that `hipedge doctor` lists.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Passes over the films.")] = 3,
    config: ConfigOption = None,
) -> None:
    """Find out how many processes should read here and on how many threads the network runs.

    `screen` and `watch` then use what was found for this model, unless they are told otherwise.
    """
    settings = load_settings({"model": model, "backend": backend}, config)
    opened = open_model(require_model(settings.model))
    name, reason = backends.choose(settings.backend)
    errors.print(f"backend [bold]{name}[/]: {escape(reason)}", soft_wrap=True)
    files = discover([folder]).files
    if not files:
        raise InputError(f"{folder} has no films in it")

    def say(shares: CpuAllocation, films_per_s: float) -> None:
        errors.print(f"{in_words(shares)}: {films_per_s:.1f} films/s", highlight=False)

    rule = site_rule(opened.card, settings)
    limits = Limits.of(settings.worker_memory_mb, settings.worker_timeout_s)
    best = measure(files, opened, name, rule, limits=limits, repeats=repeats, progress=say)
    output.print(f"fastest: {in_words(best)}")
    try:
        save_allocation(opened, name, best)
    except OSError as error:
        raise ConfigError(
            f"it cannot be remembered: {error.strerror} ({cache_folder()});"
            " make that folder writable, or name another by XDG_CACHE_HOME"
        ) from error


def in_words(shares: CpuAllocation) -> str:
    """Say what is shared how."""
    threads = "" if shares.threads is None else f", inference on {shares.threads} threads"
    return f"{shares.workers} reading{threads}"
