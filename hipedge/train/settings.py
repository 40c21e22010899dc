"""What a training is asked for, and what it works on."""

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

    `phantoms` are drawn for each epoch beside the manifest's hips, out of a pool of `pool`, or
    all new where it is None. `cbam`, `gem` and `balanced_focal` are the study's enhancements.
    `about` is what the card says of the model in a sentence.
    """

    name: str = "hipnet"
    version: str = "1"
    about: str = "Trained by the study's recipe; not validated for any clinical use."
    geometry: CropGeometry = DEFAULT_GEOMETRY
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    imagenet: bool = True
    phantoms: int = 0
    pool: int | None = None
    cbam: bool = True
    gem: bool = True
    balanced_focal: bool = True
    strength: Strength = field(default_factory=Strength)

    @property
    def enhancements(self) -> tuple[str, ...]:
        """Which of the study's enhancements are on."""
        every = {
            "CBAM": self.cbam,
            "GeM": self.gem,
            "class-balanced focal loss": self.balanced_focal,
        }
        return tuple(name for name, on in every.items() if on)

    @property
    def phantom_pool(self) -> int:
        """How many different phantoms there are in the whole training."""
        if not self.phantoms:
            return 0
        return self.pool or self.phantoms * self.epochs


@dataclass(frozen=True, eq=False)
class Run:
    """One training: its folder and cache, what was asked for, and the hips that it learns from."""

    folder: Path
    cache: Path
    settings: TrainingSettings
    manifest: Manifest
    crops: Crops
    report: DataReport


def open_folder(folder: Path, settings: object, manifest: Manifest) -> None:
    """Make a run's folder, or raise `ConfigError` unless what it holds is this very training.

    `settings` is a dataclass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # By way of JSON, so that tuples and lists compare equal.
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
    """Write a file of a run that people read too."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
