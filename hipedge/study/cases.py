"""Labels and predictions, matched: the arrays that every analysis starts from.

How rows are matched. Films by the first of `sha256`, `sop_instance_uid`, `path` and `case` that
all labels and any prediction have, compared letter by letter (paths once made absolute); hips by
side. A film with a single label matches a prediction of another side only where one of the two
sides is unknown.

What becomes of the rest. A label whose film the predictions do not know is an error: nobody can
say what the model would have answered. A label whose film was not read, or whose hip was not
found, is a hip without an answer. A prediction without a label, or without what its film is
matched by (a file that is no DICOM has no UID), is left out and counted.
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
_SAYS_NOTHING = Prediction(FilmName(), None)
AGE_BANDS = ((0, 18, "0 to 17"), (18, 40, "18 to 39"), (40, 60, "40 to 59"),
             (60, 80, "60 to 79"), (80, 200, "80 and over"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cases:
    """N labelled hips and what the model said of them.

    `truth` and `answer` (N,) index `CATEGORIES`; an answer of -1 is none, and `reasons` says
    why. `probabilities` (N, K) are NaN where there are none. `merged` (N,) says of which hips
    they are the higher of two readings, as the side was unknown when they were read. `flagged`
    (N,) is -1 where unknown. `patients` (N,) number the patients. `groups` name sub-groups and
    number each hip's, -1 where unknown. `unlabelled` counts predictions without a label.
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
    def read(self) -> NDArray[np.bool_]:
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

    def where(self, chosen: NDArray[np.bool_]) -> Cases:
        """Return the chosen hips (N,) as cases of their own."""
        kept = [int(i) for i in np.flatnonzero(chosen)]
        place = {old: new for new, old in enumerate(kept)}
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
            reasons={place[i]: why for i, why in self.reasons.items() if i in place},
            groups={name: (names, codes[kept]) for name, (names, codes) in self.groups.items()},
        )


def match(labels: Sequence[Label], predictions: Iterable[Prediction]) -> Cases:
    """Join labels and predictions. Raises `InputError`, naming rows, for what cannot be joined."""
    key, stream = _choose_key(labels, iter(predictions))
    by_film = _index(labels, key)

    answer = np.full(len(labels), -1, dtype=np.int8)
    probabilities = np.full((len(labels), len(CATEGORIES)), np.nan)
    merged = np.zeros(len(labels), dtype=bool)
    flagged = np.full(len(labels), -1, dtype=np.int8)
    answered_by: dict[int, int] = {}
    not_read: dict[int, str] = {}
    described: dict[int, Prediction] = {}
    unknown_films = set(by_film)
    problems, unlabelled = Problems("the predictions"), 0

    for prediction in stream:
        film = named_by(prediction.film, key) or ""
        unknown_films.discard(film)
        of_film = by_film.get(film, ())
        if not of_film:
            unlabelled += 1
            continue
        described.update((i, prediction) for i in of_film if _describes(prediction))
        if prediction.side is None:
            not_read.update((i, prediction.code or NOT_FOUND) for i in of_film)
            continue
        i = same_hip(prediction.side, [(i, labels[i].side) for i in of_film])
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
    _refuse_unknown_films(labels, key, unknown_films)

    return Cases(
        films=[named_by(label.film, key) or "" for label in labels],
        sides=[label.side for label in labels],
        truth=np.array([label.category for label in labels], dtype=np.int8),
        answer=answer,
        probabilities=probabilities,
        merged=merged,
        flagged=flagged,
        patients=_codes([label.patient for label in labels])[1],
        reasons={i: not_read.get(i, NOT_FOUND) for i in range(len(labels)) if i not in answered_by},
        groups=_groups(labels, described),
        unlabelled=unlabelled,
    )


def film_columns(films: Iterable[FilmName]) -> list[str]:
    """Return the columns that name every one of these films, the best first."""
    columns = list(FILM_COLUMNS)
    for film in films:
        columns = [column for column in columns if getattr(film, column) is not None]
    return columns


def no_common_column(others: str) -> InputError:
    """Return the error for labels that have no column in common with `others`."""
    return InputError(
        f"labels and {others} have no column in common that names films: give both one of "
        f"{', '.join(FILM_COLUMNS)}, filled in every row"
    )


def named_by(film: FilmName, column: str) -> str | None:
    """Return what a column calls a film; a path is made absolute."""
    name: str | None = getattr(film, column)
    return str(Path(name).absolute()) if column == "path" and name else name


def _choose_key(
    labels: Sequence[Label], predictions: Iterator[Prediction]
) -> tuple[str, Iterator[Prediction]]:
    """Return the column by which films are matched, and all the predictions.

    Reads ahead as far as the first prediction with the best column of the labels.
    """
    columns = film_columns(label.film for label in labels)
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
    raise no_common_column("predictions")


def _index(labels: Sequence[Label], key: str) -> dict[str, tuple[int, ...]]:
    """Index labels by film; two labels for one hip are an error."""
    problems = Problems("the labels")
    by_film: dict[str, tuple[int, ...]] = {}
    films = [named_by(label.film, key) or "" for label in labels]
    for i, film in enumerate(films):
        by_film[film] = (*by_film.get(film, ()), i)
    hips = ((label.row, (film, label.side)) for label, film in zip(labels, films, strict=True))
    for row, _ in repeated_rows(hips):
        problems.add(row, "a second label for a hip")
    problems.raise_by_message()
    return by_film


def same_hip(side: Side, labelled: Sequence[tuple[int, Side]]) -> int | None:
    """Return which of a film's labels, by number and side, is of the hip on this side."""
    for i, of_label in labelled:
        if of_label is side:
            return i
    if len(labelled) == 1 and Side.UNKNOWN in (side, labelled[0][1]):
        return labelled[0][0]
    return None


def _describes(prediction: Prediction) -> bool:
    return any(x is not None for x in (prediction.sex, prediction.age_years, prediction.vendor))


def _refuse_unknown_films(labels: Sequence[Label], key: str, films: set[str]) -> None:
    problems = Problems("the labels")
    for label in labels:
        if named_by(label.film, key) in films:
            problems.add(
                label.row, f"no prediction has this {key} (screen the film, or take the row out)"
            )
    problems.raise_by_message()


def _groups(
    labels: Sequence[Label], described: Mapping[int, Prediction]
) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Return the sub-groups; what a label does not say is taken from the film's header."""
    columns: dict[str, list[str | None]] = defaultdict(list)
    for i, label in enumerate(labels):
        film = described.get(i, _SAYS_NOTHING)
        age = film.age_years if label.age_years is None else label.age_years
        columns["split"].append(label.split)
        columns["site"].append(label.site)
        columns["sex"].append(label.sex or film.sex)
        columns["age"].append(None if age is None else _age_band(age))
        columns["vendor"].append(label.vendor or film.vendor)
    return {name: _codes(values) for name, values in columns.items() if any(values)}


def _age_band(age_years: float) -> str:
    return next(name for low, high, name in AGE_BANDS if low <= age_years < high or high == 200)


def _codes(values: Sequence[str | None]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the distinct values as they appear, and each one's number; -1 where there is none."""
    names = dict.fromkeys(value for value in values if value is not None)
    number = {name: code for code, name in enumerate(names)}
    codes = [-1 if value is None else number[value] for value in values]
    return tuple(names), np.array(codes, dtype=np.int64)
