"""A model folder: a card, and the files that the card holds the hashes of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import ModelError
from hipedge.model.card import (
    CLASSIFIER,
    GOLDEN,
    LOCATOR,
    OPTIONAL_FILES,
    README,
    REQUIRED_FILES,
    Card,
    card_json,
    parse_card,
)
from hipedge.model.readme import render_readme

CARD = "card.json"
GOLDEN_SAMPLES = 64
CURE = "copy the model folder again, or create a new one with `hipedge model new`"


@dataclass(frozen=True, eq=False)
class Golden:
    """Golden samples: uint8 (64, 1, S, S) with FP32 logits (64, K) and maps (64, K, h, w)."""

    samples: NDArray[np.uint8]
    logits: NDArray[np.float32]
    maps: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz file; equal arrays give equal bytes."""
        np.savez_compressed(path, samples=self.samples, logits=self.logits, maps=self.maps)

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read a file of `save`. Raises `ModelError` if it is something else."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(arrays["samples"], arrays["logits"], arrays["maps"])
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise ModelError(f"{path} does not hold golden samples: {CURE}") from error


@dataclass(frozen=True)
class ModelFolder:
    """A complete model folder whose files match the hashes in its card.

    `model_id` is the SHA-256 of the card and thus, by the hashes in it, of the whole content.
    """

    path: Path
    card: Card
    model_id: str

    @property
    def classifier(self) -> Path:
        """The ONNX file of the classifier."""
        return self.path / CLASSIFIER

    @property
    def locator(self) -> Path | None:
        """The ONNX file of the locator, or None if the model has none."""
        return self.path / LOCATOR if LOCATOR in self.card.files else None

    def golden(self) -> Golden:
        """Read the samples whose FP32 scores every backend must reproduce."""
        return Golden.load(self.path / GOLDEN)


def open_model(path: Path) -> ModelFolder:
    """Open a model folder and verify every byte of it, which reads it once (some 60 MB).

    Raises `ModelError` if it is incomplete or was changed.
    """
    if not path.is_dir():
        raise ModelError(f"{path} is not a model folder: {CURE}")
    data = _read(path / CARD)
    card = parse_card(data, str(path / CARD))
    for name in REQUIRED_FILES:
        if name not in card.files:
            raise ModelError(f"{path / CARD} has no hash of {name}: {CURE}")
    for name, sha256 in card.files.items():
        if hashlib.sha256(_read(path / name)).hexdigest() != sha256:
            raise ModelError(f"{path / name} is not the file that its card describes: {CURE}")
    for name in OPTIONAL_FILES:
        if name not in card.files and (path / name).exists():
            raise ModelError(f"{path / name} is not in the card: remove it, or {CURE}")
    return ModelFolder(path, card, hashlib.sha256(data).hexdigest())


def write_card(folder: Path, card: Card) -> None:
    """Write README.md and card.json, with the hashes of all files, into a model folder.

    Raises `ModelError` for a card that `parse_card` would reject.
    """
    (folder / README).write_text(render_readme(card), encoding="utf-8")
    names = [name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (folder / name).exists()]
    files = {name: hashlib.sha256(_read(folder / name)).hexdigest() for name in names}
    data = card_json(replace(card, files=files))
    parse_card(data, str(folder / CARD))
    (folder / CARD).write_bytes(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: {CURE}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): {CURE}") from error
