"""The CSV tables of a study: labels, predictions and reads, validated.

A film is identified by `content_hash` (BLAKE3), `sha256`, `sop_instance_uid`, `path` or `case`; a
hip by its film and its `side`. All problems of a file are collected and raised together as one
`InputError` that names rows as a spreadsheet numbers them: the header is row 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hipedge.content import HASH_COLUMNS, prefixed
from hipedge.csv_input import Columns, Problems, did_you_mean, finite_number, read_rows
from hipedge.errors import InputError
from hipedge.types import CATEGORIES, Side

# Allows for probabilities that were rounded to three digits.
SUM_TOLERANCE = 0.005

FILM_COLUMNS = (*HASH_COLUMNS, "sop_instance_uid", "path", "case")
PHASES = ("alone", "assisted")

_CATEGORY_INDEX = {category.value: k for k, category in enumerate(CATEGORIES)}


@dataclass(frozen=True, slots=True)
class FilmName:
    """The identifiers of a film; at least one is given."""

    content_hash: str | None = None
    sha256: str | None = None
    sop_instance_uid: str | None = None
    path: str | None = None
    case: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """The reference standard for one hip.

    `category` is an index into `CATEGORIES`; `row` is the row of the file.
    """

    row: int
    film: FilmName
    side: Side
    category: int
    patient: str
    site: str | None = None
    sex: str | None = None
    age_years: float | None = None
    vendor: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer for one hip, or the fact that a film was not screened.

    `side` is `None` if no hip of the film was screened, and `code` says why. `probabilities` are
    in the order of `CATEGORIES`, or `None` if only a category was recorded. `row` is the row of
    the file, 0 for a prediction from a database.
    """

    film: FilmName
    side: Side | None
    category: int | None = None
    probabilities: tuple[float, ...] | None = None
    flagged: bool | None = None
    code: str | None = None
    sex: str | None = None
    age_years: float | None = None
    vendor: str | None = None
    row: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """One reader's answer for one hip in one phase.

    `answer` is an index into `CATEGORIES`. `confidence` (any scale) and `seconds` are optional.
    """

    row: int
    film: FilmName
    side: Side
    reader: str
    grade: str
    phase: str
    answer: int
    confidence: float | None = None
    seconds: float | None = None


