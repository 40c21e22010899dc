"""The manifest: a CSV with one hip a row, what it shows, and whom it belongs to.

    path,side,category,patient[,site][,age][,sex][,x,y | x0,y0,x1,y1][,split]

`path` is absolute or relative to the CSV's folder, `side` is right or left, `category` one of the
eight, `age` in years. The femoral head's centre (`x`, `y`) or a box is in pixels of the film as
stored; where a row has both, the centre counts, and where it has none the hip is looked for.
`split` is train, val, test or external (another hospital's test), in every row or in none. Other
columns are left unread.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hipedge.errors import InputError
from hipedge.locate import GivenHip
from hipedge.types import Box, Category, Side

T = TypeVar("T")

REQUIRED = ("path", "side", "category", "patient")
CENTRE, BOX = ("x", "y"), ("x0", "y0", "x1", "y1")

TRAIN, VAL, TEST, EXTERNAL = "train", "val", "test", "external"
SPLITS = (TRAIN, VAL, TEST, EXTERNAL)
# Where the manifest splits nothing: parts of the patients for validation and for the test.
VAL_SHARE, TEST_SHARE = 0.15, 0.15

OLDEST_YEARS = 120
# So many faults are named; who has more has one fault in every row.
MOST_NAMED = 20


@dataclass(frozen=True)
class Row:
    """One hip of the manifest; `line` is where it stands in the file, whose first line is 1."""

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
        """The hip as a person marked it, for `hipedge.locate`; empty where nobody did."""
        return () if self.marked is None else (GivenHip(self.side, self.marked),)


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest, each in its split; where the file is, and its SHA-256."""

    path: Path
    rows: tuple[Row, ...]
    sha256: str

    def of(self, split: str) -> tuple[Row, ...]:
        """Return the rows of one split, in the file's order."""
        return tuple(row for row in self.rows if row.split == split)


class Faults:
    """What is wrong with a manifest, line by line, raised all at once."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._faults: list[tuple[int, str]] = []

    def add(self, line: int, fault: str) -> None:
        """Note one fault of one line."""
        self._faults.append((line, fault))

    def raise_if_any(self) -> None:
        """Raise `InputError`, which names the file, and of the first faults the line and what."""
        if not self._faults:
            return
        faults = sorted(set(self._faults))
        lines = [f"{self.source}, line {line}: {fault}" for line, fault in faults[:MOST_NAMED]]
        if len(faults) > MOST_NAMED:
            lines.append(f"and {len(faults) - MOST_NAMED} more faults")
        raise InputError("\n".join(lines))


def read_manifest(path: Path, *, seed: int = 0) -> Manifest:
    """Read and check a manifest, and split it by patient where it does not say how.

    Raises `InputError`, which names every bad row: of an unknown side or category, without a
    file or a patient, marked outside what numbers can be, the same hip twice, or a patient in two
    splits. What only the pixels can show (copies, hips not found) is checked when they are read.
    """
    faults = Faults(path)
    try:
        data = path.read_bytes()
        cells = list(_cells(data.decode("utf-8-sig"), path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    read = (_row(line, row, path.parent, faults) for line, row in cells)
    rows = [row for row in read if row is not None]
    _check_together(rows, faults)
    faults.raise_if_any()
    if not rows:
        raise InputError(f"{path} has no rows under its header")
    if not rows[0].split:
        rows = [replace(row, split=split_of(row.patient, seed)) for row in rows]
    return Manifest(path, tuple(rows), hashlib.sha256(data).hexdigest())


def split_of(patient: str, seed: int) -> str:
    """Return the split of a patient by a hash of the name: rows may be added, none then moves."""
    digest = hashlib.sha256(f"{seed} {patient}".encode()).digest()
    part = int.from_bytes(digest[:8], "big") / 2**64
    if part < TEST_SHARE:
        return TEST
    return VAL if part < TEST_SHARE + VAL_SHARE else TRAIN


def _cells(text: str, path: Path) -> Iterable[tuple[int, Mapping[str, str]]]:
    """Yield line number and cells of each row that is not empty."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in REQUIRED if name not in header]:
            raise InputError(f"{path}, line 1: no column {', no column '.join(missing)}")
        if twice := {name for name in header if header.count(name) > 1}:
            raise InputError(f"{path}, line 1: a column is named twice: {', '.join(sorted(twice))}")
        for values in reader:
            if not any(values):
                continue
            if len(values) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(values)} cells"
                    f" under {len(header)} columns"
                )
            yield reader.line_num, dict(zip(header, (v.strip() for v in values), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _row(line: int, cells: Mapping[str, str], folder: Path, faults: Faults) -> Row | None:
    """Return the row with its faults noted, or None where it names no hip."""

    def checked(parse: Callable[[], T]) -> T | None:
        try:
            return parse()
        except ValueError as error:
            faults.add(line, str(error))
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
        raise ValueError(
            f"category {text!r} is none of {', '.join(category.value for category in Category)}"
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
    x0, y0, x1, y1 = (_number(text, "box") for text in box)
    if x1 <= x0 or y1 <= y0:
        raise ValueError("a box needs x0 < x1 and y0 < y1")
    return Box(x0, y0, x1, y1)


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} {text!r} is not a number")
    return number


def _split(text: str) -> str:
    if text and text.lower() not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)}, not {text!r}")
    return text.lower()


def _check_together(rows: Sequence[Row], faults: Faults) -> None:
    """Note what is wrong between rows: half a split, a hip twice, a patient in two splits."""
    hips: dict[tuple[Path, Side], int] = {}
    first: dict[str, Row] = {}
    some_split = any(row.split for row in rows)
    for row in rows:
        if some_split and not row.split:
            faults.add(row.line, "no split, though other rows have one")
        key = (row.path.resolve(), row.side)
        if key in hips:
            faults.add(row.line, f"the same hip as in line {hips[key]}")
        hips.setdefault(key, row.line)
        other = first.setdefault(row.patient, row)
        if row.split and other.split and other.split != row.split:
            faults.add(
                row.line,
                f"leakage: this patient is in {row.split} here and in {other.split}"
                f" in line {other.line}",
            )
