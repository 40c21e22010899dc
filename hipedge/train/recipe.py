"""The study's recipe, from a manifest to a checkpoint, in one call that can be interrupted.

RUN/settings.json    the settings; the same call again resumes the training
RUN/data.json        a summary of the data
RUN/cache/           crops, backgrounds and simulated hips
RUN/state.pt         the state of the training
RUN/curves.png, history.json
RUN/predictions.csv  probabilities of every hip of the manifest outside training
RUN/checkpoint.pt    what `hipedge model new --checkpoint` takes

Three kinds of hips may be mixed: labelled ones of a manifest, lesions inserted into real hips
without a finding (`backgrounds`), and phantoms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hipedge.errors import ConfigError, InputError
from hipedge.train.augment import augment
from hipedge.train.classifier import (
    Classification,
    HipObjective,
    confusion,
    macro_f1,
    score_crops,
)
from hipedge.train.curves import draw_curves
from hipedge.train.data import Crops, LabelledCrops, OnFilm, check_pixels, prepare_crops
from hipedge.train.distill import Distillation
from hipedge.train.distributed import DistributedContext, distributed_context
from hipedge.train.finish import CHECKPOINT, finish, is_calibration
from hipedge.train.loop import History, OnProgress, Schedule, fit
from hipedge.train.losses import FocalLoss, class_balanced_weights
from hipedge.train.manifest import TRAIN, VAL, Manifest, read_manifest
from hipedge.train.network import Checkpoint, HipNet
from hipedge.train.phantoms import DrawPhantom
from hipedge.train.report import DataReport, describe
from hipedge.train.restyle import Restyle
from hipedge.train.samples import CropSamples, Joined, SimulatedSamples
from hipedge.train.settings import Run, TrainingSettings, open_folder, write_json
from hipedge.types import CATEGORIES

if TYPE_CHECKING:
    from hipedge.train.insertions import InsertionSource

# Lesions inserted into real hips and phantoms where only films without labels are given: per epoch
# so many, and in this mixture, which was the best of those compared on real films.
SIMULATED_PER_EPOCH = 4000
INSERTED_SHARE = 0.6
# Part of the samples whose appearance is changed: phantoms need it more than real backgrounds.
RESTYLED_PHANTOMS, RESTYLED_INSERTIONS = 1.0, 0.6


@dataclass(frozen=True)
class Listener:
    """Callbacks of a training: films read, summary of the data, each step, and remarks."""

    on_film: OnFilm = lambda done, of: None
    on_data: Callable[[DataReport], None] = lambda report: None
    on_progress: OnProgress = lambda progress: None
    on_remark: Callable[[str], None] = lambda text: None


MakeObjective = Callable[[TrainingSettings, Sequence[int]], HipObjective]


def untrained_objective(settings: TrainingSettings, counts: Sequence[int]) -> Classification:
    """Return HipNet with random weights, the same for a seed, under class-balanced focal loss.

    `counts` are the numbers of different samples of each category (K,).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = HipNet(settings.backbone, size_px=settings.geometry.size_px)
    return Classification(
        network,
        FocalLoss(class_balanced_weights(counts)),
        settings.guidance,
        settings.faithfulness,
    )


def distilling_from(teacher: Path) -> MakeObjective:
    """Return what makes HipNet with random weights learn from a checkpoint instead of labels.

    Raises `ModelError` for a file that is no checkpoint.
    """
    checkpoint = Checkpoint.load(teacher)

    def objective(settings: TrainingSettings, counts: Sequence[int]) -> Distillation:
        del counts
        if checkpoint.card.input != settings.geometry:
            raise ConfigError(
                f"{teacher} was trained on crops of {checkpoint.card.input}, which are not those"
                f" of this training, {settings.geometry}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return Distillation(
                HipNet(settings.backbone, size_px=settings.geometry.size_px), checkpoint.network
            )

    return objective


DEFAULTS = TrainingSettings()
NO_CALLBACKS = Listener()


