"""Matching of labels and predictions: the arrays that every analysis starts from.

Films are matched by the first of `content_hash`, `sha256`, `sop_instance_uid`, `path` and `case`
that all labels and any prediction have, by exact comparison (of absolute paths); hips are matched
by side. A film with a single label also matches a prediction of another side if either side is
unknown.

A label whose film is not among the predictions is an error, since the model's answer is unknown. A
label whose film was not screened, or whose hip was not found, is a hip without an answer. A
prediction without a label, or without the identifier that films are matched by (a file other than
DICOM has no UID), is excluded and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.csv_input import Problems, repeated_rows
from hipedge.errors import InputError
from hipedge.study.inputs import FILM_COLUMNS, FilmName, Label, Prediction
from hipedge.study.resampling import Array
from hipedge.types import CATEGORIES, Side

NOT_FOUND = "hip_not_found"
_NO_DESCRIPTION = Prediction(FilmName(), None)
AGE_BANDS = ((0, 18, "0 to 17"), (18, 40, "18 to 39"), (40, 60, "40 to 59"),
             (60, 80, "60 to 79"), (80, 200, "80 and over"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cases:
    """N labelled hips with the model's answers.

    `truth` and `answer` (N,) index `CATEGORIES`; -1 means no answer, for the reason in `reasons`.
    `probabilities` (N, K) are NaN if missing. `merged` (N,) marks hips of unknown side, whose
    probabilities are the higher of two readings. `flagged` (N,) is -1 if unknown. `patients` (N,)
    are patient numbers. `groups` holds, for each attribute, the names of its sub-groups and the
    index (N,) of each hip's, -1 if unknown. `unlabelled` counts predictions without a label.
    """

    films: Sequence[str]
    sides: Sequence[Side]
    truth: NDArray[np.int8]
    answer: NDArray[np.int8]
    probabilities: Array
    merged: NDArray[np.bool_]
    flagged: NDArray[np.int8]
    patients: NDArray[np.int64]
    reasons: Mapping[int, str]
    groups: Mapping[str, tuple[tuple[str, ...], NDArray[np.int64]]]
    unlabelled: int

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which hips have an answer (N,)."""
        return self.answer >= 0

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which hips have probabilities (N,)."""
        return np.isfinite(self.probabilities[:, 0])

    @property
    def clustered(self) -> bool:
        """Whether some patient has several hips."""
        return bool(np.unique(self.patients).size < len(self))

    def select(self, chosen: NDArray[np.bool_]) -> Cases:
        """Return the hips chosen by a mask (N,)."""
        kept = [int(i) for i in np.flatnonzero(chosen)]
        new_index = {old: new for new, old in enumerate(kept)}
        return replace(
            self,
            films=[self.films[i] for i in kept],
            sides=[self.sides[i] for i in kept],
            truth=self.truth[kept],
            answer=self.answer[kept],
            probabilities=self.probabilities[kept],
            merged=self.merged[kept],
            flagged=self.flagged[kept],
            patients=self.patients[kept],
            reasons={new_index[i]: why for i, why in self.reasons.items() if i in new_index},
            groups={name: (names, codes[kept]) for name, (names, codes) in self.groups.items()},
        )


def match_predictions(labels: Sequence[Label], predictions: Iterable[Prediction]) -> Cases:
    """Match labels and predictions. Raises `InputError` naming the rows that cannot be matched."""
    key, stream = _choose_key(labels, iter(predictions))
    by_film = _index(labels, key)

    answer = np.full(len(labels), -1, dtype=np.int8)
    probabilities = np.full((len(labels), len(CATEGORIES)), np.nan)
    merged = np.zeros(len(labels), dtype=bool)
    flagged = np.full(len(labels), -1, dtype=np.int8)
    answered_by: dict[int, int] = {}
    unread: dict[int, str] = {}
    descriptions: dict[int, Prediction] = {}
    unknown_films = set(by_film)
    problems, unlabelled = Problems("the predictions"), 0

    for prediction in stream:
        film = film_identifier(prediction.film, key) or ""
        unknown_films.discard(film)
        labels_of_film = by_film.get(film, ())
        if not labels_of_film:
            unlabelled += 1
            continue
        descriptions.update((i, prediction) for i in labels_of_film if _has_description(prediction))
        if prediction.side is None:
            unread.update((i, prediction.code or NOT_FOUND) for i in labels_of_film)
            continue
        i = find_hip(prediction.side, [(i, labels[i].side) for i in labels_of_film])
        if i is None:
            unlabelled += 1
        elif i in answered_by:
            problems.add(prediction.row, "a second prediction for a hip")
        else:
            answered_by[i] = prediction.row
            answer[i] = -1 if prediction.category is None else prediction.category
            merged[i] = prediction.side is Side.UNKNOWN
            if prediction.probabilities is not None:
                probabilities[i] = prediction.probabilities
            if prediction.flagged is not None:
                flagged[i] = prediction.flagged
    problems.raise_by_message()
    _check_films_are_known(labels, key, unknown_films)

    return Cases(
        films=[film_identifier(label.film, key) or "" for label in labels],
        sides=[label.side for label in labels],
        truth=np.array([label.category for label in labels], dtype=np.int8),
        answer=answer,
        probabilities=probabilities,
        merged=merged,
        flagged=flagged,
        patients=_encode([label.patient for label in labels])[1],
        reasons={i: unread.get(i, NOT_FOUND) for i in range(len(labels)) if i not in answered_by},
        groups=_groups(labels, descriptions),
        unlabelled=unlabelled,
    )


def common_film_columns(films: Iterable[FilmName]) -> list[str]:
    """Return the columns that identify every one of these films, the preferred one first."""
    columns = list(FILM_COLUMNS)
    for film in films:
        columns = [column for column in columns if getattr(film, column) is not None]
    return columns


def no_common_column_error(others: str) -> InputError:
    """Return the error for labels that share no identifying column with `others`."""
    return InputError(
        f"labels and {others} have no column in common that names films: give both one of "
        f"{', '.join(FILM_COLUMNS)}, filled in every row"
    )


def film_identifier(film: FilmName, column: str) -> str | None:
    """Return a film's identifier in a column; paths are made absolute."""
    name: str | None = getattr(film, column)
    return str(Path(name).absolute()) if column == "path" and name else name


