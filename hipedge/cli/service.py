"""`hipedge service`: install and remove the services of systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hipedge.cli.console import output, plain
from hipedge.deploy import (
    SETTINGS_FILE,
    Action,
    Environment,
    Step,
    perform,
    plan_install,
    plan_uninstall,
)
from hipedge.web import check_installed as check_web_installed

app = typer.Typer(no_args_is_help=True, help="Install and remove the services of systemd.")

RootOption = Annotated[
    Path,
    typer.Option(
        "--root", help="Root folder of another system, for images and packages (default: /)."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the steps, and do none.")]
STYLES = {Action.CREATE: "green", Action.UPDATE: "green", Action.REMOVE: "red", Action.RUN: "cyan",
          Action.NOTE: "yellow"}  # fmt: skip


@app.command()
def install(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Let the service use an NVIDIA GPU's devices.")
    ] = False,
    receive: Annotated[
        bool, typer.Option("--receive", help="Also receive films by DICOM (`hipedge receive`).")
    ] = False,
    web: Annotated[
        bool,
        typer.Option("--web", help="Also serve the worklist to browsers (`hipedge serve`)."),
    ] = False,
    root: RootOption = Path("/"),
    dry_run: DryRunOption = False,
) -> None:
    """Install `hipedge watch` as a service of systemd, run from this Python environment.

    Writes units, user, folders and /etc/hipedge/hipedge.toml, and starts the services. Repeated,
    for example after an upgrade, it updates the units and restarts them; settings of the site, and
    what earlier options have installed, stay.
    """
    if web:
        check_web_installed()
    environment = Environment.present()
    steps = plan_install(environment, root.absolute(), gpu=gpu, receive=receive, web=web)
    _show_and_perform(steps, dry_run=dry_run)
    if not dry_run:
        command = f"{environment.scripts}/hipedge doctor --config {SETTINGS_FILE}"
        text = f"Settings: {SETTINGS_FILE}. To check everything:\nsudo -u hipedge {command}"
        if web:
            command = f"{environment.scripts}/hipedge user add NAME --config {SETTINGS_FILE}"
            text += f"\nTo let somebody log in:\nsudo -u hipedge {command}"
        output.print(escape(text), highlight=False, soft_wrap=True)


@app.command()
def uninstall(root: RootOption = Path("/"), dry_run: DryRunOption = False) -> None:
    """Stop and remove the services. Database, films, settings and the user are left."""
    _show_and_perform(plan_uninstall(root.absolute()), dry_run=dry_run)


def _show_and_perform(steps: Sequence[Step], *, dry_run: bool) -> None:
    for step in steps:
        style = STYLES.get(step.action, "dim")
        reason = f"  [dim]({plain(step.reason)})[/]" if step.reason else ""
        line = f"[{style}]{step.action.value:6}[/]  {plain(step.subject)}{reason}"
        output.print(line, highlight=False, soft_wrap=True)
    if dry_run:
        output.print("Nothing was changed: --dry-run.")
    else:
        perform(steps)
