"""The tables that a study starts from: CSV in, checked values out, bad rows named.

A film is named by `sha256`, `sop_instance_uid`, `path` or `case`; a hip by its film and `side`.
Files are UTF-8, with commas or semicolons. Whatever is wrong is collected and raised at once as
an `InputError` that names rows as a spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hipedge.errors import InputError
from hipedge.types import CATEGORIES, Side

# Probabilities are often written with three or four digits; eight of them round to this.
SUM_TOLERANCE = 0.005

_MOST_ROWS_NAMED = 10
_MOST_MESSAGES = 20
_CATEGORY_INDEX = {category.value: k for k, category in enumerate(CATEGORIES)}


@dataclass(frozen=True, slots=True)
class FilmName:
    """What identifies a film; at least one of them is given."""

    sha256: str | None = None
    sop_instance_uid: str | None = None
    path: str | None = None
    case: str | None = None


FILM_COLUMNS = ("sha256", "sop_instance_uid", "path", "case")


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one hip. `category` is an index into `CATEGORIES`; `row` is in its file."""

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
    """What the model said of one hip, or that a film was not read.

    `side` is `None` where no hip of the film was read, and `code` says why. `probabilities` are
    in the order of `CATEGORIES`, or `None` where only a category was recorded. `row` is in its
    file, 0 where it comes out of a database.
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
    """One reader's answer about one hip, alone or assisted; `confidence` and `seconds` if taken."""

    row: int
    film: FilmName
    side: Side
    reader: str
    grade: str
    phase: str
    answer: int
    confidence: float | None = None
    seconds: float | None = None


PHASES = ("alone", "assisted")


class Problems:
    """Collects what is wrong with a table, by message, and raises it in one `InputError`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows: dict[str, list[int]] = defaultdict(list)

    def add(self, message: str, row: int) -> None:
        """Note that a row is bad."""
        self._rows[message].append(row)

    def raise_if_any(self) -> None:
        """Raise `InputError` naming each kind of fault with its rows."""
        if not self._rows:
            return
        lines = [f"{message}: {_name_rows(rows)}" for message, rows in self._rows.items()]
        if len(lines) > _MOST_MESSAGES:
            lines[_MOST_MESSAGES:] = [f"and {len(lines) - _MOST_MESSAGES} more kinds of fault"]
        raise InputError(f"{self._source} cannot be used:\n  " + "\n  ".join(lines))


def read_labels(path: Path) -> list[Label]:
    """Read the truth: a film's name, `side`, `category`, `patient`, and what else there is.

    Optional: `site`, `sex`, `age` (years), `vendor`, `split`, which all rows have or none.
    """
    problems = Problems(path.name)
    labels = []
    for row, cells in _rows(path, needed=("side", "category", "patient")):
        side, category = _side(cells, row, problems), _category(cells, "category", row, problems)
        if not cells["patient"]:
            problems.add("no patient", row)
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
                problems.add("no split, though other rows have one", label.row)
    problems.raise_if_any()
    if not labels:
        raise InputError(f"{path.name} has no rows under its header")
    return labels


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Read what the model said: a film's name, `side`, and a probability column per category.

    Optional: `category` (else the most probable), `flagged`, `code`. A row without probabilities
    and without category says that the film, or the hip if it has a side, was not read.
    """
    problems = Problems(path.name)
    columns = None
    for row, cells in _rows(path, needed=("side",)):
        columns = _probability_columns(path, cells) if columns is None else columns
        probabilities = _probabilities(cells, columns, row, problems)
        category = _category(cells, "category", row, problems) if cells.get("category") else None
        if category is None and probabilities is not None:
            category = max(range(len(probabilities)), key=probabilities.__getitem__)
        side = _side(cells, row, problems) if cells["side"] or category is not None else None
        if probabilities is not None and side is not Side.UNKNOWN:
            total = sum(probabilities)
            if abs(total - 1) > SUM_TOLERANCE:
                problems.add("probabilities that do not sum to one", row)
        yield Prediction(
            _film(cells, row, problems),
            side if category is not None else None,
            category,
            probabilities,
            _flag(cells, row, problems),
            cells.get("code") or (None if category is not None else "not_read"),
            row=row,
        )
    problems.raise_if_any()
    if columns is None:
        raise InputError(f"{path.name} has no rows under its header")


