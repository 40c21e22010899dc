"""tune: measure how the cores are best shared between reading and inference."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from hipedge.backends import BACKENDS, open_backend
from hipedge.errors import InputError
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
from hipedge.perf.throughput import infer_alone, open_results, read_alone, run_together
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.cpu_allocation import CpuAllocation
from hipedge.pipeline.preprocess import Prepared, Preprocessor
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.decide import Rule

# Less than this is what a machine's rate varies by.
CLEARLY_FASTER = 1.03


def candidates(cores: int, *, on_cpu: bool) -> list[CpuAllocation]:
    """Return the shares worth trying: all cores for each part, or fewer for one of them."""
    workers = sorted({cores, max(1, cores - 1)}, reverse=True)
    if not on_cpu:
        return [CpuAllocation(one) for one in workers]
    threads = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    return [CpuAllocation(one, other) for one in workers for other in threads]


def tune(
    files: Sequence[Path],
    model: ModelFolder,
    backend: str,
    rule: Rule,
    *,
    limits: Limits,
    repeats: int,
    progress: Callable[[CpuAllocation, float], None],
) -> CpuAllocation:
    """Run the line on `files` with each of the candidates, in turns, and return the fastest.

    Where none is clearly faster than all cores for each part, it is that. `progress` is called with
    what was tried and its films a second. Raises `InputError` where none of the files can be
    screened.
    """
    line = partial(_films_per_s, files, model, backend, rule, limits)
    tried = candidates(len(os.sched_getaffinity(0)), on_cpu=BACKENDS[backend].on_cpu)
    rates: dict[CpuAllocation, list[float]] = {one: [] for one in tried}
    for _ in range(repeats):
        for shares, found in rates.items():
            found.append(line(shares))
            progress(shares, found[-1])
    medians = {shares: median(found) for shares, found in rates.items()}
    best = max(medians, key=lambda one: medians[one])
    if medians[best] < CLEARLY_FASTER * medians[tried[0]]:
        best = tried[0]
    return best


def _films_per_s(
    files: Sequence[Path],
    model: ModelFolder,
    backend: str,
    rule: Rule,
    limits: Limits,
    shares: CpuAllocation,
) -> float:
    front = Preprocessor(model.card.input, GivenHips(), frozenset(), model.locator)
    open_ = partial(open_backend, backend, model, threads=shares.threads)
    with BatchScheduler(open_) as batches, Workers(front, shares.workers, limits) as pool:
        results, *_ = read_alone(pool, files[: shares.workers])  # starts the processes
        films = [one for one in results if isinstance(one, Prepared)]
        infer_alone(batches, films)
        with open_results(batches, model, rule) as pipeline:
            measured, _ = run_together(pipeline, pool, files, shares.workers)
    if not measured.hips_per_s:
        raise InputError("none of these films can be screened: name a folder with hip films")
    return measured.films_per_s
