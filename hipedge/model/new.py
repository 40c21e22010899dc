"""Make a model folder: from a checkpoint of a training, or from a seed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import ConfigError, InstallationError, ModelError
from hipedge.imaging.prepare import to_bytes
from hipedge.model.card import CLASSIFIER, GOLDEN, LOCATOR, Card, Status
from hipedge.model.folder import GOLDEN_SAMPLES, Golden, ModelFolder, open_model, write_card
from hipedge.types import ABNORMAL, CropGeometry

DEFAULT_GEOMETRY = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)

# The standard deviation of a synthetic crop's pixels, of a radiograph's order of magnitude.
SYNTHETIC_CONTRAST = 1000.0

# The extra `train`: onnxscript is imported by torch's exporter.
NEEDS = ("torch", "timm", "onnx", "onnxscript")


def new_model(
    folder: Path,
    *,
    checkpoint: Path | None = None,
    seed: int | None = None,
    locator: Path | None = None,
    geometry: CropGeometry = DEFAULT_GEOMETRY,
) -> ModelFolder:
    """Write a model folder from a training's checkpoint, or from a seed with status `untrained`.

    `geometry` is that of a model from a seed; a checkpoint brings its own. `locator` is the file
    of a trained locator, to be part of the model. The folder appears whole or not at all, and
    never in place of one that holds something.

    Raises `InstallationError` without the extra `train`; `ConfigError` unless exactly one of
    checkpoint and seed is given; `ModelError` for a checkpoint that is none, and for a folder
    that cannot be written.
    """
    if (checkpoint is None) == (seed is None):
        raise ConfigError("a new model is made from a checkpoint or from a seed: give one of them")
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise InstallationError(
            f"a new model needs {', '.join(missing)}: pip install 'hipedge[train]'"
        )
    from hipedge.export.onnx import export_classifier
    from hipedge.train.network import Checkpoint, score, untrained_network

    with _whole_or_not_at_all(folder) as partial:
        if checkpoint is not None:
            source = Checkpoint.load(checkpoint)
        else:
            assert seed is not None  # as checked above
            samples = synthetic_crops(geometry.size_px)
            network = untrained_network(seed, samples)
            source = Checkpoint(network, untrained_card(seed, geometry), samples)
        size_px = source.card.input.size_px
        export_classifier(source.network, partial / CLASSIFIER, size_px=size_px)
        scores = score(source.network, source.golden_samples)
        Golden(source.golden_samples, *scores).save(partial / GOLDEN)
        if locator is not None:
            shutil.copyfile(locator, partial / LOCATOR)
        write_card(partial, source.card)
    return open_model(folder)


def untrained_card(seed: int, geometry: CropGeometry) -> Card:
    """Return the card of a model that has learned nothing; its thresholds are placeholders."""
    return Card(
        name=f"untrained-{seed}",
        version="0",
        status=Status.UNTRAINED,
        status_text="Its weights are random: its results mean nothing.",
        input=geometry,
        temperature=1.0,
        operating_points={
            "sensitive": dict.fromkeys(ABNORMAL, 0.3),
            "specific": dict.fromkeys(ABNORMAL, 0.6),
        },
        min_confidence=0.25,
        age_range_years=None,
        training_data=f"None: weights drawn at random from seed {seed}.",
    )


def synthetic_crops(size_px: int) -> NDArray[np.uint8]:
    """Return 64 random fields, uint8 (64, 1, S, S), with the spectra and contrast of radiographs.

    The power of a radiograph falls with spatial frequency as f^-β, β about 3 (Burgess, 1999,
    doi:10.1364/JOSAA.16.000633, for mammograms); here β goes from 2 to 4.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / size_px)
    crops = []
    for beta in np.linspace(2.0, 4.0, GOLDEN_SAMPLES):
        spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px))) * frequency ** (-beta / 2)
        field = np.fft.irfft2(spectrum, s=(size_px, size_px))
        field *= SYNTHETIC_CONTRAST / field.std()
        crops.append(to_bytes(field.astype(np.float32)))
    return np.stack(crops)[:, None]


@contextmanager
def _whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Give a hidden folder to fill, which is renamed to `folder` once that is done."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not empty: name a new folder")
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
