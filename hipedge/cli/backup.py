"""`hipedge backup`: a sound copy of a database that is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hipedge.cli.console import output, printable
from hipedge.cli.options import ConfigOption, DbOption
from hipedge.config import load_settings
from hipedge.store import backup as back_up


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write; replaced when complete.")],
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the database, also while `watch` is at work on it, and check the copy."""
    settings = load_settings({"db": db}, config)
    back_up(settings.db, target)
    said = f"{target}: a sound copy of {settings.db}"
    output.print(printable(said), markup=False, soft_wrap=True)
