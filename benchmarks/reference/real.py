"""Real radiographs outside all training: hips of FracAtlas, by label and age.

Films without a fracture are those of the test patients of the backgrounds' manifest; fractured
films and films with hardware are in no training. A film's score is its highest probability over its
hips and the categories in question. Fracture is asked of adults without hardware: of a fixed
fracture the correct category is internal fixation. The films without fracture and without hardware
are not all healthy: nobody has labelled arthritis on them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.reference.markdown import cell_text
from benchmarks.reference.scoring import infer
from hipedge.backends.base import Backend
from hipedge.config import Settings
from hipedge.errors import CODES, Code
from hipedge.insertion.manifest import AgeClass, read_manifest
from hipedge.locate.given import GivenHip, GivenHips
from hipedge.model import ModelFolder
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.rules.decide import decide
from hipedge.rules.site_rule import site_rule
from hipedge.study.auc import auc_interval, delong_variance, placements
from hipedge.study.estimates import ACUTE_FRACTURE, PLAIN, Cell, Estimate, Table
from hipedge.study.intervals import wilson
from hipedge.train.manifest import TEST
from hipedge.train.reference import BACKGROUNDS
from hipedge.types import CATEGORIES, HARDWARE, Finding, Hip, Refusal, Sample, Scores, Side

ADULTS, CHILDREN, FRACTURED, FIXED = (
    "not_fractured",
    "not_fractured_child",
    "fractured",
    "fractured_hardware",
)
# Marks of films that lie on their side are left out: only the locator turns films.
TURNED = "turned"
# The centres marked on an older copy of the films are in pixels of 640 by 640.
MARKED_PX = 640


@dataclass(frozen=True, eq=False)
class RealHip:
    """One hip of a real film: crops, scores, and the finding at each operating point.

    Of a hip of unknown side there are two: as it lies, then mirrored.
    """

    hip: Hip
    samples: tuple[Sample, ...]
    scores: tuple[Scores, ...]
    findings: Mapping[str, Finding]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The calibrated probabilities, the same at every operating point."""
        return next(iter(self.findings.values())).probabilities


@dataclass(frozen=True, eq=False)
class RealFilm:
    """A real film, its kind (such as `ADULTS`), and its hips or the reason why it was refused."""

    name: str
    kind: str
    hips: tuple[RealHip, ...] = ()
    refused: Code | None = None
    marks: frozenset[str] = field(default_factory=frozenset)

    def score(self, asked: tuple[bool, ...]) -> float:
        """Return the highest probability of the categories asked about, over the hips."""
        return max(float(np.array(hip.probabilities)[np.array(asked)].max()) for hip in self.hips)

    def is_flagged(self, operating_point: str) -> bool:
        """Return whether any hip is flagged."""
        return any(hip.findings[operating_point].flagged for hip in self.hips)


def films_outside_training(data: Path) -> dict[Path, str]:
    """Return the kind of each real film that took no part in training or calibration."""
    films: dict[Path, str] = {}
    for row in read_manifest(BACKGROUNDS, data / "fracatlas"):
        if row.split == TEST:
            films[row.path] = CHILDREN if row.age_class is AgeClass.CHILD else ADULTS
    for kind in (FRACTURED, FIXED):
        films |= dict.fromkeys(sorted((data / "fracatlas" / f"hip_{kind}").glob("*.jpg")), kind)
    return films


def read_marks(data: Path, centres: Path) -> GivenHips:
    """Return the femoral heads marked by eye on those films, as far as there are marks.

    Of films without fracture they are in the manifest of backgrounds; `centres` has some of the
    others.
    """
    films = films_outside_training(data)
    others = [path for path, kind in films.items() if kind in (FRACTURED, FIXED)]
    given = dict(_rescaled(read_centres(centres, others)).by_film)
    for row in read_manifest(BACKGROUNDS, data / "fracatlas"):
        if row.path in films and row.side and row.centre_px and not row.quarter_turns:
            key = str(row.path.resolve())
            given[key] = (*given.get(key, ()), GivenHip(row.side, row.centre_px))
    return GivenHips(given)


def _rescaled(given: GivenHips) -> GivenHips:
    """Return marks on the copy of 640 by 640 pixels as marks on the original films."""
    rescaled = {}
    for path, hips in given.by_film.items():
        with Image.open(path) as image:
            scale_x, scale_y = image.width / MARKED_PX, image.height / MARKED_PX
        centres = [(hip.side, hip.marked) for hip in hips]
        rescaled[path] = tuple(
            GivenHip(side, (centre[0] * scale_x, centre[1] * scale_y))
            for side, centre in centres
            if isinstance(centre, tuple)
        )
    return GivenHips(rescaled)


