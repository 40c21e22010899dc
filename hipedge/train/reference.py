"""Make the reference model by one command that can be interrupted.

    python -m hipedge.train.reference FOLDER --fracatlas DIR [--epochs 12] [--size 128] ...

    FOLDER/films/       phantoms of three simulated hospitals with their truth
    FOLDER/locator/     the locator's run
    FOLDER/classifier/  the classifier's run; its samples are simulated while it trains
    FOLDER/model/       the model folder
    FOLDER/student/, FOLDER/student_model/   with --student, the same of a network distilled from it

The locator is trained on phantoms, on FracAtlas's films (DIR; Abedeen et al. 2023,
doi:10.1038/s41597-023-02432-4, CC BY 4.0) of the training patients with and without hips, on
implants drawn into them, and on pictures of other kinds. The classifier is trained on lesions
inserted into real hips of the same patients, and on phantoms. It is calibrated on the calibration
patients' hips alone. Of the phantom films it sees none: those of patients held out and of the third
hospital are its test inside and outside. The same command resumes where the last one stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from hipedge.files import write_atomically
from hipedge.model.card import LOCATOR
from hipedge.train.finish import CHECKPOINT
from hipedge.train.locator import LocatorSettings, train_locator
from hipedge.train.loop import Progress
from hipedge.train.manifest import EXTERNAL, TEST
from hipedge.train.new_model import new_model
from hipedge.train.real_films import RealFilmSources
from hipedge.train.recipe import Listener, train
from hipedge.train.settings import TrainingSettings

# The hips of FracAtlas that lesions are inserted into, with patients, splits and femoral heads.
BACKGROUNDS = Path(str(files("hipedge.insertion") / "data" / "fracatlas.csv"))
# Films of FracAtlas with and without hips for the locator, in the same split by patient.
REAL_FILMS = Path(str(files("hipedge.insertion") / "data" / "fracatlas_films.csv"))
ABOUT = (
    "Trained on simulated lesions in real radiographs (FracAtlas, Abedeen et al. 2023, CC BY 4.0)"
    " and on simulated radiographs. It has seen no real lesion: it must not be used on patients,"
    " and what it reports is no diagnosis."
)
ABOUT_LOCATOR = (
    "The manifest's films are simulated; the real ones are of FracAtlas"
    " (Abedeen et al. 2023, CC BY 4.0)."
)
LOG_INTERVAL_S = 60.0


def make_reference(
    folder: Path,
    *,
    fracatlas: Path,
    films: int,
    locator: LocatorSettings,
    classifier: TrainingSettings,
    backgrounds: Path = BACKGROUNDS,
    real_films: Path = REAL_FILMS,
    pictures: tuple[Path, ...] = (),
    appearance: Path | None = None,
    device: str | None = None,
    workers: int = 0,
    imagenet_weights: Path | None = None,
    student: TrainingSettings | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Simulate films, train locator and classifier, write the model folder; return it.

    With `student`, another classifier is distilled from the first, on the same samples, and gets a
    model folder too.
    """
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
            real_films=RealFilmSources(real_films, fracatlas, backgrounds, pictures),
            about=ABOUT_LOCATOR,
            appearance=appearance,
            device=device,
            workers=workers,
            listener=_listener(log, "locator"),
        )
    first = folder / "classifier" / CHECKPOINT
    stages: list[tuple[Path, Path, TrainingSettings, Path | None]] = [
        (folder / "model", first, classifier, None)
    ]
    if student is not None:
        stages.append((folder / "student_model", folder / "student" / CHECKPOINT, student, first))
    for model, checkpoint, settings, teacher in stages:
        if not checkpoint.exists():
            train(
                held_out_films(manifest),
                checkpoint.parent,
                settings,
                backgrounds=backgrounds,
                films=fracatlas,
                cache=first.parent / "cache",
                device=device,
                workers=workers,
                imagenet_weights=imagenet_weights if teacher is None else None,
                teacher=teacher,
                listener=_listener(log, checkpoint.parent.name),
            )
        if not model.exists():
            new_model(model, checkpoint=checkpoint, locator=folder / "locator" / LOCATOR)
    return folder / "model"


def held_out_films(manifest: Path) -> Path:
    """Write a manifest of the test films alone beside the whole one; return its path."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    split = rows[0].index("split")
    kept = [rows[0], *(row for row in rows[1:] if row[split] in (TEST, EXTERNAL))]
    path = manifest.with_name("held_out.csv")
    text = "".join(",".join(row) + "\n" for row in kept)
    write_atomically(path, text.encode())
    return path


def _each_minute(log: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Return a callback that logs progress once a minute, and the end."""
    logged = -LOG_INTERVAL_S

    def on_progress(done: int, of: int) -> None:
        nonlocal logged
        if done == of or time.monotonic() - logged >= LOG_INTERVAL_S:
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
    default = TrainingSettings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fracatlas", type=Path, required=True, help="folder of FracAtlas's films")
    parser.add_argument("--films", type=int, default=1800, help="phantom films")
    parser.add_argument("--locator-epochs", type=int, default=48)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--imagenet-weights", type=Path, help="file, where there is no network")
    parser.add_argument("--student", metavar="BACKBONE", help="of a network distilled from it")
    parser.add_argument("--student-epochs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--size", type=int, default=128, help="side of a crop in pixels")
    parser.add_argument("--insertions", type=int, default=2400, help="in each epoch")
    parser.add_argument("--insertion-pool", type=int, default=12000, help="different ones in all")
    parser.add_argument("--phantoms", type=int, default=1600, help="in each epoch")
    parser.add_argument("--pool", type=int, default=4000, help="different ones in all")
    parser.add_argument(
        "--appearance", type=Path, help="real images whose appearance the locator's samples take on"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        nargs="*",
        default=(),
        help="files or folders of pictures that are no radiographs",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes that make samples")
    parser.add_argument("--threads", type=int, help="of torch in the training process")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    classifier = replace(
        default,
        name="hipedge-reference",
        version="3",
        about=ABOUT,
        geometry=replace(default.geometry, size_px=given.size),
        backbone=given.backbone,
        epochs=given.epochs,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        insertions=given.insertions,
        insertion_pool=given.insertion_pool,
        phantoms=given.phantoms,
        pool=given.pool,
        seed=given.seed,
    )
    student = None
    if given.student:
        student = replace(
            classifier,
            backbone=given.student,
            epochs=given.student_epochs,
            learning_rate=default.learning_rate,
        )
    model = make_reference(
        given.folder,
        fracatlas=given.fracatlas,
        films=given.films,
        locator=LocatorSettings(epochs=given.locator_epochs, seed=given.seed),
        classifier=classifier,
        pictures=tuple(given.pictures),
        appearance=given.appearance,
        device=given.device,
        workers=given.workers,
        imagenet_weights=given.imagenet_weights,
        student=student,
        log=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(model)


if __name__ == "__main__":
    main()