def read_labels(path: Path) -> list[Label]:
    """Read the reference standard: a film's identifier, `side`, `category` and `patient`.

    Optional columns: `site`, `sex`, `age` (years), `vendor`, and `split`, which must be filled in
    all rows or in none. Raises `InputError` naming the rows that cannot be used.
    """
    problems = Problems(path)
    labels = []
    for row, cells in _rows(path, "side", "category", "patient"):
        side, category = _side(cells, row, problems), _category(cells, "category", row, problems)
        if not cells["patient"]:
            problems.add(row, "no patient")
        if side is not None and category is not None:
            labels.append(
                Label(
                    row,
                    _film(cells, row, problems),
                    side,
                    category,
                    cells["patient"],
                    cells.get("site") or None,
                    cells.get("sex") or None,
                    _number(cells, "age", row, problems),
                    cells.get("vendor") or None,
                    cells.get("split") or None,
                )
            )
    if any(label.split for label in labels):
        for label in labels:
            if not label.split:
                problems.add(label.row, "no split, though other rows have one")
    problems.raise_by_message()
    if not labels:
        raise _no_rows(path)
    return labels


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Read predictions: a film's identifier, `side`, and one probability column per category.

    Optional columns: `category` (default: the most probable), `flagged`, `code`. A row with neither
    probabilities nor a category records that the film was not screened. Raises `InputError` naming
    the rows that cannot be used, once all rows have been read.
    """
    problems = Problems(path)
    has_probabilities = None
    for row, cells in _rows(path, "side"):
        if has_probabilities is None:
            has_probabilities = _has_probability_columns(path, cells)
        probabilities = _probabilities(cells, row, problems) if has_probabilities else None
        category = _category(cells, "category", row, problems) if cells.get("category") else None
        if category is None and probabilities is not None:
            category = max(range(len(probabilities)), key=probabilities.__getitem__)
        side = _side(cells, row, problems) if cells["side"] or category is not None else None
        if (
            probabilities is not None
            and side is not Side.UNKNOWN
            and abs(sum(probabilities) - 1) > SUM_TOLERANCE
        ):
            problems.add(row, "probabilities that do not sum to one")
        yield Prediction(
            _film(cells, row, problems),
            side if category is not None else None,
            category,
            probabilities,
            _flag(cells, row, problems),
            cells.get("code") or (None if category is not None else "not_read"),
            row=row,
        )
    problems.raise_by_message()
    if has_probabilities is None:
        raise _no_rows(path)


def read_reads(path: Path) -> list[Read]:
    """Read the readers' answers: `reader`, `grade`, `phase`, a film, `side` and `answer`.

    Optional columns: `confidence` (any scale, higher is more confident) and `seconds`. Raises
    `InputError` naming the rows that cannot be used.
    """
    problems = Problems(path)
    reads = []
    for row, cells in _rows(path, "reader", "grade", "phase", "side", "answer"):
        side, answer = _side(cells, row, problems), _category(cells, "answer", row, problems)
        if not cells["reader"]:
            problems.add(row, "no reader")
        if cells["phase"] not in PHASES:
            problems.add(row, "a phase that is neither alone nor assisted")
        if side is not None and answer is not None:
            reads.append(
                Read(
                    row,
                    _film(cells, row, problems),
                    side,
                    cells["reader"],
                    cells["grade"] or "ungraded",
                    cells["phase"],
                    answer,
                    _number(cells, "confidence", row, problems),
                    _number(cells, "seconds", row, problems),
                )
            )
    problems.raise_by_message()
    if not reads:
        raise _no_rows(path)
    return reads


def _rows(path: Path, *required: str) -> Iterator[tuple[int, dict[str, str]]]:
    return read_rows(path, Columns(required, any_of=FILM_COLUMNS, row_word="row"))


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path} has no rows under its header")


def _film(cells: Mapping[str, str], row: int, problems: Problems) -> FilmName:
    film = FilmName(*(cells.get(name) or None for name in FILM_COLUMNS))
    if film == FilmName():
        problems.add(row, f"no film: {', '.join(FILM_COLUMNS)} are all empty")
    if film.content_hash is not None:
        film = replace(film, content_hash=prefixed(film.content_hash))
    return film


def _side(cells: Mapping[str, str], row: int, problems: Problems) -> Side | None:
    try:
        return Side(cells["side"].lower())
    except ValueError:
        problems.add(row, "a side that is not right, left or unknown")
        return None


def _category(cells: Mapping[str, str], column: str, row: int, problems: Problems) -> int | None:
    name = cells[column].lower().replace(" ", "_")
    index = _CATEGORY_INDEX.get(name)
    if index is None:
        guess = did_you_mean(name, _CATEGORY_INDEX)
        problems.add(row, f"unknown {column} '{cells[column]}'{guess}")
    return index


def _number(cells: Mapping[str, str], column: str, row: int, problems: Problems) -> float | None:
    """Return a number of 0 or more; `None` for an empty cell or a missing column."""
    if not cells.get(column):
        return None
    number = finite_number(cells[column])
    if number is not None and number >= 0:
        return number
    problems.add(row, f"a value of {column} that is not a number of 0 or more")
    return None


def _has_probability_columns(path: Path, cells: Mapping[str, str]) -> bool:
    """Whether the table has probabilities. Raises `InputError` if only some categories have one."""
    missing = [name for name in _CATEGORY_INDEX if name not in cells]
    if missing and len(missing) < len(CATEGORIES):
        named = ", ".join(name + did_you_mean(name, cells) for name in missing)
        raise InputError(f"{path} has no probability column for {named}")
    if missing and "category" not in cells:
        raise InputError(
            f"{path} has neither probability columns (normal, …) nor a column category"
        )
    return not missing


def _probabilities(
    cells: Mapping[str, str], row: int, problems: Problems
) -> tuple[float, ...] | None:
    texts = [cells[name] for name in _CATEGORY_INDEX]
    if not any(texts):
        return None
    values = tuple(
        value for value in map(finite_number, texts) if value is not None and 0 <= value <= 1
    )
    if len(values) == len(texts):
        return values
    problems.add(row, "a probability that is not a number from 0 to 1")
    return None


def _flag(cells: Mapping[str, str], row: int, problems: Problems) -> bool | None:
    text = cells.get("flagged", "").lower()
    if text not in ("", "0", "1", "false", "true"):
        problems.add(row, "a value of flagged that is not 0, 1, false or true")
    return None if not text else text in ("1", "true")
