"""The manifest of backgrounds: real hips without a lesion, by patient and split.

    path,split,patient,age_class[,side][,x,y][,mm_per_px][,quarter_turns]

Each row describes one hip or, without a `side`, every hip found on the radiograph. `path` is
relative to the folder of the radiographs (by default that of the manifest). `split` is train, val
(calibration) or test. `age_class` is adult or child (open growth plates: used as normal only). `x`
and `y` are the centre of the femoral head in pixels, on the image as stored or after
`quarter_turns` counterclockwise rotations by 90°. `mm_per_px` is the pixel spacing in the plane of
the hip joints; if it is missing, the spacing in the header is used, or the scale is estimated from
the distance between the femoral heads, as in screening. Other columns are ignored.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hipedge.errors import InputError
from hipedge.types import Side

REQUIRED = ("path", "split", "patient", "age_class")
SPLITS = ("train", "val", "test")
MOST_NAMED = 20


class AgeClass(str, Enum):
    """Skeletal maturity: whether the growth plates are closed (adult) or open (child)."""

    ADULT = "adult"
    CHILD = "child"


@dataclass(frozen=True)
class BackgroundRow:
    """A row of the manifest; `line` is its line number in the file, starting at 1."""

    line: int
    path: Path
    split: str
    patient: str
    age_class: AgeClass
    side: Side | None = None
    centre_px: tuple[float, float] | None = None
    mm_per_px: float | None = None
    quarter_turns: int = 0


def read_manifest(path: Path, films: Path | None = None) -> tuple[BackgroundRow, ...]:
    """Read and check a manifest of backgrounds; its paths are relative to the folder `films`.

    Raises `InputError`, which lists the invalid rows: a missing file or patient, an unknown split
    or age class, an incomplete centre, a duplicate hip, or a patient or film in two splits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    faults: list[str] = []
    rows: list[BackgroundRow] = []
    for line, cells in _cells(text, path):
        try:
            rows.append(_row(line, cells, films or path.parent))
        except ValueError as error:
            faults.append(f"{path}, line {line}: {error}")
    faults += [f"{path}, line {line}: {fault}" for line, fault in _between(rows)]
    if faults:
        more = [f"and {len(faults) - MOST_NAMED} more faults"] if len(faults) > MOST_NAMED else []
        raise InputError("\n".join(faults[:MOST_NAMED] + more))
    if not rows:
        raise InputError(f"{path} has no rows under its header")
    return tuple(rows)


def _cells(text: str, path: Path) -> Iterable[tuple[int, Mapping[str, str]]]:
    """Yield the line number and the cells of each row that is not empty."""
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in REQUIRED if name not in header]:
            raise InputError(f"{path}, line 1: no column {', no column '.join(missing)}")
        for values in reader:
            if any(values):
                if len(values) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(values)} cells"
                        f" under {len(header)} columns"
                    )
                yield reader.line_num, dict(zip(header, (v.strip() for v in values), strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _row(line: int, cells: Mapping[str, str], films: Path) -> BackgroundRow:
    path = films / cells["path"]
    if not cells["path"] or not path.is_file():
        raise ValueError(f"no file {path}")
    split = cells["split"].lower()
    if split not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)}, not {cells['split']!r}")
    if not cells["patient"]:
        raise ValueError("no patient: splits are by patient")
    if cells["age_class"].lower() not in [age.value for age in AgeClass]:
        raise ValueError(f"age_class must be adult or child, not {cells['age_class']!r}")
    x, y = (_number(cells, name) for name in ("x", "y"))
    if (x is None) != (y is None):
        raise ValueError("a centre needs x and y")
    side = _side(cells.get("side", ""))
    if x is not None and side is None:
        raise ValueError("a centre needs a side")
    mm_per_px = _number(cells, "mm_per_px")
    if mm_per_px is not None and mm_per_px <= 0:
        raise ValueError(f"mm_per_px must be positive, not {mm_per_px}")
    return BackgroundRow(
        line=line,
        path=path,
        split=split,
        patient=cells["patient"],
        age_class=AgeClass(cells["age_class"].lower()),
        side=side,
        centre_px=None if x is None or y is None else (x, y),
        mm_per_px=mm_per_px,
        quarter_turns=int(_number(cells, "quarter_turns") or 0) % 4,
    )


def _side(text: str) -> Side | None:
    if not text:
        return None
    if text.lower() not in (Side.RIGHT.value, Side.LEFT.value):
        raise ValueError(f"side must be right or left, not {text!r}")
    return Side(text.lower())


def _number(cells: Mapping[str, str], name: str) -> float | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} {text!r} is not a number")
    return number


def _between(rows: Sequence[BackgroundRow]) -> Iterable[tuple[int, str]]:
    """Yield conflicts between rows: a patient or a film in two splits, or a duplicate hip."""
    patients: dict[str, BackgroundRow] = {}
    films: dict[Path, BackgroundRow] = {}
    hips: dict[tuple[Path, Side | None], BackgroundRow] = {}
    for row in rows:
        for name, other in (
            ("patient", patients.setdefault(row.patient, row)),
            ("film", films.setdefault(row.path.resolve(), row)),
        ):
            if other.split != row.split:
                yield (
                    row.line,
                    f"leakage: this {name} is in {row.split} here"
                    f" and in {other.split} in line {other.line}",
                )
        same = hips.setdefault((row.path.resolve(), row.side), row)
        if same is not row:
            yield row.line, f"the same hip as in line {same.line}"
