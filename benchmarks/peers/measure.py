"""Films a second: of a loop, of hipedge's decoding processes, and of `hipedge screen`."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.films import Film
from benchmarks.screen_syntaxes import copies
from hipedge.backends import Backend
from hipedge.config import load_settings, site_rule
from hipedge.front import Front
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
from hipedge.screen import screen
from hipedge.store import Store
from hipedge.workers import Limits, Workers

Rate = Callable[[], float]


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


def loop_rate(step: Callable[[Film], object], films: Sequence[Film], seconds: float) -> float:
    """Return films a second of a loop in this process, over whole rounds of the films."""
    start = time.perf_counter()
    done = 0
    for film in _rounds(films, start + seconds):
        step(film)
        done += 1
    return done / (time.perf_counter() - start)


def front_rate(front: Front, films: Sequence[Film], workers: int, seconds: float) -> float:
    """Return films a second of hipedge's decoding processes, once these have started."""
    with Workers(front, workers) as pool:
        for _ in pool.run([film.path for film in films] * workers, lambda _: None):
            pass
        start = time.perf_counter()
        paths = (film.path for film in _rounds(films, start + seconds))
        done = sum(len(batch) for batch in pool.run(paths, lambda _: None))
        return done / (time.perf_counter() - start)


def screen_rate(model: ModelFolder, backend: Backend, folders: tuple[Path, Path]) -> float:
    """Return films a second of `hipedge screen` less its start, with the model loaded.

    The second folder has a film more than the first for each that is counted.
    """
    few, many = (sum(1 for _ in folder.rglob("*.dcm")) for folder in folders)
    short_s, long_s = (_screen_s(model, backend, folder) for folder in folders)
    return (many - few) / (long_s - short_s)


def _screen_s(model: ModelFolder, backend: Backend, folder: Path) -> float:
    settings = load_settings({}, None)
    with tempfile.TemporaryDirectory() as scratch, Store(Path(scratch) / "cases.db") as store:
        start = time.perf_counter()
        summary = screen(
            [folder],
            model=model,
            backend=backend,
            reason="benchmark",
            store=store,
            rule=site_rule(model.card, settings),
            given_hips=GivenHips(),
            workers=settings.workers,
            limits=Limits.of(settings.worker_memory_mb, settings.worker_timeout_s),
            progress=lambda done, total: None,
        )
        seconds = time.perf_counter() - start
    if summary.refused:
        raise ValueError(f"hipedge refused films: {dict(summary.refused)}")
    return seconds


def screen_folders(films: Sequence[Film], count: int, root: Path) -> tuple[Path, Path]:
    """Make a folder with a copy of each film, and one with `count` more, as even as can be."""
    few, many = root / "few", root / "many"
    for folder, each in ((few, 1), (many, 1 + count // len(films))):
        for film in films:
            (folder / film.path.stem).mkdir(parents=True)
            copies(film.path, folder / film.path.stem, each)
    return few, many


def _rounds(films: Sequence[Film], deadline: float) -> Iterator[Film]:
    """Yield all films again and again, until a round ends after the deadline."""
    for film in itertools.chain.from_iterable(itertools.repeat(films)):
        if film is films[0] and time.perf_counter() >= deadline:
            return
        yield film
