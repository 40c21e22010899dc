"""The reference model, which ships as package data so that `hipedge screen` needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.model.folder import CARD

FOLDER = "reference"


def require_model(chosen: Path | None) -> Path:
    """Return the model folder to use: the one that the site chose, or else the reference model.

    Raises `ConfigError` where there is neither.
    """
    folder = chosen or packaged_model()
    if folder is None:
        raise ConfigError(
            "no model: name one with --model DIR (`hipedge model new DIR --seed 0` "
            "makes an untrained one to try things with)"
        )
    return folder


def packaged_model() -> Path | None:
    """Return the folder of the reference model; None in an installation that has none.

    It is a real folder, since runtimes open its files by path: a package that is imported from
    within an archive has no reference model.
    """
    folder = Path(str(files("hipedge.model") / FOLDER))
    return folder if (folder / CARD).is_file() else None
