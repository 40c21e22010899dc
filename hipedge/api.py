"""The Python API: what a notebook or another service needs of hipedge, in six functions.

`import hipedge` offers all of it, and imports this module when a name is first used. Paths may be
strings. Every error is a `HipedgeError` whose text says what to do about it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hipedge import backends
from hipedge.config import Settings, load_settings, patient_key_of
from hipedge.errors import (
    BackendError,
    Code,
    ConfigError,
    HipedgeError,
    InputError,
    InstallationError,
    ModelError,
    State,
    StoreError,
)
from hipedge.locate.given import GivenHips, read_hips_csv
from hipedge.model import Card, ModelFolder, require_model
from hipedge.model import open_model as open_model_folder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.cpu_allocation import tuned_allocation
from hipedge.pipeline.screen import screen as run_pipeline
from hipedge.pipeline.workers import Limits
from hipedge.review.picture import case_picture, draw_case, upright_pixels
from hipedge.review.worklist import CAPTION_WIDTH, FlaggedHip, Worklist, open_review
from hipedge.review.worklist import worklist as review_worklist
from hipedge.rules.site_rule import site_rule
from hipedge.store.rows import Case
from hipedge.store.store import Store
from hipedge.types import (
    CATEGORIES,
    Box,
    Category,
    Film,
    Finding,
    Hip,
    Mark,
    Outcome,
    Priority,
    Refusal,
    ScoredHip,
    Scores,
    Screened,
    Side,
)

if TYPE_CHECKING:
    from PIL import Image

    from hipedge.study.evaluate import Evaluation

__all__ = [
    "CATEGORIES",
    "BackendError",
    "Box",
    "Card",
    "Case",
    "Category",
    "Code",
    "ConfigError",
    "Film",
    "Finding",
    "FlaggedHip",
    "Hip",
    "HipedgeError",
    "InputError",
    "InstallationError",
    "Mark",
    "ModelError",
    "ModelFolder",
    "Outcome",
    "Priority",
    "Refusal",
    "ScoredHip",
    "Scores",
    "Screened",
    "Settings",
    "Side",
    "State",
    "StoreError",
    "Worklist",
    "draw",
    "evaluate",
    "load_settings",
    "open_model",
    "read_cases",
    "screen",
    "worklist",
]

StrPath = str | PathLike[str]


def open_model(folder: StrPath | None = None) -> ModelFolder:
    """Open a model folder, or the reference model, and verify every byte of it.

    Raises `ModelError` if the folder is incomplete or was changed, and `ConfigError` if this
    installation has no reference model.
    """
    return open_model_folder(require_model(None if folder is None else Path(folder)))


def screen(
    paths: StrPath | Iterable[StrPath],
    *,
    database: StrPath | None = None,
    model: ModelFolder | StrPath | None = None,
    settings: Settings | None = None,
    hips: StrPath | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Screen files, and folders with everything in them; return an outcome per file.

    An outcome is `Screened`, with a `Finding` per hip, or a `Refusal`, which says why a file was
    not read and is never a negative result. The list is sorted by path.

    Files are read in worker processes, which do not import the script that calls this.

    Args:
        paths: Files (DICOM, PNG, JPEG or TIFF) and folders.
        database: SQLite file that the outcomes are appended to; it is created if it does not
            exist. Files whose content it already holds for this model are not screened again and
            not returned. Without it, nothing is kept on disk.
        model: A model folder. Defaults to that of the settings, or else the reference model.
        settings: Operating point, thresholds, backend, number of workers and so on. Defaults to
            `Settings()`; `load_settings({})` reads `hipedge.toml` and the environment as the
            command line does. Its `db` is not used.
        hips: CSV file of femoral-head centres or boxes, which override the locator.
        progress: Called with the number of files done and their total.

    Raises:
        InputError: A path does not exist, or the CSV file has rows that cannot be used.
        ModelError: The model folder is incomplete or was changed.
        ConfigError: The operating point or the backend is unknown.
        InstallationError: The backend is not installed.
        BackendError: The backend failed.
        StoreError: The database cannot be read or written.

    """
    settings = settings or Settings()
    folder = _model_folder(model or settings.model)
    rule = site_rule(folder.card, settings)
    given_hips = GivenHips() if hips is None else read_hips_csv(Path(hips))
    patient_key = patient_key_of(settings)
    backend, reason = backends.choose(settings.backend)
    reason = backends.why(backend, reason, folder)
    allocation = tuned_allocation(folder, backend, settings.workers)
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        if database is None:
            temporary = stack.enter_context(TemporaryDirectory(prefix="hipedge-"))
            database = Path(temporary, "outcomes.db")
        store = stack.enter_context(Store(Path(database)))
        open_backend = partial(backends.open_backend, backend, folder, threads=allocation.threads)
        batches = stack.enter_context(BatchScheduler(open_backend))
        run_pipeline(
            _paths(paths),
            model=folder,
            batches=batches,
            reason=reason,
            store=store,
            rule=rule,
            given_hips=given_hips,
            workers=allocation.workers,
            limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
            opened=lambda _: None,
            progress=progress or (lambda *_: None),
            recorded=outcomes.extend,
            patient_key=patient_key,
        )
    return sorted(outcomes, key=_source)


