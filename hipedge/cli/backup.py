"""`hipedge backup`: a consistent copy of a database that is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli import console
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.store.service import backup as back_up


def backup(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="File to write; it is replaced once the copy is complete."
        ),
    ],
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the database, also while `watch` is running on it, and check the copy."""
    settings = load_settings({"db": db}, config)
    back_up(settings.db, output)
    text = f"{output}: a checked copy of {settings.db}"
    console.output.print(console.printable(text), markup=False, soft_wrap=True)
