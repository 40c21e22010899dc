"""Films a second: of a loop, of hipedge's decoding processes, and of `hipedge screen`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.films import Film
from benchmarks.screen_syntaxes import copies, seconds
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.pipeline.workers import Workers

Rate = Callable[[], float]

# The stages of hipedge that the other loops have too.
SAME_STAGES = ("load", "read", "prepare")


def alternating(contenders: Mapping[str, Rate], repeats: int) -> dict[str, list[float]]:
    """Measure all contenders in turn, `repeats` times: what the machine does meets them alike."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, rate in contenders.items():
            rates[name].append(rate())
    return rates


def median(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each contender's median."""
    return {name: statistics.median(values) for name, values in rates.items()}


def loop_rate(step: Callable[[Film], object], films: Sequence[Film], least_s: float) -> float:
    """Return films a second of a loop in this process, over whole rounds of the films."""
    start = time.perf_counter()
    done = 0
    for film in _rounds(films, start + least_s):
        step(film)
        done += 1
    return done / (time.perf_counter() - start)


def front_rate(front: Preprocessor, films: Sequence[Film], workers: int, least_s: float) -> float:
    """Return films a second of hipedge's decoding processes, once these have started.

    Raises `ValueError` if one was not read.
    """
    with Workers(front, workers) as pool:
        _prepare(pool, (film.path for film in films * workers))
        start = time.perf_counter()
        done = len(_prepare(pool, (film.path for film in _rounds(films, start + least_s))))
        return done / (time.perf_counter() - start)


def same_work_rate(
    front: Preprocessor, films: Sequence[Film], workers: int, least_s: float
) -> float:
    """Return films a second of hipedge's decoding processes in what the others do too.

    That is all but the file's hash and the search for hips, by the clocks of the processes, which
    all are at work. Raises `ValueError` if a film was not read.
    """
    with Workers(front, workers) as pool:
        _prepare(pool, (film.path for film in films * workers))
        deadline = time.perf_counter() + least_s
        prepared = _prepare(pool, (film.path for film in _rounds(films, deadline)))
    spent_ms = sum(one.timings_ms[stage] for one in prepared for stage in SAME_STAGES)
    return len(prepared) * workers / (spent_ms / 1e3)


def _prepare(pool: Workers[Path, object], paths: Iterable[Path]) -> list[Prepared]:
    prepared = list[Prepared]()
    for batch in pool.run(paths, lambda _: None):
        for path, result in batch:
            if not isinstance(result, Prepared):
                raise ValueError(f"{path.name} was not read: {result}")
            prepared.append(result)
    return prepared


def screen_rate(folders: tuple[Path, Path], options: list[str]) -> float:
    """Return films a second of the command `hipedge screen`, less its start.

    The second folder has a film more than the first for each that is counted.
    """
    few, many = (sum(1 for _ in folder.rglob("*.dcm")) for folder in folders)
    short_s, long_s = (seconds(folder, options) for folder in folders)
    return (many - few) / (long_s - short_s)


def screen_folders(films: Sequence[Film], count: int, root: Path) -> tuple[Path, Path]:
    """Make a folder with a copy of each film, and one with `count` more, as even as can be."""
    few, many = root / "few", root / "many"
    for folder, each in ((few, 1), (many, 1 + count // len(films))):
        for film in films:
            (folder / film.path.stem).mkdir(parents=True)
            copies(film.path, folder / film.path.stem, each)
    os.sync()  # else the database that is timed waits until the disk has all of this
    return few, many


def _rounds(films: Sequence[Film], deadline: float) -> Iterator[Film]:
    """Yield all films once, and again until a round ends after the deadline."""
    yield from films
    while time.perf_counter() < deadline:
        yield from films
