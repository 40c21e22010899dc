"""The command line: parse, call once, render, exit; one file per command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

import hipedge
from hipedge.cli import (
    backup,
    benchmark,
    calibrate,
    demo,
    doctor,
    evaluate,
    export,
    flagged,
    model,
    phantom,
    power,
    prune,
    readers,
    retry,
    screen,
    show,
    status,
    train,
    watch,
)
from hipedge.cli.console import errors
from hipedge.errors import HipedgeError

app = typer.Typer(
    no_args_is_help=True,
    # A pretty traceback prints values, and values can name patients.
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Screen hip radiographs in batches: DICOM in, flagged hips in SQLite out. "
    "Research use only: not a medical device.",
)
app.command()(demo.demo)
app.command()(screen.screen)
app.command()(flagged.flagged)
app.command()(show.show)
app.command()(watch.watch)
app.command()(status.status)
app.command()(retry.retry)
app.command()(prune.prune)
app.command()(backup.backup)
app.add_typer(model.app, name="model")
app.command()(phantom.phantom)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(readers.readers)
app.add_typer(power.app, name="power")
app.command()(calibrate.calibrate)
app.add_typer(export.app, name="export")
app.command()(benchmark.benchmark)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hipedge {hipedge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit 0 when it did its work, 2 for errors, 130 when interrupted."""
    try:
        app(args=arguments, standalone_mode=True)
    except HipedgeError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
