"""`hipedge doctor`: check the installation and the settings."""

from __future__ import annotations

import typer
from rich.markup import escape
from rich.table import Table

from hipedge.cli.console import output, printable_lines
from hipedge.cli.options import ConfigOption, DbOption, ModelOption
from hipedge.config import load_settings
from hipedge.perf.check import Check
from hipedge.perf.doctor import examine

STYLES = {True: "[green]yes[/]", False: "[red]no[/]", None: "[dim]–[/]"}


def doctor(db: DbOption = None, model: ModelOption = None, config: ConfigOption = None) -> None:
    """Check installation, services and the machines in the settings; say how to fix what fails.

    Exits with 1 if screening, an installed service or a connection fails. It connects to the
    machines that the settings name (PACS, FHIR server, webhook), and to no other.
    """
    checks = examine(load_settings({"db": db, "model": model}, config))
    output.print(_table(checks))
    if any(check.works is False and check.required for check in checks):
        raise typer.Exit(1)


def _table(checks: list[Check]) -> Table:
    table = Table("", "works", "found", "how to fix it")
    section = None
    for check in checks:
        if section not in (None, check.section):
            table.add_section()
        section = check.section
        found, cure = (escape(printable_lines(text)) for text in (check.found, check.cure))
        table.add_row(f"{check.section}: {check.name}", STYLES[check.works], found, cure)
    return table
