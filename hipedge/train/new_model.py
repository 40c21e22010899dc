"""Make a model folder from a checkpoint of a training, from a seed, or from another model."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from hipedge.errors import ConfigError, InstallationError, ModelError
from hipedge.locate.session import OnnxLocator
from hipedge.model.card import CLASSIFIER, GOLDEN, LOCATOR, Card
from hipedge.model.folder import Golden, ModelFolder, open_model, write_card
from hipedge.model.untrained import DEFAULT_GEOMETRY, synthetic_crops, untrained_card
from hipedge.types import CropGeometry

# The extra `train`: onnxscript is imported by torch's exporter.
NEEDS = ("torch", "timm", "onnx", "onnxscript")
# On a card: what its locator was trained on begins with this.
ABOUT_LOCATOR = "Locator: "
# In the names of metrics that depend on the locator.
LOCATED = "found_by_the_locator"


def new_model(
    folder: Path,
    *,
    checkpoint: Path | None = None,
    seed: int | None = None,
    copy_of: Path | None = None,
    locator: Path | None = None,
    geometry: CropGeometry = DEFAULT_GEOMETRY,
) -> ModelFolder:
    """Write a model folder from a training's checkpoint, or from a seed with status `untrained`.

    Or as a copy of another model folder, `copy_of`, with another locator; its card then loses the
    metrics of real films whose hips the former locator found. `geometry` is for a model from a
    seed; a checkpoint has its own. `locator` is the file of a trained locator, which becomes a part
    of the model; the card says what it was trained on, as far as the file does. The folder is
    written atomically, and only where there is none or an empty one.

    Raises `InstallationError` without the extra `train`, but for a copy; `ConfigError` unless
    exactly one of checkpoint, seed and model is given, and for a copy without a locator;
    `ModelError` for an invalid checkpoint or model, and for a folder that cannot be written;
    `BackendError` for a file that is no locator.
    """
    if sum(source is not None for source in (checkpoint, seed, copy_of)) != 1:
        raise ConfigError(
            "a new model is made from a checkpoint, from a seed or from another model:"
            " give one of them"
        )
    about = OnnxLocator(locator).about if locator else ""
    if copy_of is not None:
        if locator is None:
            raise ConfigError("a copy of a model is made to have another locator: give one")
        with _atomic_folder(folder) as partial:
            model = open_model(copy_of)
            shutil.copyfile(model.classifier, partial / CLASSIFIER)
            shutil.copyfile(copy_of / GOLDEN, partial / GOLDEN)
            shutil.copyfile(locator, partial / LOCATOR)
            write_card(partial, _with_locator(model.card, about))
        return open_model(folder)
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
        write_card(partial, _with_locator(source.card, about))
    return open_model(folder)


def _with_locator(card: Card, about: str) -> Card:
    """Return a card that says what the locator was trained on, instead of what it said before."""
    training_data = card.training_data.split(f" {ABOUT_LOCATOR}")[0]
    if about:
        training_data = f"{training_data} {ABOUT_LOCATOR}{about}"
    kept = {name: value for name, value in card.metrics.items() if LOCATED not in name}
    return replace(card, training_data=training_data, metrics=kept)


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
