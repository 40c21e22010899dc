"""Real radiographs that nothing was trained on: FracAtlas's hips, by what their folders say.

A film counts as positive for its highest probability, over its hips and over the categories that
are asked about. Fracture is asked of films without hardware only: on a fixed fracture the answer
that hipedge's categories have is internal fixation. The films without fracture and without hardware
are not all healthy: nobody has labelled their arthritis.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference.markdown import cell_text
from benchmarks.reference.scoring import infer
from hipedge.backends.base import Backend
from hipedge.config import Settings
from hipedge.errors import CODES, Code
from hipedge.locate import GivenHip, GivenHips
from hipedge.model import ModelFolder
from hipedge.pipeline.preprocess import Prepared, Preprocessor
from hipedge.rules.decide import decide
from hipedge.rules.site_rule import site_rule
from hipedge.study.auc import auc_interval, delong_variance, placements
from hipedge.study.estimates import ACUTE_FRACTURE, PLAIN, Cell, Estimate, Table
from hipedge.study.intervals import wilson
from hipedge.types import CATEGORIES, HARDWARE, Finding, Hip, Refusal, Sample, Scores, Side

FOLDERS = ("not_fractured", "fractured", "fractured_hardware")
# A film on its side is not upright for a person's marks either: only the locator turns it.
TURNED = "turned"


@dataclass(frozen=True, eq=False)
class RealHip:
    """One hip of a real film: what the network saw, and what was decided by operating point.

    A hip of unknown side was seen twice; `sample` and `scores` are as it lies, then mirrored.
    """

    hip: Hip
    samples: tuple[Sample, ...]
    scores: tuple[Scores, ...]
    findings: Mapping[str, Finding]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Its calibrated probabilities, which no operating point changes."""
        return next(iter(self.findings.values())).probabilities


@dataclass(frozen=True, eq=False)
class RealFilm:
    """A real film, the folder that it lies in, and its hips or why it was not read."""

    name: str
    folder: str
    hips: tuple[RealHip, ...] = ()
    refused: Code | None = None
    marks: frozenset[str] = field(default_factory=frozenset)

    def score(self, asked: tuple[bool, ...]) -> float:
        """Return the highest probability of the categories asked about, over the hips."""
        return max(float(np.array(hip.probabilities)[np.array(asked)].max()) for hip in self.hips)

    def is_flagged(self, operating_point: str) -> bool:
        """Say whether any hip is flagged."""
        return any(hip.findings[operating_point].flagged for hip in self.hips)


def paths_of(data: Path) -> list[Path]:
    """Return the real films, folder by folder."""
    root = data / "fracatlas_hip"
    return [path for folder in FOLDERS for path in sorted((root / folder).glob("*.jpg"))]


