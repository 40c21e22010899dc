"""The command line, one file per command: parse the arguments, call one function, print."""

from __future__ import annotations

import gc
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
from hipedge.interrupts import ended_by_ctrl_c

# Each is a module here, with a function of that name or, for a group of commands, an `app`. Their
# help begins with these texts, from which all are listed without importing any.
COMMANDS = {
    "demo": "Simulate a few films, screen them with the reference model, show a flagged one's"
    " picture.",
    "screen": "Find each hip, sort it into eight categories, flag what a doctor should see, record"
    " it all.",
    "flagged": "List the flagged hips, most urgent first; then every file that was not read.",
    "show": "Show one case: its findings, and a picture with boxes and heat maps over the film.",
    "send": "Send results of recorded cases to the PACS in the settings.",
    "archive": "Screen an archive of millions of films with Ray.",
    "watch": "Screen the files that arrive in some folders, until SIGTERM or Ctrl-C, and lose"
    " none.",
    "receive": "Receive films by DICOM (C-STORE, C-ECHO) into a folder, until SIGTERM or Ctrl-C.",
    "fetch": "Fetch radiographs from a DICOMweb server (QIDO-RS, WADO-RS) into a folder.",
    "service": "Install and remove the services of systemd.",
    "serve": "Serve the worklist to browsers: see the films, and say whether the findings are"
    " right.",
    "user": "Manage who may log in to `hipedge serve`.",
    "study": "Run reader studies: hips that readers classify in `hipedge serve`, alone and"
    " assisted.",
    "status": "Show how many files wait, were recorded and refused, and the alarms of the service.",
    "retry": "Queue quarantined files to be read again, by the running `watch` or the next"
    " `screen`.",
    "prune": "Remove results older than this, with their hips and maps; films are never touched.",
    "backup": "Copy the database, also while `watch` is running on it, and check the copy.",
    "model": "Create a model folder, or show its card.",
    "phantom": "Write simulated pelvic radiographs with known ground truth as DICOM files.",
    "train": "Train a model by the study's recipe; the same command resumes an interrupted run.",
    "evaluate": "Evaluate the model on labelled hips: an HTML report, with the numbers as JSON and"
    " CSV.",
    "readers": "Analyse a reader study: each reader, the model against readers, assisted against"
    " alone.",
    "power": "Sample sizes of studies.",
    "calibrate": "Fit temperature and operating points to labelled hips, and write them to a site"
    " file.",
    "export": "Build an engine or an INT8 file for this device, or verify backends.",
    "benchmark": "Measure the latency and throughput of a backend with a model, at several batch"
    " sizes.",
    "tune": "Measure how many worker processes and inference threads are the fastest here.",
    "doctor": "Check installation, services and the machines in the settings; say how to fix what"
    " fails.",
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported only when it is used, so that start-up is fast."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        with ended_by_ctrl_c():
            module = import_module(f"hipedge.cli.{name}")
        # What is imported by now stays: only what is allocated from now on may become garbage.
        gc.freeze()
        gc.enable()
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

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with the list of all commands."""
        self.commands = {
            name: typer.core.TyperCommand(name, help=text) for name, text in COMMANDS.items()
        }
        super().format_help(ctx, formatter)


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
    except KeyboardInterrupt:
        sys.exit(130)
    except HipedgeError as error:
        text = escape(printable_lines(str(error)))
        errors.print(f"[red]error:[/] {text}", highlight=False, soft_wrap=True)
        sys.exit(2)
