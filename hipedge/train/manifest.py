"""The training manifest: a CSV file with one hip per row.

    path,side,category,patient[,site][,age][,sex][,x,y | x0,y0,x1,y1][,split]

`path` is absolute or relative to the folder of the file, `side` is right or left, `category` a
value of `Category`, `age` in years. The femoral head's centre (`x`, `y`) or a box is in pixels of
the stored image. If a row has both, the centre is used; if it has neither, the femoral head is
located automatically. `split` is train, val, test or external (a test set from another hospital)
and must be given in all rows or in none.
Other columns are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hipedge.csv_input import (
    Columns,
    Problems,
    did_you_mean,
    finite_number,
    read_rows,
    repeated_rows,
)
from hipedge.errors import InputError
from hipedge.locate.given import GivenHip, box_between
from hipedge.types import Box, Category, Side

T = TypeVar("T")

REQUIRED = ("path", "side", "category", "patient")
CENTRE, BOX = ("x", "y"), ("x0", "y0", "x1", "y1")

TRAIN, VAL, TEST, EXTERNAL = "train", "val", "test", "external"
SPLITS = (TRAIN, VAL, TEST, EXTERNAL)
# The fractions of patients for validation and test if the manifest has no split.
VAL_SHARE, TEST_SHARE = 0.15, 0.15

OLDEST_YEARS = 120


@dataclass(frozen=True)
class Row:
    """A hip of the manifest; `line` is its line in the file, counted from 1."""

    line: int
    path: Path
    side: Side
    category: Category
    patient: str
    site: str | None = None
    age_years: float | None = None
    sex: str | None = None
    marked: tuple[float, float] | Box | None = None
    split: str = ""

    @property
    def given(self) -> tuple[GivenHip, ...]:
        """The marked position as input to `hipedge.locate`; empty if the hip is not marked."""
        return () if self.marked is None else (GivenHip(self.side, self.marked),)


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest, each with its split, and the path and SHA-256 of the file."""

    path: Path
    rows: tuple[Row, ...]
    sha256: str

    def of(self, split: str) -> tuple[Row, ...]:
        """Return the rows of a split, in the order of the file."""
        return tuple(row for row in self.rows if row.split == split)


def read_manifest(path: Path, *, seed: int = 0) -> Manifest:
    """Read and validate a manifest, and split it by patient if it has no split.

    Raises `InputError` naming every invalid row: an unknown side or category, a missing file or
    patient, an invalid mark, a repeated hip, or a patient in two splits. Duplicate films and hips
    that cannot be located are detected later, when the pixels are read.
    """
    problems = Problems(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    rows = [
        row
        for line, cells in read_rows(path, Columns(REQUIRED), content=content)
        if (row := _row(line, cells, path.parent, problems)) is not None
    ]
    _check_together(rows, problems)
    problems.raise_by_row()
    if not rows:
        raise InputError(f"{path} has no rows under its header")
    if not rows[0].split:
        rows = [replace(row, split=split_of(row.patient, seed)) for row in rows]
    return Manifest(path, tuple(rows), hashlib.sha256(content).hexdigest())


def split_of(patient: str, seed: int) -> str:
    """Return the split of a patient from a hash of the name, so that new rows move no others."""
    digest = hashlib.sha256(f"{seed} {patient}".encode()).digest()
    part = int.from_bytes(digest[:8], "big") / 2**64
    if part < TEST_SHARE:
        return TEST
    return VAL if part < TEST_SHARE + VAL_SHARE else TRAIN


def _row(line: int, cells: Mapping[str, str], folder: Path, problems: Problems) -> Row | None:
    """Return the row and record its errors in `problems`; None if it does not identify a hip."""

    def checked(parse: Callable[[], T]) -> T | None:
        try:
            return parse()
        except ValueError as error:
            problems.add(line, str(error))
            return None

    path = checked(lambda: _path(cells["path"], folder))
    side = checked(lambda: _side(cells["side"]))
    category = checked(lambda: _category(cells["category"]))
    patient = checked(lambda: _patient(cells["patient"]))
    age_years = checked(lambda: _age(cells.get("age", "")))
    marked = checked(lambda: _marked(cells))
    split = checked(lambda: _split(cells.get("split", "")))
    if path is None or side is None or category is None or patient is None:
        return None
    site, sex = cells.get("site") or None, cells.get("sex") or None
    return Row(line, path, side, category, patient, site, age_years, sex, marked, split or "")


def _path(text: str, folder: Path) -> Path:
    if not text:
        raise ValueError("no path")
    path = folder / text
    if not path.is_file():
        raise ValueError(f"no file {path}")
    return path


def _side(text: str) -> Side:
    if text.lower() not in (Side.RIGHT.value, Side.LEFT.value):
        raise ValueError(f"side must be right or left, not {text!r}")
    return Side(text.lower())


def _category(text: str) -> Category:
    try:
        return Category(text.lower())
    except ValueError:
        known = [category.value for category in Category]
        raise ValueError(
            f"category {text!r}{did_you_mean(text, known)} is none of {', '.join(known)}"
        ) from None


def _patient(text: str) -> str:
    if not text:
        raise ValueError("no patient: splits are by patient")
    return text


def _age(text: str) -> float | None:
    if not text:
        return None
    years = _number(text, "age")
    if not 0 <= years <= OLDEST_YEARS:
        raise ValueError(f"age {text!r} is not from 0 to {OLDEST_YEARS} years")
    return years


def _marked(cells: Mapping[str, str]) -> tuple[float, float] | Box | None:
    centre = [cells[name] for name in CENTRE if cells.get(name)]
    box = [cells[name] for name in BOX if cells.get(name)]
    if len(centre) not in (0, len(CENTRE)) or len(box) not in (0, len(BOX)):
        raise ValueError("a centre needs x and y, and a box x0, y0, x1 and y1")
    if centre:
        x, y = (_number(text, "centre") for text in centre)
        return x, y
    if not box:
        return None
    return box_between(*(_number(text, "box") for text in box))


def _number(text: str, what: str) -> float:
    number = finite_number(text)
    if number is None:
        raise ValueError(f"{what} {text!r} is not a number")
    return number


def _split(text: str) -> str:
    if text and text.lower() not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)}, not {text!r}")
    return text.lower()


def _check_together(rows: Sequence[Row], problems: Problems) -> None:
    """Check across rows: an incomplete split, a repeated hip, a patient in two splits."""
    first: dict[str, Row] = {}
    some_split = any(row.split for row in rows)
    for line, other_line in repeated_rows((r.line, (r.path.resolve(), r.side)) for r in rows):
        problems.add(line, f"the same hip as in line {other_line}")
    for row in rows:
        if some_split and not row.split:
            problems.add(row.line, "no split, though other rows have one")
        other = first.setdefault(row.patient, row)
        if row.split and other.split and other.split != row.split:
            problems.add(
                row.line,
                f"leakage: this patient is in {row.split} here and in {other.split}"
                f" in line {other.line}",
            )
