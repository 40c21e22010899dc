"""Hips marked by a person: `--hips hips.csv`.

A row is one hip: its film by `path`, `content_hash` (BLAKE3), `sha256`
or `sop_instance_uid`; its `side` (right, left or
unknown); and either the femoral head's centre, `x` and `y`, with its `radius` or without, or the
box to crop, `x0`, `y0`, `x1` and `y1`. Coordinates are in pixels of the stored image, from its top
left corner. A path is absolute or relative to the folder of the CSV file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hipedge.content import HASH_COLUMNS, read_hash
from hipedge.csv_input import Columns, finite_number, read_rows
from hipedge.errors import InputError
from hipedge.types import Box, Film, Side

FILM_COLUMNS = (*HASH_COLUMNS, "path", "sop_instance_uid")
CENTRE_COLUMNS = ("x", "y")
BOX_COLUMNS = ("x0", "y0", "x1", "y1")
RADIUS_COLUMN = "radius"
TABLE = Columns(
    required=("side",),
    any_of=FILM_COLUMNS,
    allowed=(*FILM_COLUMNS, "side", *CENTRE_COLUMNS, RADIUS_COLUMN, *BOX_COLUMNS),
    pad_short_rows=True,
)


@dataclass(frozen=True)
class GivenHip:
    """A hip marked by a person: the femoral head's centre (x, y), or the box to crop.

    `radius_px` is the radius of the head, where the person marked it too.
    """

    side: Side
    marked: tuple[float, float] | Box
    radius_px: float | None = None


@dataclass(frozen=True)
class GivenHips:
    """The hips of a CSV file, by the film's hash, absolute path or SOP Instance UID.

    `lines` maps the same names to the first line of the CSV file with the film, and its name there.
    `by_sha256` means that some are named by SHA-256, which must be computed of every film then.
    """

    by_film: Mapping[str, tuple[GivenHip, ...]] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)
    by_sha256: bool = False

    def of(self, film: Film) -> tuple[GivenHip, ...]:
        """Return a film's hips, matched by hash, else by path, else by UID."""
        return next((self.by_film[name] for name in film_names(film) if name in self.by_film), ())


def film_names(film: Film) -> tuple[str, ...]:
    """Return the names by which a CSV file can refer to a film, the most specific first."""
    return file_names(film.source, film.content_hash, film.sha256, film.sop_instance_uid)


def file_names(
    path: Path,
    content_hash: str | None = None,
    sha256: str | None = None,
    sop_instance_uid: str | None = None,
) -> tuple[str, ...]:
    """Return the names by which a CSV file can refer to a file, without those that are unknown."""
    names = (content_hash, sha256, str(path.resolve()), sop_instance_uid)
    return tuple(name for name in names if name)


def read_hips_csv(path: Path) -> GivenHips:
    """Read marked hips from a CSV file.

    Raises `InputError`, naming file and line, for the first row that cannot be used.
    """
    by_film, lines = dict[str, tuple[GivenHip, ...]](), dict[str, str]()
    by_sha256 = False
    for line, cells in read_rows(path, TABLE):
        try:
            name, hip = _read_row(cells, path.parent)
            by_film[name] = _with(by_film.get(name, ()), hip)
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        lines.setdefault(name, f"line {line}: {_film_cell(cells)}")
        by_sha256 |= bool(cells.get("sha256"))
    return GivenHips(by_film, lines, by_sha256)


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
    return _film_name(cells, folder), GivenHip(side, _marked(cells), _radius(cells))


def _film_cell(cells: Mapping[str, str]) -> str:
    return next(cells[name] for name in FILM_COLUMNS if cells.get(name))


def _film_name(cells: Mapping[str, str], folder: Path) -> str:
    filled = [name for name in FILM_COLUMNS if cells.get(name)]
    if len(filled) != 1:
        raise ValueError(f"must name the film by exactly one of {', '.join(FILM_COLUMNS)}")
    value = cells[filled[0]]
    if filled[0] == "path":
        return str((folder / value).resolve())
    return read_hash(filled[0], value) if filled[0] in HASH_COLUMNS else value


def _marked(cells: Mapping[str, str]) -> tuple[float, float] | Box:
    centre = {name: cells[name] for name in CENTRE_COLUMNS if cells.get(name)}
    box = {name: cells[name] for name in BOX_COLUMNS if cells.get(name)}
    if len(centre) == len(CENTRE_COLUMNS) and not box:
        return _number(centre["x"]), _number(centre["y"])
    if len(box) == len(BOX_COLUMNS) and not centre:
        return box_between(*(_number(box[name]) for name in BOX_COLUMNS))
    raise ValueError("must give either x and y, or x0, y0, x1 and y1")


def _radius(cells: Mapping[str, str]) -> float | None:
    if not cells.get(RADIUS_COLUMN):
        return None
    if not cells.get("x"):
        raise ValueError("a radius needs a centre, x and y")
    radius = _number(cells[RADIUS_COLUMN])
    if radius <= 0:
        raise ValueError("radius must be greater than 0")
    return radius


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