def train(
    manifest_path: Path | None,
    folder: Path,
    settings: TrainingSettings = DEFAULTS,
    *,
    backgrounds: Path | None = None,
    films: Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
    workers: int = 0,
    imagenet_weights: Path | None = None,
    teacher: Path | None = None,
    make_objective: MakeObjective = untrained_objective,
    listener: Listener = NO_CALLBACKS,
) -> Path:
    """Train, calibrate and measure a classifier; return its checkpoint, in `folder`.

    `backgrounds` is a manifest of real hips without a finding (`hipedge.insertion.manifest`), with
    paths relative to `films` (by default to its own folder). Where it is given and the settings
    name no numbers, inserted lesions and phantoms are mixed 60 to 40.

    The same call resumes an interrupted training, with the same result. Under `torchrun` several
    processes share the work. Crops and simulated hips are kept in `cache`, which several trainings
    may share; by default it is in `folder`. `device` is as in `distributed_context`; `workers` is
    the number of processes that simulate and augment samples. `imagenet_weights` is a file of
    weights for the backbone, in place of those that it finds by itself. With `teacher`, another
    training's checkpoint, the network learns what that one makes of the samples, not their labels.

    Raises `InputError` for faults of a manifest or its films; `ConfigError` where there is nothing
    to train on, and where `folder` holds a training with other settings; `ModelError` where
    `teacher` is no checkpoint.
    """
    if manifest_path is None and backgrounds is None:
        raise ConfigError("nothing to train on: give a manifest of labelled hips, or backgrounds")
    settings = _with_mixture(settings, backgrounds)
    if teacher is not None:
        make_objective = distilling_from(teacher)
        settings = replace(settings, teacher=sha256(teacher.read_bytes()).hexdigest())
    manifest = None if manifest_path is None else read_manifest(manifest_path, seed=settings.seed)
    cache = cache or folder / "cache"

    def load(on_film: OnFilm) -> _Data:
        crops = insertions = None
        if manifest is not None:
            crops = prepare_crops(manifest.rows, settings.geometry, cache, on_film)
            check_pixels(crops, manifest.path)
        if backgrounds is not None:
            from hipedge.train.insertions import InsertionSource  # needs the extra `phantom`

            insertions = InsertionSource.open(backgrounds, films, settings.geometry, cache, on_film)
        return _Data(crops, insertions, cache)

    with distributed_context(device) as place:
        if place.leads:
            open_folder(folder, settings, manifest)
            for _ in _simulations(load(listener.on_film), settings):
                pass  # makes the files of the pools, before several processes open them
        place.wait()
        data = load(NO_CALLBACKS.on_film)
        run = _run(folder, settings, manifest, data)
        if place.leads:
            _report(run, data, listener)
        _check_enough(run)
        network, history = _fit(
            run, data, place, workers, imagenet_weights, make_objective, listener
        )
        if place.leads:
            write_json(folder / "history.json", vars(history))
            draw_curves(history, folder / "curves.png")
            finish(run, network, place.device)
    return folder / CHECKPOINT


@dataclass(frozen=True, eq=False)
class _Data:
    """Labelled crops and backgrounds, where there are any, and the folder of what is kept."""

    crops: Crops | None
    insertions: InsertionSource | None
    cache: Path


def _with_mixture(settings: TrainingSettings, backgrounds: Path | None) -> TrainingSettings:
    """Return the settings with the default numbers of simulated hips where none are given."""
    if backgrounds is None:
        if settings.insertions:
            raise ConfigError("lesions can be inserted only into backgrounds: give their manifest")
        return settings
    if settings.insertions:
        return settings
    inserted = round(INSERTED_SHARE * SIMULATED_PER_EPOCH)
    phantoms = settings.phantoms or SIMULATED_PER_EPOCH - inserted
    return replace(settings, insertions=inserted, phantoms=phantoms)


def _run(folder: Path, settings: TrainingSettings, manifest: Manifest | None, data: _Data) -> Run:
    held_out: dict[str, LabelledCrops] = {}
    report = None
    if data.crops is not None:
        report = describe(data.crops)
        held_out |= {split: data.crops.in_split(split) for split in report.hips if split != TRAIN}
    if data.insertions is not None:
        for split in data.insertions.splits:
            held_out[f"inserted_{split}"] = data.insertions.held_out(split, settings.seed)
    backgrounds = () if data.insertions is None else data.insertions.summary()
    return Run(folder, settings, manifest, report, held_out, backgrounds)