def read_centres(path: Path, films: Sequence[Path]) -> GivenHips:
    """Read centres that were marked by eye, of the films that are upright.

    A single hip's side is unknown, as it is to the locator: such films have no header.
    """
    by_name = {film.name: film for film in films}
    given: dict[str, tuple[GivenHip, ...]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["kind"] == TURNED:
                continue
            centres = {
                side: (float(row[f"{name}_x"]), float(row[f"{name}_y"]))
                for name, side in (("left", Side.RIGHT), ("right", Side.LEFT))
                if row[f"{name}_x"]
            }
            given[str(by_name[row["file"]].resolve())] = tuple(
                GivenHip(side if len(centres) == 2 else Side.UNKNOWN, centre)
                for side, centre in centres.items()
            )
    return GivenHips(given)


def read_films(
    paths: Sequence[Path], model: ModelFolder, backend: Backend, given: GivenHips
) -> list[RealFilm]:
    """Bring films down the line that screens: the same reading, locating, cropping, deciding."""
    front = Preprocessor(model.card.input, given, frozenset(), model.locator)
    rules = {
        point: site_rule(model.card, Settings(operating_point=point))
        for point in model.card.operating_points
    }
    films = []
    for path in paths:
        result = front(path)
        name, folder = path.name, path.parent.name
        if isinstance(result, Refusal):
            films.append(RealFilm(name, folder, refused=result.code))
            continue
        assert isinstance(result, Prepared)  # a front that knows no content never says Known
        hips = []
        for hip, samples in result.hips:
            scores = tuple(infer(samples, backend))
            logits = [one.logits for one in scores]
            findings = {point: decide(logits, rule) for point, rule in rules.items()}
            hips.append(RealHip(hip, samples, scores, findings))
        marks = frozenset(mark.value for mark in result.marks)
        films.append(RealFilm(name, folder, tuple(hips), marks=marks))
    return films


def of_hardware(film: RealFilm) -> bool:
    """Say whether there is hardware on a film."""
    return film.folder == "fractured_hardware"


def of_fracture(film: RealFilm) -> bool:
    """Say whether there is a fracture without hardware on a film."""
    return film.folder == "fractured"


HARDWARE_ASKED = tuple(category in HARDWARE for category in CATEGORIES)


def measure_real(films: Sequence[RealFilm]) -> dict[str, Estimate]:
    """Return every number that the table of one way to find the hips has, by name."""
    read = [film for film in films if film.hips]
    bare = [film for film in read if not of_hardware(film)]
    groups = {
        "without either": [film for film in bare if not of_fracture(film)],
        "fractured": [film for film in bare if of_fracture(film)],
        "with hardware": [film for film in read if of_hardware(film)],
    }
    found = {
        "AUC, hardware or none": area(read, HARDWARE_ASKED, of_hardware),
        "AUC, fracture or none": area(bare, ACUTE_FRACTURE, of_fracture),
    }
    points = list(read[0].hips[0].findings) if read else []
    for name, group in groups.items():
        for point in points:
            flags = [film.is_flagged(point) for film in group]
            found[f"{name}: flagged, {point}"] = share(np.array(flags, dtype=bool))
    called = [
        any(hip.findings[points[0]].category in HARDWARE for hip in film.hips)
        for film in groups["with hardware"]
    ]
    found["with hardware: called so"] = share(np.array(called, dtype=bool))
    return found


def area(
    films: Sequence[RealFilm], asked: tuple[bool, ...], is_positive: Callable[[RealFilm], bool]
) -> Estimate:
    """Return the AUC over films, with DeLong's interval."""
    scores = np.array([film.score(asked) for film in films])
    positive = np.array([is_positive(film) for film in films], dtype=bool)
    placed = placements(scores, positive)
    if placed is None:
        return Estimate(float("nan"), n=len(films), unit=PLAIN)
    interval = auc_interval(placed.auc, delong_variance(placed))
    return Estimate(placed.auc, {"delong": interval}, len(films), unit=PLAIN)


def share(true: NDArray[np.bool_]) -> Estimate:
    """Return the share of films (N,) for which something is true, with Wilson's interval."""
    if not len(true):
        return Estimate(float("nan"), n=0)
    return Estimate(float(true.mean()), {"wilson": wilson(int(true.sum()), len(true))}, len(true))


def real_table(ways: Mapping[str, Sequence[RealFilm]]) -> Table:
    """Set the ways in which the hips were found side by side."""
    measured = {way: measure_real(films) for way, films in ways.items()}
    names = dict.fromkeys(name for found in measured.values() for name in found)
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        cells: list[Cell] = []
        for found in measured.values():
            estimate = found.get(name)
            cells += [estimate, estimate.n if estimate else None]
        rows.append((name, *cells))
    return Table(
        "real",
        "Real films",
        ("", *(column for way in ways for column in (way, "films"))),
        tuple(rows),
        "FracAtlas (Abedeen et al. 2023, doi:10.1038/s41597-023-02432-4), whose labels say "
        "fracture and hardware and nothing else; none of these films was used for training, nor "
        "did the locator take its looks from them. The "
        "AUC is over films, by the highest probability of the categories asked about, with "
        "DeLong's interval; fracture is asked of films without hardware. A film is flagged where "
        "any of its hips is; the rows say how many films are of each kind. None of this is "
        "diagnostic accuracy. Of the 23 films with a fracture 21 show another body part too, "
        "where the fracture and its hardware may lie instead.",
    )


def in_words(ways: Mapping[str, Sequence[RealFilm]]) -> str:
    """Say in two sentences what the table says of the first way to find the hips."""
    way, films = next(iter(ways.items()))
    found = measure_real(films)
    flagged = [name for name in found if name.startswith("without either")]
    shares = " and ".join(f"{cell_text(found[name])} {name.split(', ')[1]}" for name in flagged)
    return (
        f"On real films (FracAtlas, hips {way}) the AUC of hardware or none is"
        f" {cell_text(found['AUC, hardware or none'])}, that of fracture or none"
        f" {cell_text(found['AUC, fracture or none'])}. Of the {found[flagged[0]].n} films with"
        f" neither it flags, by operating point: {shares}."
    )


def unread_table(ways: Mapping[str, Sequence[RealFilm]]) -> Table:
    """Count the films, those that were not read and why, and those that were turned or marked."""
    rows: list[tuple[Cell, ...]] = []
    for way, films in ways.items():
        rows.append((way, "films", len(films), ""))
        refused = Counter(film.refused for film in films if film.refused)
        for code, count in refused.most_common():
            names = ", ".join(film.name for film in films if film.refused is code)
            rows.append((way, f"not read: {CODES[code].meaning}", count, names))
        marks = Counter(mark for film in films for mark in film.marks)
        rows += [(way, f"marked {mark}", count, "") for mark, count in marks.most_common()]
    return Table("unread", "Real films that were not read, or are marked",
                 ("hips", "what", "films", "which"), tuple(rows))  # fmt: skip


def metrics_of(ways: Mapping[str, Sequence[RealFilm]]) -> dict[str, Estimate]:
    """Return the card's numbers, by name."""
    return {
        f"real_{way}_{name}".lower().translate(str.maketrans(" ", "_", ",:")): estimate
        for way, films in ways.items()
        for name, estimate in measure_real(films).items()
        if estimate.defined
    }
