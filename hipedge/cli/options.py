"""Options that several commands share. Their defaults come from the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (default: ./hipedge.toml, if it exists)."),
]
DbOption = Annotated[
    Path | None, typer.Option("--db", help="SQLite database (default: ./hipedge.db).")
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Model folder (default: the reference model).")
]
OperatingPointOption = Annotated[
    str | None,
    typer.Option("--operating-point", help="Operating point of the model: sensitive or specific."),
]
