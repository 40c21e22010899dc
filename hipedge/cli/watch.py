"""`hipedge watch`: screen the files that arrive in some folders, unattended."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.options import (
    BackendOption,
    ConfigOption,
    DbOption,
    HipsOption,
    ModelOption,
    OperatingPointOption,
)
from hipedge.config import load_settings
from hipedge.locate.given import GivenHips, read_hips_csv
from hipedge.service_log import configure_logging
from hipedge.watch import watch as run_service


def watch(
    folders: Annotated[list[Path], typer.Argument(help="Folders to watch, recursively.")],
    db: DbOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    operating_point: OperatingPointOption = None,
    hips: HipsOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Decoding processes (default: one for each core).")
    ] = None,
    poll: Annotated[
        bool | None,
        typer.Option("--poll", help="Scan more often, for folders without events (NFS, SMB)."),
    ] = None,
    done_dir: Annotated[
        Path | None, typer.Option(help="Move finished films there (default: leave them).")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log every file, by its code.")] = False,
    config: ConfigOption = None,
) -> None:
    """Screen the files that arrive in some folders, until SIGTERM or Ctrl-C, and lose none.

    SIGHUP reloads the thresholds from the settings, without inference. The folders are only read,
    unless --done-dir is given. A second `hipedge watch` on the same database is refused.
    """
    flags = {
        "db": db,
        "model": model,
        "backend": backend,
        "operating_point": operating_point,
        "workers": workers,
        "poll": poll,
        "done_dir": done_dir,
    }
    configure_logging(logging.DEBUG if debug else logging.INFO)
    run_service(
        folders,
        load_settings(flags, config),
        given_hips=read_hips_csv(hips) if hips else GivenHips(),
        reload_settings=lambda: load_settings(flags, config),
    )
