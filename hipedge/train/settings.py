"""The settings of a training, and its run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.files import write_atomically
from hipedge.model.untrained import DEFAULT_GEOMETRY
from hipedge.train.augment import Strength
from hipedge.train.data import Crops
from hipedge.train.manifest import Manifest
from hipedge.train.report import DataReport
from hipedge.types import CropGeometry

SETTINGS = "settings.json"


@dataclass(frozen=True)
class TrainingSettings:
    """What is asked for: together with the manifest it decides the result.

    `backbone` is a name in `hipedge.train.backbones.BACKBONES`. `phantoms` are drawn for each
    epoch in addition to the manifest's hips, out of a pool of `pool`, or all new where it is None.
    `about` is a sentence about the model for its card.
    """

    name: str = "hipnet"
    version: str = "1"
    about: str = "Trained by the study's recipe; not validated for any clinical use."
    geometry: CropGeometry = DEFAULT_GEOMETRY
    backbone: str = "resnet50"
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    imagenet: bool = True
    phantoms: int = 0
    pool: int | None = None
    strength: Strength = field(default_factory=Strength)

    @property
    def phantom_pool(self) -> int:
        """Number of different phantoms in the whole training."""
        if not self.phantoms:
            return 0
        return self.pool or self.phantoms * self.epochs


@dataclass(frozen=True, eq=False)
class Run:
    """One training: its folder and cache, its settings, and the hips that it learns from."""

    folder: Path
    cache: Path
    settings: TrainingSettings
    manifest: Manifest
    crops: Crops
    report: DataReport


def open_folder(folder: Path, settings: object, manifest: Manifest) -> None:
    """Make a run's folder; raise `ConfigError` where it holds a training with other settings.

    `settings` is a dataclass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Converted to JSON and back, so that tuples and lists compare equal.
    asked = json.loads(json.dumps({"manifest_sha256": manifest.sha256, **asdict(settings)}))  # type: ignore[call-overload]
    path = folder / SETTINGS
    if not path.exists():
        write_json(path, asked)
        return
    before = json.loads(path.read_text())
    if changed := sorted(name for name in asked if before.get(name) != asked[name]):
        raise ConfigError(
            f"{folder} holds a training with another {', '.join(changed)}: name a new folder"
        )


def write_json(path: Path, content: object) -> None:
    """Write a file of a run folder as indented JSON."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
