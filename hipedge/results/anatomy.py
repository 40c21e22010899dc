"""Body part, laterality and orientation of a picture, or of an overlay on the film."""

from __future__ import annotations

from pydicom.dataset import Dataset

from hipedge.locate.upright import turned_orientation
from hipedge.results.source import Source
from hipedge.store.rows import Case
from hipedge.types import Side

_LETTERS = {Side.RIGHT: "R", Side.LEFT: "L"}


def set_anatomy(result: Dataset, case: Case, source: Source) -> None:
    """Set Body Part Examined and Laterality (PS3.3 C.7.3.1): those of the hips, else of the film.

    A picture of both hips is one of the pelvis, which is not paired and has no laterality.
    """
    sides = {scored.hip.side for scored in case.hips} - {Side.UNKNOWN}
    if len(sides) == 2:
        result.BodyPartExamined = "PELVIS"
        return
    result.BodyPartExamined = "HIP"
    result.Laterality = _LETTERS[sides.pop()] if sides else _film_laterality(source.header)


def _film_laterality(film: Dataset) -> str:
    """Return R or L where the film says so, else empty: unknown (PS3.3 C.7.3.1)."""
    values = (str(film.get(name) or "") for name in ("ImageLaterality", "Laterality"))
    return next((value for value in values if value in _LETTERS.values()), "")


def upright_orientation(film: Dataset, turns: int) -> list[str]:
    """Return Patient Orientation (0020,0020) after turns counterclockwise, empty if unknown."""
    directions = [str(value) for value in film.get("PatientOrientation") or ()]
    if len(directions) != 2:
        return []
    turned = turned_orientation((directions[0], directions[1]), turns)
    return list(turned or ())
