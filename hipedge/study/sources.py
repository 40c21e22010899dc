"""Where labels and predictions come from: CSV files, or the database of `hipedge screen`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hipedge.config import Settings, site_rule
from hipedge.errors import InputError
from hipedge.model.card import parse_card
from hipedge.site import OperatingPoint, SiteFile, read_site_file
from hipedge.store import Store
from hipedge.study.calibration import at_temperature
from hipedge.study.cases import Cases, match
from hipedge.study.inputs import Label, read_labels, read_predictions
from hipedge.study.recorded import RecordedPictures, read_recorded
from hipedge.study.report.pictures import FolderPictures, NoPictures, Pictures
from hipedge.worklist import open_review


@dataclass(frozen=True, eq=False)
class Material:
    """Labels and predictions, matched; pictures, if any; and the files, by name and SHA-256.

    `operating_points` are for the probabilities of `cases`. Where a database holds one model's
    predictions, `model` is its identifier. `about` is what the report must say of the figures.
    """

    labels: list[Label]
    cases: Cases
    pictures: Pictures
    files: dict[str, str]
    model: str | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    about: str = ""

    def noted(self, note: str) -> str:
        """Return a report's first line: the user's note, then what must be said."""
        return " ".join(filter(None, (note, self.about)))


@contextmanager
def gather(
    labels_file: Path,
    predictions_file: Path | None,
    settings: Settings,
    images: Path | None = None,
    site_file: Path | None = None,
) -> Iterator[Material]:
    """Read and match labels and predictions; without a predictions file, from the database.

    With a site file, probabilities and operating points are those under that calibration. Without
    one, a file of predictions is taken as it is, and a database as the site screens with it.
    Raises `InputError` naming the rows that cannot be used, and for a site file that was fitted
    for another model than the database's.
    """
    site = None if site_file is None else read_site_file(site_file)
    given = (labels_file, predictions_file, site_file)
    files = {path.name: sha256_of(path) for path in given if path is not None}
    labels = read_labels(labels_file)
    pictures: Pictures = NoPictures() if images is None else FolderPictures(images)
    if predictions_file is not None:
        cases = match(labels, read_predictions(predictions_file))
        yield _calibrated(Material(labels, cases, pictures, files), site)
        return
    if site_file is not None:
        settings = replace(settings, calibration=site_file)
    with open_review(settings.db, settings) as (store, rules):
        files[settings.db.name] = "a database, which changes as films are screened"
        cases = match(labels, read_recorded(store, rules))
        if images is None:
            pictures = RecordedPictures(store, rules)
        model, points, about = _only_model(store, settings)
        if site is not None and site.model not in (None, model):
            raise InputError(f"{site_file} was fitted for another model than the database's")
        yield Material(labels, cases, pictures, files, model, points, about)


def _calibrated(material: Material, site: SiteFile | None) -> Material:
    """Return predictions out of a file as a site file would have them."""
    if site is None:
        return material
    factor = site.temperature_factor
    return replace(
        material,
        cases=at_temperature(material.cases, factor),
        operating_points=site.operating_points,
        about=f"Probabilities at {factor:.3f} times the temperature that they were predicted with.",
    )


def _only_model(
    store: Store, settings: Settings
) -> tuple[str | None, tuple[OperatingPoint, ...], str]:
    """Return a database's model, its operating points at this site, and its card's words.

    Of several models, none.
    """
    models = store.models()
    if len(models) != 1:
        return None, (), ""
    ((model_id, text),) = models.items()
    card = parse_card(text.encode(), f"the card of model {model_id[:12]}")
    points = tuple(
        OperatingPoint(name, site_rule(card, replace(settings, operating_point=name)).thresholds)
        for name in card.operating_points
    )
    return model_id, points, f"Model {card.name}: {card.status_text}"


def split_cases(cases: Cases, wanted: list[str]) -> dict[str, Cases]:
    """Return the data sets that the labels' column `split` names, in the order wanted.

    Without that column, everything is one data set. Raises `InputError` for a split that no
    label has.
    """
    if "split" not in cases.groups:
        if wanted:
            raise InputError("the labels have no column split")
        return {"all": cases}
    names, codes = cases.groups["split"]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"no label has the split {', '.join(missing)}: there are {names}")
    return {name: cases.where(codes == names.index(name)) for name in wanted or names}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file. Raises `InputError` where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()
