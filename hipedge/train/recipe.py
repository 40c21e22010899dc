"""The study's recipe, from a manifest to a checkpoint, in one call that can be interrupted.

RUN/settings.json    what was asked for; the same again goes on where it stopped
RUN/data.json        what the data hold
RUN/cache/           crops and phantoms
RUN/state.pt         where the training stands
RUN/curves.png, history.json
RUN/predictions.csv  probabilities of every hip outside training, for `hipedge evaluate`
RUN/checkpoint.pt    what `hipedge model new --checkpoint` takes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hipedge.errors import ConfigError, InputError
from hipedge.train.classifier import (
    Classification,
    confusion,
    macro_f1,
    score_crops,
)
from hipedge.train.curves import draw_curves
from hipedge.train.data import Crops, OnFilm, check_pixels, prepare_crops
from hipedge.train.distributed import DistributedContext, distributed_context
from hipedge.train.finish import CHECKPOINT, finish
from hipedge.train.loop import History, OnProgress, Schedule, fit
from hipedge.train.losses import FocalLoss, class_balanced_weights
from hipedge.train.manifest import TRAIN, VAL, Manifest, read_manifest
from hipedge.train.network import HipNet
from hipedge.train.phantoms import DrawPhantom
from hipedge.train.report import DataReport, describe
from hipedge.train.samples import CropSamples, Joined, PhantomSamples
from hipedge.train.settings import Run, TrainingSettings, open_folder, write_json
from hipedge.types import CATEGORIES


@dataclass(frozen=True)
class Listener:
    """Who hears how a training goes: films read, what the data hold, each step, and remarks."""

    on_film: OnFilm = lambda done, of: None
    on_data: Callable[[DataReport], None] = lambda report: None
    on_progress: OnProgress = lambda progress: None
    on_remark: Callable[[str], None] = lambda text: None


MakeObjective = Callable[[TrainingSettings, Sequence[int]], Classification]


def untrained_objective(settings: TrainingSettings, counts: Sequence[int]) -> Classification:
    """Return HipNet with random weights, the same for a seed, under class-balanced focal loss.

    `counts` are the numbers of different samples of each category (K,).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = HipNet(settings.backbone, size_px=settings.geometry.size_px)
    return Classification(network, FocalLoss(class_balanced_weights(counts)))


DEFAULTS = TrainingSettings()
NO_CALLBACKS = Listener()


def train(
    manifest_path: Path,
    folder: Path,
    settings: TrainingSettings = DEFAULTS,
    *,
    cache: Path | None = None,
    device: str | None = None,
    workers: int = 0,
    imagenet_weights: Path | None = None,
    make_objective: MakeObjective = untrained_objective,
    listener: Listener = NO_CALLBACKS,
) -> Path:
    """Train, calibrate and measure a classifier; return its checkpoint, in `folder`.

    The same call resumes an interrupted training, with the same result. Under `torchrun` several
    processes share the work. Crops and phantoms are kept in `cache`, which several trainings may
    share; by default it is in `folder`. `device` is as in `distributed_context`; `workers` is the
    number of processes that simulate and augment samples. `imagenet_weights` is a file of weights
    for the backbone, in place of those that it finds by itself.

    Raises `InputError` for faults of the manifest or its films; `ConfigError` where `folder` holds
    a training with other settings.
    """
    manifest = read_manifest(manifest_path, seed=settings.seed)
    cache = cache or folder / "cache"
    with distributed_context(device) as place:
        if place.leads:
            open_folder(folder, settings, manifest)
            _crops(manifest, cache, settings, listener.on_film)
            _phantoms(cache, settings)
        place.wait()
        crops = _crops(manifest, cache, settings, NO_CALLBACKS.on_film)
        run = Run(folder, cache, settings, manifest, crops, describe(crops))
        if place.leads:
            write_json(folder / "data.json", run.report.to_json())
            listener.on_data(run.report)
        _check_enough(run.report)
        network, history = _fit(run, place, workers, imagenet_weights, make_objective, listener)
        if place.leads:
            write_json(folder / "history.json", vars(history))
            draw_curves(history, folder / "curves.png")
            finish(run, network, place.device)
    return folder / CHECKPOINT


def _crops(manifest: Manifest, cache: Path, settings: TrainingSettings, on_film: OnFilm) -> Crops:
    crops = prepare_crops(manifest.rows, settings.geometry, cache, on_film)
    check_pixels(crops, manifest.path)
    return crops


def _check_enough(report: DataReport) -> None:
    for split in (TRAIN, VAL):
        if split not in report.hips:
            raise InputError(f"no hip that could be read is in the split {split}")
    if len([n for n in report.hips[TRAIN].values() if n]) < 2:
        raise InputError("all hips in train are of one category: there is nothing to tell apart")


def _fit(
    run: Run,
    place: DistributedContext,
    workers: int,
    imagenet_weights: Path | None,
    make_objective: MakeObjective,
    listener: Listener,
) -> tuple[HipNet, History]:
    settings, crops = run.settings, run.crops
    samples, counts = _samples(run)
    objective = make_objective(settings, counts)
    if settings.imagenet:
        try:
            objective.pretrained = objective.network.backbone.load_imagenet(imagenet_weights)
        except ConfigError as error:
            listener.on_remark(f"{error}: training starts from random weights")
    val = crops.of(VAL)
    pixels, truth = crops.pixels[val], crops.categories[val]

    def validate(average: nn.Module) -> float:
        assert isinstance(average, HipNet)
        logits = score_crops(average, pixels, place.device, mixed=True)
        return macro_f1(confusion(truth, logits.argmax(axis=1)))

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


def _samples(run: Run) -> tuple[Joined, list[int]]:
    """Return what is trained on, and how many different samples of each category it has."""
    settings, crops = run.settings, run.crops
    of_crops = CropSamples(crops, crops.of(TRAIN), settings.strength, settings.seed)
    counts = np.bincount(of_crops.categories, minlength=len(CATEGORIES)).tolist()
    if (of_phantoms := _phantoms(run.cache, settings)) is None:
        return Joined([of_crops]), counts
    of_all = DrawPhantom(settings.geometry).shares
    shares = [of_all[category] for category in CATEGORIES]
    return Joined([of_crops, of_phantoms]), [
        n + round(settings.phantom_pool * share) for n, share in zip(counts, shares, strict=True)
    ]


def _phantoms(cache: Path, settings: TrainingSettings) -> PhantomSamples | None:
    """Return the phantoms asked for, with the files of their pool in `cache`."""
    if not settings.phantoms:
        return None
    return PhantomSamples(
        DrawPhantom(settings.geometry),
        cache,
        geometry=settings.geometry,
        per_epoch=settings.phantoms,
        pool=settings.phantom_pool,
        strength=settings.strength,
        seed=settings.seed,
    )
