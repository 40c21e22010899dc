"""Generate sets of films with ground truth: parallel, resumable, and reproducible from a seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hipedge.phantom.film import SimulatedFilm, develop, draw_film
from hipedge.phantom.hospitals import EXTERNAL
from hipedge.phantom.write import write_film
from hipedge.types import CropGeometry

TRUTH = "truth.csv"
# Box of a hip in `truth.csv`: from above the acetabular roof to below the lesser trochanter.
TRUTH_BOX = CropGeometry(size_px=256, crop_mm=160.0, lateral_mm=10.0, distal_mm=20.0)
SPLIT_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class TruthRow:
    """Ground truth of one hip on one film: a row of `truth.csv` and of a training manifest.

    `x` and `y` are the centre of the femoral head or of its implant, and `x0` to `y1` the box of
    the hip, all in image coordinates.
    """

    path: str
    side: str
    category: str
    grade: str
    x: float
    y: float
    x0: float
    y0: float
    x1: float
    y1: float
    patient: str
    age: int
    sex: str
    site: str
    split: str


COLUMNS = tuple(field.name for field in fields(TruthRow))


def generate(
    directory: Path,
    *,
    count: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write films 0 to `count` − 1 of a seed to `directory`, and return the path of `truth.csv`.

    Films whose file and ground truth already exist are kept. Thus an interrupted run is resumed,
    and a larger `count` extends an existing set. `progress` is called with the numbers of finished
    films and of all films.
    """
    directory.mkdir(parents=True, exist_ok=True)
    truth = directory / TRUTH
    rows = _rows_so_far(directory)
    missing = [k for k in range(count) if file_name(k) not in rows]
    progress(count - len(missing), count)
    with truth.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        for done, film_rows in enumerate(_films(directory, missing, seed, workers), 1):
            writer.writerows(astuple(row) for row in film_rows)
            file.flush()
            rows[film_rows[0].path] = [[str(v) for v in astuple(row)] for row in film_rows]
            progress(count - len(missing) + done, count)
    _write_sorted(truth, rows)
    return truth


def file_name(number: int) -> str:
    """Return the file name of a film."""
    return f"phantom-{number:06d}.dcm"


def make_film(directory: Path, number: int, seed: int) -> list[TruthRow]:
    """Draw, render and write one film; return the ground truth of its hips."""
    film = draw_film(np.random.SeedSequence([seed, number]), number=number)
    write_film(directory / file_name(number), film, develop(film))
    return truth_of(film, file_name(number), seed)


def truth_of(film: SimulatedFilm, path: str, seed: int) -> list[TruthRow]:
    """Return the ground truth of a film's hips, the right hip before the left."""
    split = _split(film, seed)
    rows = []
    for side in film.sides:
        hip = film.hip(side)
        x, y = film.centre_px(side)
        box = film.box(side, TRUTH_BOX)
        rows.append(
            TruthRow(
                path=path,
                side=side.value,
                category=hip.category.value,
                grade=hip.grade,
                x=round(x, 2),
                y=round(y, 2),
                x0=round(box.x0, 2),
                y0=round(box.y0, 2),
                x1=round(box.x1, 2),
                y1=round(box.y1, 2),
                patient=film.identity.patient_id,
                age=film.identity.age_years,
                sex=film.identity.sex,
                site=film.hospital.name,
                split=split,
            )
        )
    return rows


def _films(
    directory: Path, numbers: list[int], seed: int, workers: int
) -> Iterator[list[TruthRow]]:
    """Make films in this process or in worker processes, and yield each when it is finished."""
    if workers <= 1:
        for number in numbers:
            yield make_film(directory, number, seed)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(make_film, directory, number, seed) for number in numbers]
        for job in as_completed(jobs):
            yield job.result()


def _rows_so_far(directory: Path) -> dict[str, list[list[str]]]:
    """Read the ground truth of films whose file exists, by file name."""
    truth = directory / TRUTH
    found: dict[str, list[list[str]]] = {}
    if not truth.exists():
        return found
    with truth.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if len(row) == len(COLUMNS) and (directory / row[0]).exists():
                found.setdefault(row[0], []).append(row)
    return found


def _write_sorted(truth: Path, rows: dict[str, list[list[str]]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for path in sorted(rows):
        writer.writerows(rows[path])
    partial = truth.with_suffix(".part")
    partial.write_text(text.getvalue(), encoding="utf-8")
    partial.replace(truth)


def _split(film: SimulatedFilm, seed: int) -> str:
    """Return the split of a film's patient; the external hospital is a separate split."""
    if film.hospital.name == EXTERNAL:
        return "external"
    rng = np.random.default_rng([seed, film.identity.number, 1])
    return str(rng.choice(list(SPLIT_SHARES), p=list(SPLIT_SHARES.values())))
