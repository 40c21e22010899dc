"""The manifest of real films for the locator: one film per row, with or without a hip.

    path,split,patient,left_x,left_y,right_x,right_y[,kind][,quarter_turns]

`path` is relative to a folder of films, by default that of the manifest; `split` is train, val or
test. `left_x` and `left_y` are the centre of the femoral head at the left of the image, `right_x`
and `right_y` of that at its right, in pixels of the image after `quarter_turns` counterclockwise
rotations by 90°, which set it upright. Both are empty where that head is not on the film; a film
without any shows no hip. `kind` is a word by which results are grouped. Other columns are ignored.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hipedge.csv_input import Columns, Problems, finite_number, read_rows, repeated_rows
from hipedge.errors import InputError
from hipedge.train.manifest import TEST, TRAIN, VAL

Point = tuple[float, float]

SPLITS = (TRAIN, VAL, TEST)
COLUMNS = Columns(("path", "split", "patient", "left_x", "left_y", "right_x", "right_y"))


@dataclass(frozen=True)
class FilmRow:
    """A film; `heads` are the centres at the left and at the right of the upright image."""

    line: int
    path: Path
    split: str
    patient: str
    kind: str
    quarter_turns: int
    heads: tuple[Point | None, Point | None]

    @property
    def has_hip(self) -> bool:
        """Whether a femoral head is on the film."""
        return any(self.heads)


@dataclass(frozen=True)
class FilmManifest:
    """The rows of a manifest of films, and the path and the SHA-256 of the file."""

    path: Path
    rows: tuple[FilmRow, ...]
    sha256: str


def read_film_manifest(path: Path, films: Path | None = None) -> FilmManifest:
    """Read and check a manifest of films; its paths are relative to the folder `films`.

    Raises `InputError`, which names every invalid row: a missing file or patient, an unknown split,
    half a centre, a repeated film, or a patient in two splits.
    """
    problems = Problems(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    rows: list[FilmRow] = []
    for line, cells in read_rows(path, COLUMNS, content=content):
        try:
            rows.append(_row(line, cells, films or path.parent))
        except ValueError as error:
            problems.add(line, str(error))
    for line, first in repeated_rows((row.line, row.path.resolve()) for row in rows):
        problems.add(line, f"the same film as in line {first}")
    split_of: dict[str, FilmRow] = {}
    for row in rows:
        first_row = split_of.setdefault(row.patient, row)
        if first_row.split != row.split:
            problems.add(
                row.line,
                f"leakage: this patient is in {row.split} here"
                f" and in {first_row.split} in line {first_row.line}",
            )
    problems.raise_by_row()
    if not rows:
        raise InputError(f"{path} has no rows under its header")
    return FilmManifest(path, tuple(rows), hashlib.sha256(content).hexdigest())


def _row(line: int, cells: Mapping[str, str], films: Path) -> FilmRow:
    path = films / cells["path"]
    if not cells["path"] or not path.is_file():
        raise ValueError(f"no file {path}")
    if cells["split"] not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)}, not {cells['split']!r}")
    if not cells["patient"]:
        raise ValueError("no patient: splits are by patient")
    turns = finite_number(cells.get("quarter_turns") or "0")
    if turns is None or turns != math.floor(turns):
        raise ValueError(f"quarter_turns must be a whole number, not {cells['quarter_turns']!r}")
    heads = _head(cells, "left"), _head(cells, "right")
    kind = cells.get("kind") or ("hip" if any(heads) else "no hip")
    return FilmRow(line, path, cells["split"], cells["patient"], kind, int(turns) % 4, heads)


def _head(cells: Mapping[str, str], side: str) -> Point | None:
    texts = cells[f"{side}_x"], cells[f"{side}_y"]
    if not any(texts):
        return None
    x, y = (finite_number(text) for text in texts)
    if x is None or y is None:
        raise ValueError(
            f"the head at the {side} needs two numbers, not {texts[0]!r}, {texts[1]!r}"
        )
    return x, y
