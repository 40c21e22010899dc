"""The reference model, from nothing to a model folder, by one command that may be interrupted.

    python -m hipedge.train.reference FOLDER [--films 1800] [--epochs 14] [--phantoms 3200] ...

    FOLDER/films/       phantoms of three hospitals with their truth: the manifest
    FOLDER/locator/     the locator's run
    FOLDER/classifier/  the classifier's run; more phantoms are drawn while it trains
    FOLDER/model/       the model, whose card says that it has seen simulated images alone

The films of the third hospital are in no training: the split `external`. The same command again
goes on where the last stopped; what is complete is left as it is. The defaults are those of the
model in the package.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hipedge.model.card import LOCATOR
from hipedge.train.finish import CHECKPOINT
from hipedge.train.locator import LocatorSettings, train_locator
from hipedge.train.loop import Progress
from hipedge.train.new_model import new_model
from hipedge.train.recipe import Listener, train
from hipedge.train.settings import TrainingSettings

ABOUT = (
    "Trained on simulated radiographs alone, to show how hipedge works: it must not be used on"
    " patients, and its results on real images are not to be relied on."
)
# So many seconds lie between two lines of the log.
LOG_S = 60.0


def make_reference(
    folder: Path,
    *,
    films: int,
    locator: LocatorSettings,
    classifier: TrainingSettings,
    appearance: Path | None = None,
    device: str | None = None,
    workers: int = 0,
    log: Callable[[str], None] = print,
) -> Path:
    """Draw, train twice, and write the model folder; return it."""
    from hipedge.phantom import generate

    manifest = generate(
        folder / "films",
        count=films,
        seed=classifier.seed,
        workers=max(1, workers),
        progress=_each_minute(log, "films"),
    )
    if not (folder / "locator" / LOCATOR).exists():
        train_locator(
            manifest,
            folder / "locator",
            locator,
            appearance=appearance,
            device=device,
            workers=workers,
            listener=_listener(log, "locator"),
        )
    if not (folder / "classifier" / CHECKPOINT).exists():
        train(
            manifest,
            folder / "classifier",
            classifier,
            device=device,
            workers=workers,
            listener=_listener(log, "classifier"),
        )
    model = folder / "model"
    if not model.exists():
        new_model(
            model,
            checkpoint=folder / "classifier" / CHECKPOINT,
            locator=folder / "locator" / LOCATOR,
        )
    return model


def _each_minute(log: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Log progress, and no more often than once a minute but for the end."""
    logged = -LOG_S

    def on_progress(done: int, of: int) -> None:
        nonlocal logged
        if done == of or time.monotonic() - logged >= LOG_S:
            logged = time.monotonic()
            log(f"{time.strftime('%H:%M:%S')} {what} {done}/{of}")

    return on_progress


def _listener(log: Callable[[str], None], what: str) -> Listener:
    films = _each_minute(log, f"{what}: films read")
    steps = _each_minute(log, f"{what}: steps")
    last: list[float] = []

    def on_progress(progress: Progress) -> None:
        steps(progress.step, progress.steps)
        if progress.score is not None and last != [progress.score]:
            last[:] = [progress.score]
            log(f"{what}: loss {progress.loss:.4f}, validation {progress.score:.4f}")

    return Listener(
        on_film=films, on_progress=on_progress, on_remark=lambda text: log(f"{what}: {text}")
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=1800)
    parser.add_argument("--locator-epochs", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--size", type=int, default=128, help="pixels of a crop's side")
    parser.add_argument("--phantoms", type=int, default=3200, help="drawn for each epoch")
    parser.add_argument("--pool", type=int, default=9600, help="different ones in all")
    parser.add_argument(
        "--appearance", type=Path, help="real images of which the locator takes the looks alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes that make samples")
    parser.add_argument("--threads", type=int, help="of torch in the training process")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    default = TrainingSettings()
    classifier = replace(
        default,
        name="hipedge-reference",
        about=ABOUT,
        geometry=replace(default.geometry, size_px=given.size),
        epochs=given.epochs,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        phantoms=given.phantoms,
        pool=given.pool,
        seed=given.seed,
        imagenet=False,
    )
    locator = LocatorSettings(epochs=given.locator_epochs, seed=given.seed)
    model = make_reference(
        given.folder,
        films=given.films,
        locator=locator,
        classifier=classifier,
        appearance=given.appearance,
        device=given.device,
        workers=given.workers,
        log=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(model)


if __name__ == "__main__":
    main()
