"""Hips marked by a person: `--hips hips.csv`.

A row is one hip: its film by `path`, `sha256` or `sop_instance_uid`; its `side` (right, left or
unknown); and either the femoral head's centre, `x` and `y`, or the box to screen, `x0`, `y0`, `x1`
and `y1`. Coordinates are in pixels of the stored image, from its top left corner. A path is
absolute or relative to the folder of the CSV file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hipedge.csv_input import Columns, finite_number, read_rows
from hipedge.errors import InputError
from hipedge.types import Box, Film, Side

FILM_COLUMNS = ("sha256", "path", "sop_instance_uid")
CENTRE_COLUMNS = ("x", "y")
BOX_COLUMNS = ("x0", "y0", "x1", "y1")
TABLE = Columns(
    required=("side",),
    any_of=FILM_COLUMNS,
    allowed=(*FILM_COLUMNS, "side", *CENTRE_COLUMNS, *BOX_COLUMNS),
    pad_short_rows=True,
)


@dataclass(frozen=True)
class GivenHip:
    """A hip marked by a person: the femoral head's centre (x, y), or the box to screen."""

    side: Side
    marked: tuple[float, float] | Box


@dataclass(frozen=True)
class GivenHips:
    """The hips of a CSV file, by the film's SHA-256, absolute path or SOP Instance UID."""

    by_film: Mapping[str, tuple[GivenHip, ...]] = field(default_factory=dict)

    def of(self, film: Film) -> tuple[GivenHip, ...]:
        """Return a film's hips, matched by SHA-256, else by path, else by UID."""
        names = (film.sha256, str(film.source.resolve()), film.sop_instance_uid or "")
        return next((self.by_film[name] for name in names if name in self.by_film), ())


def read_hips_csv(path: Path) -> GivenHips:
    """Read marked hips from a CSV file.

    Raises `InputError`, naming file and line, for the first row that cannot be used.
    """
    by_film: dict[str, tuple[GivenHip, ...]] = {}
    for line, cells in read_rows(path, TABLE):
        try:
            name, hip = _read_row(cells, path.parent)
            by_film[name] = _with(by_film.get(name, ()), hip)
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
    return GivenHips(by_film)


def box_between(x0: float, y0: float, x1: float, y1: float) -> Box:
    """Return the box between two corners. Raises `ValueError` for corners in another order."""
    if x1 <= x0 or y1 <= y0:
        raise ValueError("a box needs x0 < x1 and y0 < y1")
    return Box(x0, y0, x1, y1)


def _read_row(cells: Mapping[str, str], folder: Path) -> tuple[str, GivenHip]:
    try:
        side = Side(cells["side"].lower())
    except ValueError:
        raise ValueError("side must be right, left or unknown") from None
    return _film_name(cells, folder), GivenHip(side, _marked(cells))


def _film_name(cells: Mapping[str, str], folder: Path) -> str:
    filled = [name for name in FILM_COLUMNS if cells.get(name)]
    if len(filled) != 1:
        raise ValueError(f"must name the film by exactly one of {', '.join(FILM_COLUMNS)}")
    value = cells[filled[0]]
    if filled[0] == "path":
        return str((folder / value).resolve())
    if filled[0] == "sha256":
        if len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 hexadecimal digits")
        return value.lower()
    return value


def _marked(cells: Mapping[str, str]) -> tuple[float, float] | Box:
    centre = {name: cells[name] for name in CENTRE_COLUMNS if cells.get(name)}
    box = {name: cells[name] for name in BOX_COLUMNS if cells.get(name)}
    if len(centre) == len(CENTRE_COLUMNS) and not box:
        return _number(centre["x"]), _number(centre["y"])
    if len(box) == len(BOX_COLUMNS) and not centre:
        return box_between(*(_number(box[name]) for name in BOX_COLUMNS))
    raise ValueError("must give either x and y, or x0, y0, x1 and y1")


def _number(text: str) -> float:
    number = finite_number(text)
    if number is None:
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _with(hips: tuple[GivenHip, ...], hip: GivenHip) -> tuple[GivenHip, ...]:
    if len(hips) == 2:
        raise ValueError("a third hip for one film")
    if any(other.marked == hip.marked for other in hips):
        raise ValueError("the same hip twice")
    if hip.side is not Side.UNKNOWN and any(other.side is hip.side for other in hips):
        raise ValueError(f"a second {hip.side.value} hip for one film")
    return (*hips, hip)
