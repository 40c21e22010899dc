"""Loading the inputs of a study, from CSV files or from the database of `hipedge screen`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import InputError
from hipedge.model.card import parse_card
from hipedge.review.worklist import open_review
from hipedge.rules.operating_points import OperatingPoint
from hipedge.rules.site import SiteFile, read_site_file
from hipedge.rules.site_rule import site_rule
from hipedge.store.feedback import Feedback
from hipedge.store.store import Store
from hipedge.study.calibration import at_temperature
from hipedge.study.cases import Cases, common_film_columns, match_predictions
from hipedge.study.feedback import feedback_labels
from hipedge.study.inputs import Label, read_labels, read_predictions
from hipedge.study.recorded import RecordedNames, RecordedPictures, read_recorded_predictions
from hipedge.study.report.pictures import FolderPictures, NoPictures, Pictures


@dataclass(frozen=True, eq=False)
class StudyInputs:
    """Labels matched with predictions, and their sources.

    `files` maps the name of each input file to its SHA-256. `operating_points` apply to the
    probabilities of `cases`. `model` is the identifier of the model if the predictions come from
    a database with a single model, and `min_confidence` that model's. `remark` is what the report
    must state about the predictions.
    """

    labels: list[Label]
    cases: Cases
    pictures: Pictures
    files: dict[str, str]
    model: str | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    remark: str = ""
    min_confidence: float = 0.0

    def report_note(self, note: str) -> str:
        """Return the first line of a report: the user's note, then the remark."""
        return " ".join(filter(None, (note, self.remark)))


@contextmanager
def load_inputs(
    labels_file: Path | None,
    predictions_file: Path | None,
    settings: Settings,
    images: Path | None = None,
    site_file: Path | None = None,
) -> Iterator[StudyInputs]:
    """Read and match labels and predictions; without a predictions file, from the database.

    Without a labels file, the answers of readers in the database are the labels.

    With a site file, probabilities and operating points are those of that calibration. Without
    one, predictions from a file are used unchanged, and a database is evaluated with the site's
    current settings. Raises `InputError` naming the rows that cannot be used, and for a site file
    that was fitted for another model than the database's.
    """
    site = None if site_file is None else read_site_file(site_file)
    paths = (labels_file, predictions_file, site_file)
    files = {path.name: sha256_of(path) for path in paths if path is not None}
    if labels_file is None and predictions_file is not None:
        raise InputError("answers of readers are about the database: give no predictions")
    labels = [] if labels_file is None else read_labels(labels_file)
    pictures: Pictures = NoPictures() if images is None else FolderPictures(images)
    if predictions_file is not None:
        cases = match_predictions(labels, read_predictions(predictions_file))
        yield _apply_site_file(StudyInputs(labels, cases, pictures, files), site)
        return
    if site_file is not None:
        settings = replace(settings, calibration=site_file)
    with open_review(settings.db, settings) as (store, rules):
        files[settings.db.name] = "a database, which changes as films are screened"
        answers = feedback_labels(Feedback(store)) if labels_file is None else None
        labels = labels if answers is None else answers.labels
        # Answers name their films as the database does; a table may name them otherwise.
        columns = common_film_columns(label.film for label in labels) if answers is None else []
        names = RecordedNames(next(iter(columns), None))
        cases = match_predictions(labels, read_recorded_predictions(store, rules, names))
        if images is None:
            pictures = RecordedPictures(store, rules, names)
        model, points, remark, confidence = _single_model(store, settings)
        if answers is not None:
            remark = " ".join(filter(None, (remark, answers.remark)))
        if site is not None and site.model not in (None, model):
            raise InputError(f"{site_file} was fitted for another model than the database's")
        yield StudyInputs(labels, cases, pictures, files, model, points, remark, confidence)


def _apply_site_file(inputs: StudyInputs, site: SiteFile | None) -> StudyInputs:
    """Return predictions from a CSV file as recalibrated by a site file."""
    if site is None:
        return inputs
    factor = site.temperature_factor
    return replace(
        inputs,
        cases=at_temperature(inputs.cases, factor),
        operating_points=site.operating_points,
        remark=f"Probabilities at {factor:.3f} times the temperature that they were predicted "
        "with.",
    )


def _single_model(
    store: Store, settings: Settings
) -> tuple[str | None, tuple[OperatingPoint, ...], str, float]:
    """Return a database's model, its operating points here, its card's status, its confidence.

    Empty values if the database has results of several models.
    """
    models = store.models()
    if len(models) != 1:
        return None, (), "", 0.0
    ((model_id, text),) = models.items()
    card = parse_card(text.encode(), f"the card of model {model_id[:12]}")
    points = tuple(
        OperatingPoint(name, rule.thresholds, rule.criterion)
        for name in card.operating_points
        for rule in (site_rule(card, replace(settings, operating_point=name)),)
    )
    return model_id, points, f"Model {card.name}: {card.status_text}", card.min_confidence


def split_cases(cases: Cases, names: list[str]) -> dict[str, Cases]:
    """Return the data sets that the labels' column `split` defines, in the order of `names`.

    No `names` means all data sets; without the column there is one, called "all". Raises
    `InputError` for a split that no label has.
    """
    if "split" not in cases.groups:
        if names:
            raise InputError("the labels have no column split")
        return {"all": cases}
    splits, codes = cases.groups["split"]
    missing = [name for name in names if name not in splits]
    if missing:
        raise InputError(f"no label has the split {', '.join(missing)}: there are {splits}")
    return {name: cases.select(codes == splits.index(name)) for name in names or splits}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file. Raises `InputError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()