def read_centres(path: Path, films: Sequence[Path]) -> GivenHips:
    """Read centres marked by eye on `films`, in pixels of the copy of 640 by 640.

    Films that lie on their side are left out. A single hip's side is unknown, as it is to the
    locator: such films have no header.
    """
    by_name = {film.name: film for film in films}
    given: dict[str, tuple[GivenHip, ...]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["kind"] == TURNED or row["file"] not in by_name:
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
    kinds: Mapping[Path, str], model: ModelFolder, backend: Backend, given: GivenHips
) -> list[RealFilm]:
    """Read films and decide about their hips by the same steps as in screening."""
    preprocessor = Preprocessor.for_model(model, given)
    rules = {
        point: site_rule(model.card, Settings(operating_point=point))
        for point in model.card.operating_points
    }
    films = []
    for path, kind in kinds.items():
        result = preprocessor(path)
        if isinstance(result, Refusal):
            films.append(RealFilm(path.name, kind, refused=result.code))
            continue
        assert isinstance(result, Prepared)  # nothing is known to this preprocessor
        hips = []
        for hip, samples in result.hips:
            scores = tuple(infer(samples, backend))
            logits = [score.logits for score in scores]
            findings = {point: decide(logits, rule) for point, rule in rules.items()}
            hips.append(RealHip(hip, samples, scores, findings))
        marks = frozenset(mark.value for mark in result.marks)
        films.append(RealFilm(path.name, kind, tuple(hips), marks=marks))
    return films


def has_hardware(film: RealFilm) -> bool:
    """Return whether there is hardware on a film."""
    return film.kind == FIXED


def has_fracture(film: RealFilm) -> bool:
    """Return whether there is a fracture without hardware on a film."""
    return film.kind == FRACTURED


HARDWARE_ASKED = tuple(category in HARDWARE for category in CATEGORIES)


def measure_real(films: Sequence[RealFilm]) -> dict[str, Estimate]:
    """Return every number of the table for one way of finding the hips, by name."""
    read = [film for film in films if film.hips]
    groups = {
        "without either": [film for film in read if film.kind == ADULTS],
        "children": [film for film in read if film.kind == CHILDREN],
        "fractured": [film for film in read if has_fracture(film)],
        "with hardware": [film for film in read if has_hardware(film)],
    }
    adults = [film for film in read if film.kind != CHILDREN]
    found = {
        "AUC, hardware or none": area(adults, HARDWARE_ASKED, has_hardware),
        "AUC, fracture or none": area(
            [film for film in adults if not has_hardware(film)], ACUTE_FRACTURE, has_fracture
        ),
    }
    points = list(read[0].hips[0].findings) if read else []
    for name, group in groups.items():
        for point in points:
            flags = [film.is_flagged(point) for film in group]
            found[f"{name}: flagged, {point}"] = share(np.array(flags, dtype=bool))
    for point in points:
        flags = [h.findings[point].flagged for f in groups["without either"] for h in f.hips]
        found[f"hips without either: flagged, {point}"] = share(np.array(flags, dtype=bool))
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
    """Return the share of films or hips (N,) that are true, with Wilson's interval."""
    if not len(true):
        return Estimate(float("nan"), n=0)
    return Estimate(float(true.mean()), {"wilson": wilson(int(true.sum()), len(true))}, len(true))


def real_table(ways: Mapping[str, Sequence[RealFilm]]) -> Table:
    """Tabulate the measures, one column for each way of finding the hips."""
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
        "FracAtlas (Abedeen et al. 2023, doi:10.1038/s41597-023-02432-4, CC BY 4.0), whose labels "
        "are fracture and hardware alone. Films without either are those of the test patients; "
        "fractured films and those with hardware are in no training. Both AUCs are over films of "
        "adults, by the highest probability of the categories in question, with DeLong's interval; "
        "fracture is asked of films without hardware. A film is flagged where any of its hips is. "
        "None of this is diagnostic accuracy. Of the 23 films with a fracture 21 show another body "
        "part too, where the fracture and its hardware may lie instead.",
    )


def in_words(ways: Mapping[str, Sequence[RealFilm]]) -> str:
    """Return two sentences on the first way of finding the hips."""
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
    """Count the films, those that were refused and why, and those with a mark."""
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