def read_reads(path: Path) -> list[Read]:
    """Read the readers' answers: `reader`, `grade`, `phase`, a film's name, `side`, `answer`.

    Optional: `confidence` (any scale, higher is surer) and `seconds`.
    """
    problems = Problems(path.name)
    reads = []
    for row, cells in _rows(path, needed=("reader", "grade", "phase", "side", "answer")):
        side, answer = _side(cells, row, problems), _category(cells, "answer", row, problems)
        if not cells["reader"]:
            problems.add("no reader", row)
        if cells["phase"] not in PHASES:
            problems.add("a phase that is neither alone nor assisted", row)
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
    problems.raise_if_any()
    if not reads:
        raise InputError(f"{path.name} has no rows under its header")
    return reads


def _rows(path: Path, *, needed: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield each row that is not empty, with its number and its cells by lower-case column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header_line = file.readline()
            delimiter = ";" if header_line.count(";") > header_line.count(",") else ","
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(path, header, needed)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path.name}, row {reader.line_num}: {len(cells)} cells under a header "
                        f"of {len(header)}"
                    )
                values = (cell.strip() for cell in cells)
                yield reader.line_num, dict(zip(header, values, strict=True))
    except UnicodeDecodeError:
        raise InputError(
            f"{path.name} is not UTF-8 throughout: {_name_rows(_undecodable_rows(path))}; "
            "save it again as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise InputError(f"{path.name}, row {reader.line_num}: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _check_header(path: Path, header: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in header]
    if not any(name in header for name in FILM_COLUMNS):
        missing.append(" or ".join(FILM_COLUMNS))
    if missing:
        raise InputError(f"{path.name} has no column {', no column '.join(missing)}")
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"{path.name} has a column twice: {', '.join(twice)}")


def _undecodable_rows(path: Path) -> list[int]:
    rows = []
    for row, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            rows.append(row)
    return rows


def _film(cells: Mapping[str, str], row: int, problems: Problems) -> FilmName:
    film = FilmName(*(cells.get(name) or None for name in FILM_COLUMNS))
    if film == FilmName():
        problems.add("no film: " + ", ".join(FILM_COLUMNS) + " are all empty", row)
    return film


def _side(cells: Mapping[str, str], row: int, problems: Problems) -> Side | None:
    try:
        return Side(cells["side"].lower())
    except ValueError:
        problems.add("a side that is not right, left or unknown", row)
        return None


def _category(cells: Mapping[str, str], column: str, row: int, problems: Problems) -> int | None:
    index = _CATEGORY_INDEX.get(cells[column].lower().replace(" ", "_"))
    if index is None:
        problems.add(f"unknown {column} '{cells[column]}'", row)
    return index


def _number(cells: Mapping[str, str], column: str, row: int, problems: Problems) -> float | None:
    """Return a number that may be missing but must be finite and not negative."""
    if not cells.get(column):
        return None
    try:
        number = float(cells[column])
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number >= 0:
        return number
    problems.add(f"a value of {column} that is not a number of 0 or more", row)
    return None


def _probability_columns(path: Path, cells: Mapping[str, str]) -> bool:
    """Say whether there are probabilities; some columns without others is an error."""
    present = [name in cells for name in _CATEGORY_INDEX]
    if any(present) and not all(present):
        missing = [name for name in _CATEGORY_INDEX if name not in cells]
        raise InputError(f"{path.name} has no probability column for {', '.join(missing)}")
    if not any(present) and "category" not in cells:
        raise InputError(
            f"{path.name} has neither probability columns (normal, …) nor a column category"
        )
    return all(present)


def _probabilities(
    cells: Mapping[str, str], present: bool, row: int, problems: Problems
) -> tuple[float, ...] | None:
    texts = [cells[name] for name in _CATEGORY_INDEX] if present else []
    if not any(texts):
        return None
    try:
        values = tuple(float(text) for text in texts)
    except ValueError:
        values = (math.nan,)
    if all(0 <= value <= 1 for value in values):
        return values
    problems.add("a probability that is not a number from 0 to 1", row)
    return None


def _flag(cells: Mapping[str, str], row: int, problems: Problems) -> bool | None:
    text = cells.get("flagged", "").lower()
    if text not in ("", "0", "1", "false", "true"):
        problems.add("a value of flagged that is not 0, 1, false or true", row)
    return None if not text else text in ("1", "true")


def _name_rows(rows: list[int]) -> str:
    named = ", ".join(str(row) for row in rows[:_MOST_ROWS_NAMED])
    more = len(rows) - _MOST_ROWS_NAMED
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
