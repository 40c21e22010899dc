"""`hipedge export`: build an engine, quantize a model, or verify backends against FP32 scores."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from hipedge import backends
from hipedge.backends.int8_cache import record_trial, write_int8
from hipedge.backends.parity import Parity, ParityError, check_parity
from hipedge.backends.tensorrt.engine_cache import Profile
from hipedge.backends.tensorrt.flavours import choose_flavour
from hipedge.backends.tensorrt.gpu import first_gpu
from hipedge.cli.console import errors, fingerprint_lines, output
from hipedge.cli.options import ConfigOption
from hipedge.config import load_settings
from hipedge.errors import InstallationError
from hipedge.export.engine import Progress as Report
from hipedge.export.engine import Recipe, export_engine
from hipedge.model import open_model, require_model

app = typer.Typer(
    no_args_is_help=True,
    help="Build an engine or an INT8 file for this device, or verify backends.",
)

ModelArgument = Annotated[
    Path | None,
    typer.Argument(help="Model folder (default: the settings', or the reference model)."),
]


@app.command()
def engine(
    model: ModelArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write, NAME.engine (default: in the cache)."),
    ] = None,
    flavour: Annotated[str, typer.Option(help="auto, tensorrt or rtx.")] = "auto",
    lean: Annotated[
        bool,
        typer.Option(
            "--lean",
            help="For TensorRT's lean runtime of this version or a later one, on such a GPU.",
        ),
    ] = False,
    batch: Annotated[
        str, typer.Option(help="Batch sizes, LEAST:BEST:MOST; the engine is optimised for BEST.")
    ] = "1:8:32",
    target: Annotated[
        list[str] | None,
        typer.Option(help="Compute capability to build for, e.g. 8.9; may be repeated. RTX only."),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of timings to reuse and update.")
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="TensorRT's builder optimization level.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Build even if the engine exists.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Build an FP16 engine of a model for this machine's GPU, or with RTX a portable one.

    An engine is used only after it has agreed with the model's FP32 scores on its GPU.
    """
    folder = open_model(require_model(load_settings({"model": model}, config).model))
    recipe = Recipe(
        flavour=choose_flavour(flavour),
        profile=Profile.parse(batch),
        targets=tuple(target or ()),
        optimization_level=optimization_level,
        timing_cache=timing_cache,
        lean=lean,
    )
    with build_progress() as report:
        engine = export_engine(
            folder,
            recipe,
            device=None if recipe.flavour.builds_without_gpu else str(first_gpu()),
            output=out,
            force=force,
            progress=report,
        )
    if engine.built:
        errors.print(f"{engine.path}: built in {engine.sidecar.build_s:.1f} s", soft_wrap=True)
    else:
        errors.print(f"{engine.path}: exists already; --force rebuilds it", soft_wrap=True)
    if not engine.sidecar.devices_verified(folder.model_id):
        errors.print("It is not verified on a GPU yet. Its first use there verifies it, as does")
    engines = f"HIPEDGE_ENGINES={quote(str(out.absolute().parent))} " if out else ""
    command = f"hipedge export verify {quote(str(folder.path))} --backend tensorrt"
    output.print(engines + command, soft_wrap=True)


@app.command()
def int8(
    model: ModelArgument = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of films to calibrate on (default: the golden samples)."),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="Manifest of labelled hips to prove it on (default: phantoms)."),
    ] = None,
    phantoms: Annotated[
        int, typer.Option(min=1, help="Phantoms that are drawn where no manifest is given.")
    ] = 400,
    config: ConfigOption = None,
) -> None:
    """Quantize a model to INT8, and prove it with each runtime on this CPU. Exit 1 if refused.

    A runtime takes INT8 only where it is proved and faster. The reports are in a JSON beside it.
    """
    from hipedge.cli.int8 import calibration_samples, labelled_hips, trial_table
    from hipedge.export.int8_trial import try_int8

    try:
        from hipedge.export.int8 import quantize
    except ImportError as error:
        raise InstallationError(f"INT8 needs {error.name}: pip install 'hipedge[train]'") from error
    folder = open_model(require_model(load_settings({"model": model}, config).model))
    samples = calibration_samples(folder, calibrate)
    hips = labelled_hips(folder, labelled, phantoms)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    path = write_int8(folder, quantize(folder.classifier, samples), digest)
    trials = {
        name: try_int8(name, folder, path, hips)
        for name, row in backends.BACKENDS.items()
        if row.int8 and backends.obstacle(name) is None
    }
    for name, trial in trials.items():
        record_trial(path, name, trial)
    output.print(trial_table(trials))
    for name, trial in trials.items():
        output.print(f"{name}: {trial.reason}", soft_wrap=True, markup=False)
    errors.print(f"{path}: {len(samples)} samples calibrated it", soft_wrap=True)
    if any(trial.faults for trial in trials.values()):
        raise typer.Exit(1)


@app.command()
def verify(
    model: ModelArgument = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Backend to verify; may be repeated (default: all that can run)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Compare backends with the model's FP32 golden scores. Exit 1 if one disagrees."""
    folder = open_model(require_model(load_settings({"model": model}, config).model))
    found: dict[str, Parity] = {}
    for name in backend or _runnable():
        try:
            with backends.open_backend(name, folder, quantized=False) as opened:
                found[str(opened.fingerprint)] = check_parity(opened, folder)
        except ParityError as error:
            found[str(error.fingerprint)] = error.parity
    if as_json:
        records = {
            name: {**asdict(parity), "agrees": parity.agrees, "faults": parity.faults}
            for name, parity in found.items()
        }
        json.dump(records, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        output.print(_table(found))
    if not all(parity.agrees for parity in found.values()):
        raise typer.Exit(1)


def _runnable() -> Iterator[str]:
    """Yield each backend that can run here; print why the others cannot."""
    for name, row in backends.BACKENDS.items():
        if not row.automatic:
            continue
        if (reason := backends.obstacle(name)) is None:
            yield name
        else:
            errors.print(f"skipped: {reason}", soft_wrap=True, markup=False)


def _table(found: dict[str, Parity]) -> Table:
    """Return a column for each backend, which is narrower than a row."""
    table = Table("", *(fingerprint_lines(name) for name in found))
    rows: dict[str, Callable[[Parity], str]] = {
        "agrees": lambda parity: "[green]yes[/]" if parity.agrees else "[red]no[/]",
        "largest Δ probability": lambda parity: f"{parity.probability_difference:.4f}",
        "largest Δ heat map": lambda parity: f"{parity.map_difference:.4f}",
        "largest Δ by batch": lambda parity: f"{parity.batch_difference:.6f}",
        "categories changed": lambda parity: str(parity.category_changes),
        "flags changed": lambda parity: str(parity.flag_changes),
        "close calls left out": lambda parity: f"{parity.close_calls} of {parity.decisions}",
        "samples not finite": lambda parity: f"{parity.not_finite} of {parity.samples}",
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(parity) for parity in found.values()))
    return table


@contextmanager
def build_progress() -> Iterator[Report]:
    """Show the phase of the build that TensorRT is in."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("Building engine", total=None)
        yield lambda phase, done, total: bar.update(
            task, description=phase, completed=done, total=total
        )