def read_cases(database: StrPath, *, settings: Settings | None = None) -> list[Case]:
    """Return every case in a database, oldest first.

    A case is a file with its hips and their findings under the present thresholds: those of the
    model's card, unless `settings` has others. Of several rows of one content, from several models
    or versions, the newest counts.

    Raises `StoreError` if there is no such database or it cannot be read.
    """
    with open_review(Path(database), settings or Settings()) as (store, rules):
        return list(store.all_cases(rules))


def worklist(
    database: StrPath, *, since: datetime | None = None, settings: Settings | None = None
) -> Worklist:
    """Return what a person must look at: flagged hips, most urgent first, and unread files.

    `since` limits it to what was recorded from that time on; a time without a time zone is local.
    Thresholds and errors are as in `read_cases`.
    """
    with open_review(Path(database), settings or Settings()) as (store, rules):
        return review_worklist(store, rules, since)


def draw(case: Case | Screened, *, model: ModelFolder | StrPath | None = None) -> Image.Image:
    """Draw a film with a box, a finding and a heat map for each hip; return an RGB image.

    The caption names the model and what its card says of its results. A `Case` knows its model;
    for a `Screened`, pass the model that it was screened with, unless that is the reference model.

    Raises `InputError` if the film can no longer be read, or is no longer the one that was
    screened.
    """
    if isinstance(case, Case):
        return case_picture(case)
    card = _model_folder(model).card
    about = f"model {card.name} ({card.status.value}): {card.status_text}"
    lines = (*textwrap.wrap(about, CAPTION_WIDTH), "Research use only.")
    pixels = upright_pixels(case.film.source, case.film.content_hash, case.marks)
    return draw_case(pixels, case.hips, case.findings, lines)


def evaluate(
    labels: StrPath,
    *,
    database: StrPath | None = None,
    predictions: StrPath | None = None,
    output: StrPath | None = None,
    splits: Sequence[str] = (),
    settings: Settings | None = None,
) -> Evaluation:
    """Evaluate findings against labels, with 95 % confidence intervals. Needs the extra `study`.

    Args:
        labels: CSV file of labelled hips; docs/study.md lists its columns.
        database: Database of `screen`, whose findings are evaluated.
        predictions: CSV file of predictions, instead of a database.
        output: Folder for the HTML report and its numbers as JSON and CSV. Without it, none is
            written.
        splits: Data sets to evaluate, by the labels' column `split`. Defaults to all.
        settings: Operating point and thresholds, as in `screen`.

    Raises:
        InputError: Rows of a CSV file cannot be used, no labelled hip has a finding, or both or
            neither of `database` and `predictions` were given.
        InstallationError: The extra `study` is not installed.
        StoreError: The database cannot be read.

    """
    if (database is None) == (predictions is None):
        raise InputError("evaluate takes either a database or a CSV file of predictions")
    from hipedge.study import check_installed

    check_installed()
    from hipedge.study.evaluate import EvaluationSettings
    from hipedge.study.evaluate import evaluate as evaluate_data_sets
    from hipedge.study.report.evaluation import write_evaluation
    from hipedge.study.sources import load_inputs, split_cases

    settings = settings or Settings()
    if database is not None:
        settings = replace(settings, db=Path(database))
    file = None if predictions is None else Path(predictions)
    with load_inputs(Path(labels), file, settings) as inputs:
        evaluation = evaluate_data_sets(
            split_cases(inputs.cases, list(splits)),
            EvaluationSettings(
                operating_points=inputs.operating_points, flag_hardware=settings.flag_hardware
            ),
        )
        if output is not None:
            write_evaluation(
                evaluation,
                Path(output),
                sources=inputs.files,
                pictures=inputs.pictures,
                note=inputs.remark,
            )
    return evaluation


def _model_folder(model: ModelFolder | StrPath | None) -> ModelFolder:
    return model if isinstance(model, ModelFolder) else open_model(model)


def _paths(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    if isinstance(paths, (str, PathLike)):
        return [Path(paths)]
    return [Path(path) for path in paths]


def _source(outcome: Outcome) -> Path:
    return outcome.film.source if isinstance(outcome, Screened) else outcome.source