def _choose_key(
    labels: Sequence[Label], predictions: Iterator[Prediction]
) -> tuple[str, Iterator[Prediction]]:
    """Return the column by which films are matched, and all predictions.

    Reads ahead to the first prediction that has the preferred column of the labels.
    """
    columns = common_film_columns(label.film for label in labels)
    read: list[Prediction] = []
    for prediction in predictions:
        read.append(prediction)
        if columns and getattr(prediction.film, columns[0]) is not None:
            break
    if not read:
        raise InputError("there are no predictions")
    for column in columns:
        if any(getattr(prediction.film, column) is not None for prediction in read):
            return column, chain(read, predictions)
    raise no_common_column_error("predictions")


def _index(labels: Sequence[Label], key: str) -> dict[str, tuple[int, ...]]:
    """Return the indices of labels by film. Raises `InputError` for two labels of one hip."""
    problems = Problems("the labels")
    by_film: dict[str, tuple[int, ...]] = {}
    films = [film_identifier(label.film, key) or "" for label in labels]
    for i, film in enumerate(films):
        by_film[film] = (*by_film.get(film, ()), i)
    hips = ((label.row, (film, label.side)) for label, film in zip(labels, films, strict=True))
    for row, _ in repeated_rows(hips):
        problems.add(row, "a second label for a hip")
    problems.raise_by_message()
    return by_film


def find_hip(side: Side, labelled: Sequence[tuple[int, Side]]) -> int | None:
    """Return the index of the label for a side, among a film's labels (index, side)."""
    for i, label_side in labelled:
        if label_side is side:
            return i
    if len(labelled) == 1 and Side.UNKNOWN in (side, labelled[0][1]):
        return labelled[0][0]
    return None


def _has_description(prediction: Prediction) -> bool:
    return any(x is not None for x in (prediction.sex, prediction.age_years, prediction.vendor))


def _check_films_are_known(labels: Sequence[Label], key: str, films: set[str]) -> None:
    problems = Problems("the labels")
    for label in labels:
        if film_identifier(label.film, key) in films:
            problems.add(
                label.row, f"no prediction has this {key} (screen the film, or take the row out)"
            )
    problems.raise_by_message()


def _groups(
    labels: Sequence[Label], descriptions: Mapping[int, Prediction]
) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Return the sub-groups; attributes missing from a label are taken from the DICOM header."""
    columns: dict[str, list[str | None]] = defaultdict(list)
    for i, label in enumerate(labels):
        film = descriptions.get(i, _NO_DESCRIPTION)
        age = film.age_years if label.age_years is None else label.age_years
        columns["split"].append(label.split)
        columns["site"].append(label.site)
        columns["sex"].append(label.sex or film.sex)
        columns["age"].append(None if age is None else _age_band(age))
        columns["vendor"].append(label.vendor or film.vendor)
    return {name: _encode(values) for name, values in columns.items() if any(values)}


def _age_band(age_years: float) -> str:
    return next(name for low, high, name in AGE_BANDS if low <= age_years < high or high == 200)


def _encode(values: Sequence[str | None]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the distinct values in order of appearance, and the code (N,) of each; -1 if None."""
    names = dict.fromkeys(value for value in values if value is not None)
    number = {name: code for code, name in enumerate(names)}
    codes = [-1 if value is None else number[value] for value in values]
    return tuple(names), np.array(codes, dtype=np.int64)
