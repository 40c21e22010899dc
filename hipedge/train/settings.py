"""The settings of a training, and its run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hipedge.errors import ConfigError
from hipedge.files import write_atomically
from hipedge.model.untrained import DEFAULT_GEOMETRY
from hipedge.train.augment import Strength
from hipedge.train.data import LabelledCrops
from hipedge.train.manifest import Manifest
from hipedge.train.report import DataReport
from hipedge.types import CropGeometry

SETTINGS = "settings.json"


@dataclass(frozen=True)
class TrainingSettings:
    """What is asked for: together with the manifest it decides the result.

    `backbone` is a name in `hipedge.train.backbones.BACKBONES`. In each epoch `phantoms` simulated
    hips and `insertions` real hips with inserted lesions are added to the manifest's hips; each is
    drawn from a pool of that many different ones, `pool` and `insertion_pool`, or is new every
    time where that is None. `guidance` is the weight of the loss of activation maps that point
    elsewhere than at inserted lesions, `faithfulness` that of maps that say otherwise than what
    hiding a region shows. `teacher` is the SHA-256 of the checkpoint that is
    distilled, if any. `about` is a sentence about the model for its card.
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
    insertions: int = 0
    insertion_pool: int | None = None
    guidance: float = 0.2
    faithfulness: float = 1.0
    teacher: str = ""
    strength: Strength = field(default_factory=Strength)

    @property
    def phantom_pool(self) -> int:
        """Number of different phantoms in the whole training."""
        return (self.pool or self.phantoms * self.epochs) if self.phantoms else 0

    @property
    def inserted_pool(self) -> int:
        """Number of different insertions in the whole training."""
        return (self.insertion_pool or self.insertions * self.epochs) if self.insertions else 0


@dataclass(frozen=True, eq=False)
class Run:
    """One training: its folder, its settings, and the hips that it is calibrated and tested on.

    `held_out` are hips outside training by name: the manifest's splits, and `inserted_val` and
    `inserted_test` for lesions inserted into real hips. `report` is None without a manifest.
    """

    folder: Path
    settings: TrainingSettings
    manifest: Manifest | None
    report: DataReport | None
    held_out: Mapping[str, LabelledCrops]
    sources: tuple[str, ...] = ()


def open_folder(folder: Path, settings: object, manifest: Manifest | None) -> None:
    """Make a run's folder; raise `ConfigError` where it holds a training with other settings.

    `settings` is a dataclass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Converted to JSON and back, so that tuples and lists compare equal.
    sha256 = manifest.sha256 if manifest else None
    asked = json.loads(json.dumps({"manifest_sha256": sha256, **asdict(settings)}))  # type: ignore[call-overload]
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
