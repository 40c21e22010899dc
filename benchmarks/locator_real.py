"""How well hips are found on real films, by centres marked by eye: tables, and JSON for the card.

    python -m benchmarks.locator_real --locator locator.onnx [--split test] [--cache FOLDER]
        [--simulated truth.csv] [--json FILE] [--pictures FOLDER]

First what screening accepts, of films of FracAtlas of one split (`hipedge/insertion/data/
fracatlas_films.csv`: `train` is trained on, `val` is what thresholds were chosen by, `test` is
neither), of films of that split with drawn implants, and of pictures of other kinds, past the
headers that `hipedge screen` refuses most of them by.

Then the centres marked by eye: films of `shared/data` (or $HIPEDGE_SHARED_DATA) that
`tests/data/*_centres.csv` name and that are not trained on. Both locators are measured: the learned
one, which turns films upright first, and the plain one (`hipedge.locate.find_heads`).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.environment import environment
from benchmarks.locator_films import (
    by_kind,
    fracatlas,
    measure_hips,
    measure_others,
    other_pictures,
    screen,
    share,
    simulated,
    with_implants,
)
from hipedge.dicom.read import read
from hipedge.locate.heads import Heads, Point, find_heads
from hipedge.locate.learned import LearnedLocator
from hipedge.locate.session import OnnxLocator
from hipedge.train.film_manifest import read_film_manifest
from hipedge.train.manifest import TEST, TRAIN, VAL
from hipedge.train.real_films import prepare_real_films
from hipedge.train.reference import BACKGROUNDS, REAL_FILMS

ROOT = Path(__file__).parents[1]
CENTRES = {
    "fracatlas_hip": "fracatlas_centres.csv",
    "radoss_ddh": "radoss_ddh_centres.csv",
    "wg04": "wg04_centres.csv",
}
KINDS = {
    "bilateral": "adult, both hips",
    "child": "child",
    "trunk": "whole trunk",
    "single": "single hip",
    "turned": "turned by 90°",
    "infant": "infant",
}
# Right within so much of the film's width; or of the distance between the heads, 10 mm of an
# adult's 195 mm, where both are marked.
NEAR_WIDTH = 0.05
NEAR_DISTANCE = 10 / 195
TILE_PX = 220
COLUMNS = 8

Locate = Callable[[NDArray[np.uint16]], tuple[int, Heads | None]]


@dataclass(frozen=True)
class Film:
    """A film and what was marked on it: heads (left, right) in its pixels, None where none is.

    `turns` are the quarter turns counterclockwise after which it is upright.
    """

    name: str
    kind: str
    pixels: NDArray[np.uint16]
    heads: tuple[Point | None, Point | None]
    turns: int


@dataclass(frozen=True)
class Found:
    """What a locator said of a film, beside the truth in the same, upright, pixels."""

    film: Film
    turns: int
    truth: tuple[Point | None, Point | None]
    heads: tuple[Point | None, Point | None]

    @property
    def width(self) -> int:
        """Return the width of the film as it was turned."""
        return self.film.pixels.shape[1 - self.turns % 2]


def films(shared: Path) -> Iterator[Film]:
    """Yield the marked films, of those that are there."""
    for folder, centres in CENTRES.items():
        files = {path.name: path for path in sorted((shared / folder).rglob("*"))}
        with (ROOT / "tests" / "data" / centres).open(newline="") as file:
            for row in csv.DictReader(file):
                if row["file"] in files:
                    heads = tuple(_point(row, side) for side in ("left", "right"))
                    pixels = read(files[row["file"]]).pixels
                    yield Film(row["file"], row["kind"], pixels, heads, int(row["turns"] or 0))


def _point(row: dict[str, str], side: str) -> Point | None:
    x, y = row[f"{side}_x"], row[f"{side}_y"]
    return (float(x), float(y)) if x else None


def turned(point: Point, shape: tuple[int, int], turns: int) -> Point:
    """Return where a point (x, y) of an image (H, W) lies after turns by `numpy.rot90`."""
    height, width = shape
    x, y = point
    for _ in range(turns % 4):
        x, y = y, width - x
        height, width = width, height
    return x, y


def look(film: Film, locate: Locate) -> Found:
    """Return what a locator finds on a film, and the truth in the pixels as it turned them."""
    turns, heads = locate(film.pixels)
    truth = [p and turned(p, film.pixels.shape, turns) for p in film.heads]
    if turns == film.turns and turns and all(truth):
        truth.sort()
    seen = (heads.image_left, heads.image_right) if heads else (None, None)
    return Found(film, turns, (truth[0], truth[1]), seen)


def learned(locator: LearnedLocator) -> Locate:
    """Return what screening does: turn the film upright, then find the heads."""

    def locate(pixels: NDArray[np.uint16]) -> tuple[int, Heads | None]:
        turns = locator.quarter_turns(pixels)
        return turns, locator(np.ascontiguousarray(np.rot90(pixels, turns)))

    return locate


def plain(pixels: NDArray[np.uint16]) -> tuple[int, Heads | None]:
    """Find the heads by a drawn pelvis, which turns nothing."""
    return 0, find_heads(pixels)


def measure(found: list[Found]) -> dict[str, object]:
    """Return the figures of one kind of film."""
    near, near_mm, missed, invented, wrong = [], [], [], [], []
    for one in found:
        name = one.film.name
        wrong.append((name, one.turns != one.film.turns))
        distance = math.dist(*one.truth) if all(one.truth) else math.nan
        for truth, head in zip(one.truth, one.heads, strict=True):
            if truth is None:
                invented.append((name, head is not None))
                continue
            away = math.dist(truth, head) if head else math.inf
            missed.append((name, head is None))
            near.append((name, away <= NEAR_WIDTH * one.width))
            if not math.isnan(distance):
                near_mm.append((name, away <= NEAR_DISTANCE * distance))
    return {
        "films": len(found),
        "within_5_percent_of_width": share(near),
        "within_10_mm": share(near_mm),
        "missed": share(missed),
        "invented": share(invented),
        "wrongly_turned": share(wrong),
    }


def set_upright(all_films: list[Film], locator: LearnedLocator) -> dict[str, object]:
    """Turn each film by every quarter turn; return how many the locator sets upright."""
    results: dict[str, object] = {}
    for turns in range(4):
        cases = []
        for film in all_films:
            lying = np.ascontiguousarray(np.rot90(film.pixels, film.turns - turns))
            cases.append((film.name, locator.quarter_turns(lying) == turns))
        results[f"{turns * 90}"] = share(cases)
    return results


def cell(figure: object) -> str:
    """Write a share with its interval, in percent."""
    if figure is None:
        return "–"
    low, high = (100 * v for v in figure["interval_95"])
    return f"{figure['successes']}/{figure['n']} ({low:.0f}–{high:.0f} %)"


def table(by_kind: dict[str, dict[str, object]]) -> str:
    """Write the figures of every kind of film, in Markdown."""
    columns = list(next(iter(by_kind.values())))
    lines = [
        "| | " + " | ".join(c.replace("_", " ") for c in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for kind, figures in by_kind.items():
        cells = [str(v) if isinstance(v, int) else cell(v) for v in figures.values()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def contact_sheet(found: list[Found]) -> Image.Image:
    """Draw each film as it was turned, with what was marked (green) and found (red, yellow)."""
    rows = -(-len(found) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE_PX, rows * TILE_PX))
    for number, one in enumerate(found):
        upright = np.rot90(one.film.pixels, one.turns)
        gray = (upright / max(int(upright.max()), 1) * 255).astype(np.uint8)
        tile = Image.fromarray(gray).resize((TILE_PX, TILE_PX)).convert("RGB")
        draw = ImageDraw.Draw(tile)
        scale = TILE_PX / np.array(upright.shape[::-1])
        for points, colours in ((one.truth, ("lime", "lime")), (one.heads, ("red", "yellow"))):
            for point, colour in zip(points, colours, strict=True):
                if point:
                    x, y = np.array(point) * scale
                    draw.ellipse([x - 5, y - 5, x + 5, y + 5], outline=colour)
        text = f"{one.film.name[-14:-4]} {one.film.kind}" + ("" if not one.turns else " turned")
        draw.text((2, 2), text, fill="cyan" if one.turns == one.film.turns else "red")
        sheet.paste(tile, (number % COLUMNS * TILE_PX, number // COLUMNS * TILE_PX))
    return sheet


def not_trained_on(marked: list[Film]) -> list[Film]:
    """Return the marked films that are not in the split `train` of FracAtlas."""
    with REAL_FILMS.open(newline="") as file:
        trained = {Path(row["path"]).name for row in csv.DictReader(file) if row["split"] == TRAIN}
    return [film for film in marked if film.name not in trained]


def accepted(
    locator: LearnedLocator, shared: Path, split: str, cache: Path
) -> dict[str, dict[str, dict[str, object]]]:
    """Measure what screening accepts: films with and without a hip, implants, other pictures."""
    folder = shared / "fracatlas"
    manifest = read_film_manifest(REAL_FILMS, folder)
    real = prepare_real_films(manifest, cache, backgrounds=BACKGROUNDS, films=folder)
    seen = [screen(picture, locator) for picture in fracatlas(manifest, split)]
    implants = [screen(picture, locator) for picture in with_implants(real, split)]
    others = [screen(picture, locator) for picture in other_pictures(shared)]
    return {
        "films with a hip": by_kind((s for s in seen if any(s.picture.heads)), measure_hips),
        "drawn implants": by_kind(implants, measure_hips),
        "films without a hip": by_kind(
            (s for s in seen if not any(s.picture.heads)), measure_others
        ),
        "other pictures": by_kind(others, measure_others),
    }


def main() -> None:
    """Measure both locators; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--locator", type=Path, required=True)
    parser.add_argument("--split", default=TEST, choices=(TRAIN, VAL, TEST))
    parser.add_argument("--simulated", type=Path, help="truth.csv of simulated films")
    parser.add_argument("--cache", type=Path, help="keep films with drawn implants here")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--pictures", type=Path, help="draw what was found into this folder")
    given = parser.parse_args()
    shared = Path(os.environ.get("HIPEDGE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    locator = LearnedLocator(OnnxLocator(given.locator))
    results: dict[str, object] = {"environment": environment(), "split": given.split}
    with TemporaryDirectory() as scratch:
        results["accepted"] = found_by_group = accepted(
            locator, shared, given.split, given.cache or Path(scratch)
        )
    if given.simulated:
        seen = [screen(picture, locator) for picture in simulated(given.simulated)]
        found_by_group["simulated films"] = by_kind(seen, measure_hips)
    for group, figures in found_by_group.items():
        print(f"\n{group}, split {given.split}:\n\n{table(figures)}")
    marked = not_trained_on(list(films(shared)))
    for name, locate in (("learned", learned(locator)), ("plain", plain)):
        found = [look(film, locate) for film in marked]
        by_title = {
            title: measure([one for one in found if one.film.kind == kind])
            for kind, title in KINDS.items()
            if any(film.kind == kind for film in marked)
        }
        by_title["all"] = measure(found)
        results[name] = by_title
        print(f"\nThe {name} locator:\n\n{table(by_title)}\n")
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            contact_sheet(found).save(given.pictures / f"{name}.png")
    results["set_upright"] = upright = set_upright(marked, locator)
    print("\nSet upright by the learned locator, of all films laid so:")
    print("\n".join(f"{turns}°: {cell(figure)}" for turns, figure in upright.items()))
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
