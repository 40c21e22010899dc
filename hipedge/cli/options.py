"""The options that several commands share; unset, they come from the environment or the TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (default: ./hipedge.toml, if there is one)."),
]
DbOption = Annotated[
    Path | None, typer.Option("--db", help="SQLite database (default: ./hipedge.db).")
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Model folder (default: the reference model).")
]
OperatingPointOption = Annotated[
    str | None,
    typer.Option("--operating-point", help="Thresholds of the card: sensitive or specific."),
]
