"""What a film costs: from a sample of a source, or from the timings of a run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

from hipedge.archive.folder import ArchiveFolder
from hipedge.archive.source import list_source
from hipedge.archive.stages import Copies
from hipedge.errors import InputError
from hipedge.types import Refusal

READING = ("load", "hash", "read", "locate", "prepare")
SAMPLED_SHARDS = 50


@dataclass(frozen=True)
class FilmCost:
    """The mean cost of a film: seconds of reading and of inference, and their variation.

    `variation` is the standard deviation of reading over its mean.
    """

    films: int
    read_s: float
    infer_s: float
    variation: float


@dataclass(frozen=True)
class Sampled:
    """How many films a source has, and a random sample of them."""

    films: int
    paths: tuple[Path, ...]


def sample_source(source: str, count: int, seed: int = 0) -> Sampled:
    """List a source; return its size, and a random sample of it that fits into memory.

    Raises `InputError` where it has no film.
    """
    chance, films, chosen = random.Random(seed), 0, list[Path]()
    for found in list_source(source):
        if not isinstance(found, (Path, Refusal)):
            continue
        films += 1
        if isinstance(found, Refusal):
            continue
        # Vitter's algorithm R (ACM TOMS 1985): each film is in the sample with equal probability.
        if len(chosen) < count:
            chosen.append(found)
        elif (place := chance.randrange(films)) < count:
            chosen[place] = found
    if not chosen:
        raise InputError(f"{source} has no film to measure")
    return Sampled(films, tuple(chosen))


@contextmanager
def local_files(paths: tuple[Path, ...]) -> Iterator[tuple[Path, ...]]:
    """Yield the files of a sample, objects of a store as copies, as long as the block runs."""
    with Copies(paths) as copies:
        yield tuple(copies)


def mean_mb(files: tuple[Path, ...]) -> float:
    """Return the mean size of files in MB."""
    return fmean(file.stat().st_size for file in files) / 1e6


def cost_of_run(folder: ArchiveFolder) -> FilmCost:
    """Return what the films of a run took, from an even sample of the shards that are done.

    Times are by the clock: where the nodes were busy with something else, they are longer. Raises
    `InputError` where no shard is done.
    """
    done = list(folder.done(folder.manifest().shards))
    chosen = done[:: -(-len(done) // SAMPLED_SHARDS) or 1]
    read_s, infer_s = list[float](), list[float]()
    for shard in chosen:
        for text in folder.read(shard).column("timings_ms").to_pylist():
            timings_ms = json.loads(text)
            read_s.append(sum(timings_ms.get(stage, 0.0) for stage in READING) / 1e3)
            infer_s.append(timings_ms.get("infer", 0.0) / 1e3)
    if not read_s:
        raise InputError(f"{folder.path} has no film with an outcome yet")
    return FilmCost(
        len(read_s), fmean(read_s), fmean(infer_s), pstdev(read_s) / (fmean(read_s) or 1.0)
    )
