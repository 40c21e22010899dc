"""The reference model, which ships as package data: the default of every command."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.model.folder import CARD

FOLDER = "reference"


def require_model(chosen: Path | None) -> Path:
    """Return the model folder to use: the chosen one, or else the reference model.

    Raises `ConfigError` if there is neither.
    """
    folder = chosen or packaged_model()
    if folder is None:
        raise ConfigError(
            "no model: name one with --model DIR (`hipedge model new DIR --seed 0` "
            "creates an untrained one for tests)"
        )
    return folder


def packaged_model() -> Path | None:
    """Return the folder of the reference model, or None if this installation has none.

    Runtimes open its files by path, so it must be a real folder: a package that is imported from a
    zip archive has no reference model.
    """
    folder = Path(str(files("hipedge.model") / FOLDER))
    return folder if (folder / CARD).is_file() else None
