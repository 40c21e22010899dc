"""The command line, one file per command: parse the arguments, call one function, print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main
from rich.markup import escape

import hipedge
from hipedge.cli.console import errors, printable_lines
from hipedge.errors import HipedgeError
from hipedge.files import set_home

# Each is a module here, with a function of that name or, for a group of commands, an `app`.
COMMANDS = (
    "demo",
    "screen",
    "flagged",
    "show",
    "send",
    "archive",
    "watch",
    "receive",
    "fetch",
    "service",
    "serve",
    "user",
    "study",
    "status",
    "retry",
    "prune",
    "backup",
    "model",
    "phantom",
    "train",
    "evaluate",
    "readers",
    "power",
    "calibrate",
    "export",
    "benchmark",
    "tune",
    "doctor",
)


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported only when it is used, so that start-up is fast."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = import_module(f"hipedge.cli.{name}")
        app = typer.Typer()
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
        return typer.main.get_group(app).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(typer.core.TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": _Commands()})


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    # A pretty traceback prints values, and values can name patients.
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Screen hip radiographs in batches: DICOM in, flagged hips in SQLite out. "
    "Research use only: not a medical device.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hipedge {hipedge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exits with 0 on success, 2 on errors, 130 when interrupted."""
    try:
        set_home()
        app(args=arguments, standalone_mode=True)
    except HipedgeError as error:
        text = escape(printable_lines(str(error)))
        errors.print(f"[red]error:[/] {text}", highlight=False, soft_wrap=True)
        sys.exit(2)
