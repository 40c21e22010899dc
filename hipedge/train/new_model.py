"""Make a model folder from a checkpoint of a training, or from a seed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from hipedge.errors import ConfigError, InstallationError, ModelError
from hipedge.model.card import CLASSIFIER, GOLDEN, LOCATOR
from hipedge.model.folder import Golden, ModelFolder, open_model, write_card
from hipedge.model.untrained import DEFAULT_GEOMETRY, synthetic_crops, untrained_card
from hipedge.types import CropGeometry

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

    `geometry` is for a model from a seed; a checkpoint has its own. `locator` is the file of a
    trained locator, which becomes a part of the model. The folder is written atomically, and only
    where there is none or an empty one.

    Raises `InstallationError` without the extra `train`; `ConfigError` unless exactly one of
    checkpoint and seed is given; `ModelError` for an invalid checkpoint, and for a folder that
    cannot be written.
    """
    if (checkpoint is None) == (seed is None):
        raise ConfigError("a new model is made from a checkpoint or from a seed: give one of them")
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise InstallationError(
            f"a new model needs {', '.join(missing)}: pip install 'hipedge[train]'"
        )
    from hipedge.export.onnx import export_classifier, metadata_of
    from hipedge.train.network import Checkpoint, score, untrained_network

    with _atomic_folder(folder) as partial:
        if checkpoint is not None:
            source = Checkpoint.load(checkpoint)
        else:
            assert seed is not None  # as checked above
            samples = synthetic_crops(geometry.size_px)
            network = untrained_network(seed, samples)
            source = Checkpoint(network, untrained_card(seed, geometry), samples)
        size_px = source.card.input.size_px
        export_classifier(
            source.network,
            partial / CLASSIFIER,
            size_px=size_px,
            metadata=metadata_of(source.card),
        )
        scores = score(source.network, source.golden_samples)
        Golden(source.golden_samples, *scores).save(partial / GOLDEN)
        if locator is not None:
            shutil.copyfile(locator, partial / LOCATOR)
        write_card(partial, source.card)
    return open_model(folder)


@contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill, and rename it to `folder` afterwards."""
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