def _report(run: Run, data: _Data, listener: Listener) -> None:
    """Write what the data hold, and tell the listener."""
    content = run.report.to_json() if run.report else {}
    if data.insertions is not None:
        left_out = [vars(hip) for hip in data.insertions.backgrounds.left_out]
        content |= {"backgrounds": list(run.sources), "backgrounds_left_out": left_out}
        for text in run.sources:
            listener.on_remark(text)
    write_json(run.folder / "data.json", content)
    if run.report is not None:
        listener.on_data(run.report)


def _check_enough(run: Run) -> None:
    if not any(is_calibration(name) for name in run.held_out):
        raise InputError(f"no hip that could be read is in the split {VAL}")
    if run.report is None or run.settings.insertions:
        return
    if TRAIN not in run.report.hips:
        raise InputError(f"no hip that could be read is in the split {TRAIN}")
    if len([n for n in run.report.hips[TRAIN].values() if n]) < 2:
        raise InputError("all hips in train are of one category: there is nothing to tell apart")


def _fit(
    run: Run,
    data: _Data,
    place: DistributedContext,
    workers: int,
    imagenet_weights: Path | None,
    make_objective: MakeObjective,
    listener: Listener,
) -> tuple[HipNet, History]:
    settings = run.settings
    samples, counts = _samples(data, settings)
    objective = make_objective(settings, counts)
    if settings.imagenet:
        try:
            objective.pretrained = objective.network.backbone.load_imagenet(imagenet_weights)
        except ConfigError as error:
            listener.on_remark(f"{error}: training starts from random weights")
    held_out = [crops for name, crops in run.held_out.items() if is_calibration(name)]

    def validate(average: nn.Module) -> float:
        assert isinstance(average, HipNet)
        logits = [score_crops(average, c.pixels, place.device, mixed=True) for c in held_out]
        truth = np.concatenate([crops.categories for crops in held_out])
        return macro_f1(confusion(truth, np.concatenate(logits).argmax(axis=1)))

    schedule = Schedule(
        steps=settings.epochs * (len(samples) // settings.batch_size),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    average, history = fit(
        objective,
        samples,
        validate,
        schedule,
        run.folder,
        place=place,
        workers=workers,
        on_progress=listener.on_progress,
    )
    assert isinstance(average, HipNet)
    return average, history


def _samples(data: _Data, settings: TrainingSettings) -> tuple[Joined, list[int]]:
    """Return the training samples, and how many different ones there are of each category."""
    sources: list[CropSamples | SimulatedSamples] = []
    counts = np.zeros(len(CATEGORIES))
    if data.crops is not None and len(chosen := data.crops.of(TRAIN)):
        labelled = CropSamples(data.crops, chosen, settings.strength, settings.seed)
        counts += np.bincount(labelled.categories, minlength=len(CATEGORIES))
        sources.append(labelled)
    for simulated, shares in _simulations(data, settings):
        counts += simulated.pool * np.array(shares)
        sources.append(simulated)
    return Joined(sources), np.rint(counts).astype(int).tolist()


def _simulations(
    data: _Data, settings: TrainingSettings
) -> Iterator[tuple[SimulatedSamples, Sequence[float]]]:
    """Yield each kind of simulated samples, with the share of each category (K,)."""
    appearance = None if data.insertions is None else data.insertions.appearance(settings.seed)
    if settings.insertions and data.insertions is not None:
        draw = data.insertions.training()
        samples = SimulatedSamples(
            draw,
            Restyle(appearance, RESTYLED_INSERTIONS),
            data.cache,
            source=f"insertions {data.insertions.digest}",
            geometry=settings.geometry,
            per_epoch=settings.insertions,
            pool=settings.inserted_pool,
            seed=settings.seed,
        )
        yield samples, [draw.shares[category] for category in CATEGORIES]
    if settings.phantoms:
        phantom = DrawPhantom(settings.geometry)
        strength = settings.strength
        samples = SimulatedSamples(
            phantom,
            Restyle(appearance, RESTYLED_PHANTOMS)
            if appearance is not None
            else lambda square, mask, rng: augment(square, mask, rng, strength),
            data.cache,
            source="phantoms",
            geometry=settings.geometry,
            per_epoch=settings.phantoms,
            pool=settings.phantom_pool,
            seed=settings.seed,
        )
        yield samples, [phantom.shares[category] for category in CATEGORIES]
