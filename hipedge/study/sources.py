"""Where labels and predictions come from: CSV files, or the database of `hipedge screen`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hipedge.config import Settings
from hipedge.errors import InputError
from hipedge.model.card import parse_card
from hipedge.site import OperatingPoint
from hipedge.store import Store
from hipedge.study.cases import Cases, match
from hipedge.study.inputs import Label, read_labels, read_predictions
from hipedge.study.recorded import RecordedPictures, read_recorded
from hipedge.study.report.pictures import FolderPictures, NoPictures, Pictures
from hipedge.worklist import open_review


@dataclass(frozen=True, eq=False)
class Material:
    """Labels and predictions, matched; pictures, if any; and the files, by name and SHA-256.

    Where a database holds one model's predictions, `model` is its identifier, and of its card
    `operating_points` are those and `about` is what it says that the model is worth.
    """

    labels: list[Label]
    cases: Cases
    pictures: Pictures
    files: dict[str, str]
    model: str | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    about: str = ""

    def noted(self, note: str) -> str:
        """Return a report's first line: the user's note, then what the card says."""
        return " ".join(filter(None, (note, self.about)))


@contextmanager
def gather(
    labels_file: Path,
    predictions_file: Path | None,
    settings: Settings,
    images: Path | None = None,
) -> Iterator[Material]:
    """Read and match labels and predictions; without a predictions file, from the database.

    Raises `InputError` naming the rows that cannot be used.
    """
    labels = read_labels(labels_file)
    files = {labels_file.name: sha256_of(labels_file)}
    if predictions_file is not None:
        files[predictions_file.name] = sha256_of(predictions_file)
        pictures: Pictures = NoPictures() if images is None else FolderPictures(images)
        cases = match(labels, read_predictions(predictions_file))
        yield Material(labels, cases, pictures, files)
        return
    with open_review(settings.db, settings) as (store, rules):
        files[settings.db.name] = "a database, which changes as films are screened"
        cases = match(labels, read_recorded(store, rules))
        pictures = RecordedPictures(store, rules) if images is None else FolderPictures(images)
        yield Material(labels, cases, pictures, files, *_only_model(store))


def _only_model(store: Store) -> tuple[str | None, tuple[OperatingPoint, ...], str]:
    """Return a database's model, its card's operating points and words; of several models, none."""
    models = store.models()
    if len(models) != 1:
        return None, (), ""
    ((model_id, text),) = models.items()
    card = parse_card(text.encode(), f"the card of model {model_id[:12]}")
    points = tuple(OperatingPoint(*item) for item in card.operating_points.items())
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
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
