"""What `hipedge export int8` calibrates on, what it proves with, and its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hipedge.backends.int8_cache import Trial
from hipedge.cli.console import errors
from hipedge.errors import InputError
from hipedge.export.int8_trial import Labelled
from hipedge.model import ModelFolder
from hipedge.pipeline.discover import discover
from hipedge.pipeline.preprocessor import Prepared, Preprocessor

# The most hips to calibrate on: more change no range by much.
MOST_SAMPLES = 256
# Of none of the phantoms that a model was trained on.
PHANTOM_SEED = 77_008


def calibration_samples(model: ModelFolder, films: Path | None) -> NDArray[np.uint8]:
    """Return the samples uint8 (N, 1, S, S) of a folder of films, or the golden ones.

    Raises `InputError` where no hip is found.
    """
    if films is None:
        return model.golden().samples
    preprocess = Preprocessor.for_model(model)
    found: list[NDArray[np.uint8]] = []
    for path in discover([films]).files:
        if isinstance(prepared := preprocess(path), Prepared):
            found += [sample.pixels for _, samples in prepared.hips for sample in samples]
        if len(found) >= MOST_SAMPLES:
            break
    if not found:
        raise InputError(f"no hip is found in {films}: give films that `hipedge screen` reads")
    return np.stack(found[:MOST_SAMPLES])


def labelled_hips(model: ModelFolder, manifest: Path | None, phantoms: int) -> Labelled:
    """Return the hips of a manifest, or of so many phantoms that are drawn now."""
    from hipedge.train.data import prepare_crops
    from hipedge.train.manifest import read_manifest

    with TemporaryDirectory() as folder:
        if manifest is None:
            from hipedge.phantom.generate import generate

            errors.print(f"drawing {phantoms} phantoms")
            generate(Path(folder), count=phantoms, seed=PHANTOM_SEED)
            manifest = Path(folder, "truth.csv")
        rows = read_manifest(manifest).rows
        crops = prepare_crops(rows, model.card.input, Path(folder))
        patients = [row.patient for row in crops.rows]
        return Labelled(np.array(crops.pixels), crops.categories, patients)


def trial_table(trials: Mapping[str, Trial]) -> Table:
    """Return a column for each runtime."""
    table = Table("", *trials)
    rows: dict[str, Callable[[Trial], str]] = {
        "proved": lambda trial: "[red]no[/]" if trial.faults else "[green]yes[/]",
        "ms a hip, FP32 → INT8": lambda t: f"{t.reference_ms:.2f} → {t.int8_ms:.2f}",
        "labelled hips": lambda trial: str(trial.report["hips"]),
        "largest Δ probability": lambda trial: f"{trial.report['probability_difference']:.4f}",
        "the same, golden samples": lambda t: f"{t.report['golden_probability_difference']:.4f}",
        "categories changed": lambda trial: str(trial.report["category_changes"]),
        "flags changed": lambda trial: str(trial.report["flag_changes"]),
        "urgent flags lost": lambda trial: str(trial.report["urgent_lost"]),
        "heat map's sum less logit": lambda trial: f"{trial.report['map_difference']:.1e}",
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(trial) for trial in trials.values()))
    for index, one in enumerate(next(iter(trials.values())).report["differences"]):
        of_each = [trial.report["differences"][index] for trial in trials.values()]
        table.add_row(f"Δ {one['name']}", *map(_points, of_each))
    return table


def _points(difference: Mapping[str, float]) -> str:
    change, *interval = (
        100 * value
        for value in (
            difference["int8"] - difference["fp32"],
            difference["low"],
            difference["high"],
        )
    )
    return f"{change:+.1f} ({interval[0]:+.1f} to {interval[1]:+.1f})"
