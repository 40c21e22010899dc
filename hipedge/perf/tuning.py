"""Measure which allocation of CPU cores to preprocessing and inference is the fastest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from hipedge.backends import BACKENDS, open_backend
from hipedge.errors import InputError
from hipedge.model import ModelFolder
from hipedge.perf.throughput import infer_alone, open_results, read_alone, run_pipeline
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.cpu_allocation import CpuAllocation
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.pipeline.workers import Limits, Workers
from hipedge.rules.decide import Rule

# A smaller ratio of two rates is within the noise of a machine.
SIGNIFICANT_SPEEDUP = 1.03


def candidates(cores: int, *, on_cpu: bool) -> list[CpuAllocation]:
    """Return the allocations to try: all cores for each part first, then fewer for one of them."""
    workers = sorted({cores, max(1, cores - 1)}, reverse=True)
    if not on_cpu:
        return [CpuAllocation(count) for count in workers]
    threads = sorted({cores, max(1, cores // 2), 1}, reverse=True)
    return [CpuAllocation(count, number) for count in workers for number in threads]


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
    """Run the pipeline on `files` with each candidate, alternating, and return the fastest.

    Where none is significantly faster than all cores for each part, that allocation is returned.
    `progress` is called with each allocation and its films per second. Raises `InputError` where
    none of the files can be screened.
    """
    measure = partial(measure_allocation, files, model, backend, rule, limits)
    tried = candidates(len(os.sched_getaffinity(0)), on_cpu=BACKENDS[backend].on_cpu)
    rates: dict[CpuAllocation, list[float]] = {allocation: [] for allocation in tried}
    for _ in range(repeats):
        for allocation, measured in rates.items():
            measured.append(measure(allocation))
            progress(allocation, measured[-1])
    medians = {allocation: median(measured) for allocation, measured in rates.items()}
    best = max(medians, key=lambda allocation: medians[allocation])
    if medians[best] < SIGNIFICANT_SPEEDUP * medians[tried[0]]:
        best = tried[0]
    return best


def measure_allocation(
    files: Sequence[Path],
    model: ModelFolder,
    backend: str,
    rule: Rule,
    limits: Limits,
    allocation: CpuAllocation,
) -> float:
    """Return the pipeline's films per second with an allocation of the cores.

    Raises `InputError` where none of the files can be screened.
    """
    preprocessor = Preprocessor.for_model(model)
    workers = allocation.workers
    open_ = partial(open_backend, backend, model, threads=allocation.threads)
    with BatchScheduler(open_) as batches, Workers(preprocessor, workers, limits) as pool:
        results, *_ = read_alone(pool, files[:workers])  # starts the processes
        films = [result for result in results if isinstance(result, Prepared)]
        infer_alone(batches, films)
        with open_results(batches, model, rule) as pipeline:
            run, _ = run_pipeline(pipeline, pool, files, workers)
    if not run.hips_per_s:
        raise InputError("none of these films can be screened: name a folder with hip films")
    return run.films_per_s
