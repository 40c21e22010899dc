"""`hipedge train`: train a classifier or a locator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hipedge.cli.console import errors, output
from hipedge.errors import InstallationError

if TYPE_CHECKING:
    from hipedge.train.recipe import Listener
    from hipedge.train.report import DataReport

NEEDS = ("torch", "timm", "onnx", "onnxscript", "matplotlib")
MOST_NAMED = 10


def train(
    run: Annotated[
        Path,
        typer.Option("--output", "-o", help="Run folder; the same command resumes the run there."),
    ],
    manifest: Annotated[
        Path | None,
        typer.Argument(
            help="CSV with path, side, category and patient of each hip. [optional with"
            " --backgrounds]",
            show_default=False,
        ),
    ] = None,
    locator: Annotated[
        bool, typer.Option("--locator", help="Train the locator instead of the classifier.")
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(help="resnet50 (default) or efficientnet_lite0.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Training epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples a step, of all processes together.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed of weights, sample order and split.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, help="Side of a crop in pixels, a multiple of 32.")
    ] = None,
    phantoms: Annotated[
        int | None, typer.Option(min=0, help="Simulated hips added to each epoch.")
    ] = None,
    pool: Annotated[
        int | None, typer.Option(min=1, help="Number of different ones (default: all new).")
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            help="CSV of real hips without a finding, into which lesions are inserted: path,"
            " split, patient and age_class."
        ),
    ] = None,
    films: Annotated[
        Path | None,
        typer.Option(help="Folder of the films that CSVs name (default: that of the CSV)."),
    ] = None,
    real_films: Annotated[
        Path | None,
        typer.Option(
            help="CSV of real films for the locator, with and without hips: path, split, patient,"
            " left_x, left_y, right_x and right_y."
        ),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(help="File or folder of pictures that are no radiographs, for the locator."),
    ] = None,
    insertions: Annotated[
        int | None, typer.Option(min=1, help="Inserted lesions added to each epoch.")
    ] = None,
    insertion_pool: Annotated[
        int | None, typer.Option(min=1, help="Number of different ones (default: all new).")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Do not start from ImageNet weights.")
    ] = False,
    imagenet_weights: Annotated[
        Path | None, typer.Option(help="File of ImageNet weights, where there is no network.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model on its card.")] = None,
    about: Annotated[str | None, typer.Option(help="A sentence on its card.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for crops and simulated hips (default: in the run folder)."),
    ] = None,
    appearance: Annotated[
        Path | None,
        typer.Option(help="Folder of real images whose appearance the locator's samples take on."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda (default: a GPU).")] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that simulate and augment samples.")
    ] = 0,
) -> None:
    """Train a model by the study's recipe; the same command resumes an interrupted run.

    `torchrun --nproc-per-node=N -m hipedge train ...` uses N GPUs.
    """
    if missing := [module for module in NEEDS if find_spec(module) is None]:
        raise InstallationError(
            f"training needs {', '.join(missing)}: pip install 'hipedge[train]'"
        )
    shared = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    if locator:
        unsupported: dict[str, object] = {
            "--size": size,
            "--backbone": backbone,
            "--phantoms": phantoms,
            "--pool": pool,
            "--insertions": insertions,
            "--insertion-pool": insertion_pool,
            "--imagenet-weights": imagenet_weights,
            "--name": name,
            "--cache": cache,
        }
        if given := _given(unsupported):
            raise typer.BadParameter(f"the locator has no {', '.join(given)}")
        if manifest is None:
            raise typer.BadParameter("the locator needs a manifest")
        if real_films is None and (backgrounds or films or pictures):
            raise typer.BadParameter(
                "the locator takes --backgrounds, --films and --pictures with --real-films"
            )
        # Imported once the options are known to be right: torch takes seconds.
        from hipedge.train.locator import LocatorSettings, train_locator
        from hipedge.train.real_films import RealFilmSources

        with _listener() as listener:
            path = train_locator(
                manifest,
                run,
                replace(LocatorSettings(imagenet=not from_scratch), **_given(shared)),
                real_films=RealFilmSources(real_films, films, backgrounds, tuple(pictures or ()))
                if real_films
                else None,
                about=about or "",
                appearance=appearance,
                device=device,
                workers=workers,
                listener=listener,
            )
        errors.print(f"{path}: add it with `hipedge model new --locator`", soft_wrap=True)
        return
    of_locator: dict[str, object] = {
        "--appearance": appearance,
        "--real-films": real_films,
        "--pictures": pictures,
    }
    if given := _given(of_locator):
        raise typer.BadParameter(f"only the locator has {', '.join(given)}")
    from hipedge.train.recipe import train as train_classifier
    from hipedge.train.settings import TrainingSettings

    of_classifier: dict[str, object] = {
        **shared,
        "backbone": backbone,
        "phantoms": phantoms,
        "pool": pool,
        "insertions": insertions,
        "insertion_pool": insertion_pool,
        "name": name,
        "about": about,
    }
    settings = replace(TrainingSettings(imagenet=not from_scratch), **_given(of_classifier))
    if size is not None:
        settings = replace(settings, geometry=replace(settings.geometry, size_px=size))
    with _listener() as listener:
        path = train_classifier(
            manifest,
            run,
            settings,
            backgrounds=backgrounds,
            films=films,
            cache=cache,
            device=device,
            workers=workers,
            imagenet_weights=imagenet_weights,
            listener=listener,
        )
    errors.print(
        f"{path}: make a model of it with `hipedge model new --checkpoint`", soft_wrap=True
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _listener() -> Iterator[Listener]:
    """Show progress: a bar for films, a summary of the data, and a bar with loss and score."""
    from hipedge.train import loop
    from hipedge.train.recipe import Listener

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=errors,
        redirect_stdout=False,
    ) as bars:
        films = bars.add_task("films", visible=False, note="")
        steps = bars.add_task("steps", visible=False, note="")

        def on_film(done: int, of: int) -> None:
            bars.update(films, completed=done, total=of, visible=True)

        def on_progress(progress: loop.Progress) -> None:
            score = "" if progress.score is None else f"  validation {progress.score:.3f}"
            note = f"loss {progress.loss:.4f}{score}"
            bars.update(
                steps, completed=progress.step, total=progress.steps, visible=True, note=note
            )

        def on_remark(text: str) -> None:
            bars.console.print(f"[yellow]note:[/] {text}", highlight=False, soft_wrap=True)

        yield Listener(on_film, _print_report, on_progress, on_remark)


def _print_report(report: DataReport) -> None:
    """Print a summary of the data to standard output."""
    table = Table("category", *report.hips, box=None)
    for category in next(iter(report.hips.values())):
        table.add_row(category.value, *(str(counts[category]) for counts in report.hips.values()))
    table.add_row("patients", *(str(n) for n in report.patients.values()), style="dim")
    output.print(table)
    for what, counts in (("sites", report.sites), ("sides", report.sides)):
        output.print(f"{what}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    if report.ages_years:
        youngest, median, oldest = report.ages_years
        output.print(f"ages in train: {youngest:g} to {oldest:g} years, median {median:g}")
    if report.ages_unknown:
        output.print(f"{report.ages_unknown} hips in train of unknown age")
    for lines in report.copies[:MOST_NAMED]:
        output.print(f"copies of one another: lines {', '.join(map(str, lines))}")
    for line, why in report.refused[:MOST_NAMED]:
        output.print(f"left out: line {line}: {why}", highlight=False, soft_wrap=True)
    if len(report.refused) > MOST_NAMED:
        output.print(f"and {len(report.refused) - MOST_NAMED} more left out (data.json)")
