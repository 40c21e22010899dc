"""`hipedge phantom`: write simulated radiographs and their ground truth."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hipedge.cli.console import errors, output, plain
from hipedge.errors import InstallationError

NEEDS = ("numba", "scipy", "xraylib")


def phantom(
    directory: Annotated[Path, typer.Argument(help="Folder for the films and truth.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Number of films.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same films.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes; 0: one per core.")] = 0,
) -> None:
    """Write simulated pelvic radiographs with known ground truth as DICOM files.

    The command resumes an interrupted run; a larger count adds films to the same folder.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"{', '.join(missing)} not installed: run `pip install 'hipedge[phantom]'`"
        )
    from hipedge.phantom.generate import generate

    columns = (TextColumn("films"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task("films", total=count)
        truth = generate(
            directory,
            count=count,
            seed=seed,
            workers=workers or os.cpu_count() or 1,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    output.print(plain(truth), highlight=False, soft_wrap=True)
