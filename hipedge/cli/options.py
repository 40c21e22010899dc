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
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", help="auto, or a backend that `hipedge doctor` lists."),
]
HipsOption = Annotated[
    Path | None,
    typer.Option("--hips", help="CSV of hips marked by hand; none is searched for on their films."),
]
RequireGpuOption = Annotated[bool, typer.Option("--require-gpu", help="Never run on the CPU.")]
OperatingPointOption = Annotated[
    str | None,
    typer.Option("--operating-point", help="Operating point of the model: sensitive or specific."),
]
