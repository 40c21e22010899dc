"""The throughput of the pipeline, and how close it comes to the limit that its parts imply.

On the same worker processes and the same films are measured: preprocessing alone, inference alone,
recording alone, and the whole pipeline. The start of the processes and the loading of the model,
which a command pays for once, are not measured.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median

from hipedge.backends import Backend
from hipedge.errors import InputError
from hipedge.model import ModelFolder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.pipeline.results import ResultPipeline, start_run, transactions
from hipedge.pipeline.workers import Limits, WorkerCrash, Workers
from hipedge.rules.decide import Rule
from hipedge.store.store import Store
from hipedge.types import Known, Outcome, Refusal, Screened

PARTS = ("reading", "inference", "recording")
READING = ("load", "hash", "read", "locate", "prepare")
MEMORY_INTERVAL_S = 5.0  # reading smaps_rollup is slow for a large process

Pool = Workers[Path, Prepared | Refusal | Known]
Result = Prepared | Refusal | Known | WorkerCrash


@dataclass(frozen=True)
class PartRates:
    """Throughput of each part alone in films per second, and its CPU time per film.

    CPU time is counted apart because a part may also wait: preprocessing for the network,
    inference for a device, recording for the disk.
    """

    reading: float
    inference: float
    recording: float
    reading_core_s: float
    inference_core_s: float
    recording_core_s: float


@dataclass(frozen=True)
class PipelineRun:
    """One pass of the whole pipeline.

    `stages_ms` is the mean time of a film in each stage; `busy` the fraction of the time for which
    each part was busy: the workers, the device, the main process while it records.
    `core_s` is the CPU time of a film in all processes, without that of refused films in the
    workers. `films_in_work` and `hips_waiting` are mean and maximum.
    """

    seconds: float
    films_per_s: float
    hips_per_s: float
    core_s: float
    stages_ms: Mapping[str, float]
    busy: Mapping[str, float]
    films_in_work: tuple[float, int]
    hips_waiting: tuple[float, int]
    hips_per_batch: float
    memory_mb: float


@dataclass(frozen=True)
class Throughput:
    """The measurements of all passes: each part alone, and the pipeline with all together."""

    films: int
    hips: int
    refused: int
    workers: int
    cores: int
    backend: str
    alone: tuple[PartRates, ...]
    together: tuple[PipelineRun, ...]

    @property
    def limits(self) -> tuple[Mapping[str, float], ...]:
        """By pass, the films per second that each part allows, and that the CPU allows for all."""
        return tuple(self._limits(rates) for rates in self.alone)

    def _limits(self, alone: PartRates) -> Mapping[str, float]:
        core_s = alone.reading_core_s + alone.inference_core_s + alone.recording_core_s
        return {
            "reading": alone.reading,
            "inference": alone.inference,
            "recording": alone.recording,
            "processor": self.cores / core_s,
        }

    @property
    def limit(self) -> float:
        """The films per second that the parts alone imply: the median over the passes."""
        return median(min(limits.values()) for limits in self.limits)

    @property
    def bottleneck(self) -> str:
        """The part that limits the throughput; for `processor`, with the part that uses it most."""
        rates = {name: median(limits[name] for limits in self.limits) for name in self.limits[0]}
        first = min(rates, key=lambda name: rates[name])
        if first != "processor":
            return first
        return f"processor, mostly by {max(PARTS, key=self.core_s.__getitem__)}"

    @property
    def limited_by(self) -> str:
        """The bottleneck in words: cores, processes or device, and the stage that takes most."""
        stages = self.together[-1].stages_ms
        stage = max(READING, key=lambda name: stages.get(name, 0.0))
        total_s = sum(self.core_s.values())
        part = max(PARTS, key=self.core_s.__getitem__)
        within = f" (above all the stage {stage})" if part == "reading" else ""
        return {
            "reading": f"{self.workers} worker processes, above all in the stage {stage}",
            "inference": "the device that runs the network",
            "recording": "the database",
        }.get(
            self.bottleneck,
            f"{self.cores} cores, of which a film needs {total_s * 1e3:.1f} ms:"
            f" {self.core_s[part] / total_s:.0%} in {part}{within}",
        )

    @property
    def core_s(self) -> Mapping[str, float]:
        """The CPU time of a film in each part alone, in seconds: the median over the passes."""
        return {
            part: median(getattr(rates, f"{part}_core_s") for rates in self.alone) for part in PARTS
        }

    @property
    def films_per_s(self) -> float:
        """The pipeline's films per second: the median over the passes."""
        return median(run.films_per_s for run in self.together)

    @property
    def efficiency(self) -> float:
        """The pipeline's throughput as a fraction of the limit in the same pass: the median."""
        pairs = zip(self.together, self.limits, strict=True)
        return median(run.films_per_s / min(limits.values()) for run, limits in pairs)


def measure_throughput(
    files: Sequence[Path],
    *,
    model: ModelFolder,
    open_backend: Callable[[], Backend],
    rule: Rule,
    workers: int,
    limits: Limits,
    repeats: int,
) -> Throughput:
    """Measure the pipeline and its parts on `files`, alternating, each `repeats` times.

    Raises `InputError` where none of the files can be screened, and what the pipeline raises.
    """
    cores = len(os.sched_getaffinity(0))
    preprocessor = Preprocessor.for_model(model)
    with BatchScheduler(open_backend) as batches, Workers(preprocessor, workers, limits) as pool:
        results, *_ = read_alone(pool, files)  # also starts the processes
        films = [result for result in results if isinstance(result, Prepared)]
        if not films:
            raise InputError("none of these films can be screened: name a folder with hip films")
        fingerprint = batches.fingerprint
        infer_alone(batches, films[:1])
        alone, together = list[PartRates](), list[PipelineRun]()
        for _ in range(repeats):
            _, reading_s, reading_core_s = read_alone(pool, files)
            inference_s, inference_core_s = infer_alone(batches, films)
            with open_results(batches, model, rule) as pipeline:
                run, committed = run_pipeline(pipeline, pool, files, workers)
            with open_results(batches, model, rule) as pipeline:
                recording_s, recording_core_s = record_alone(pipeline, committed)
            alone.append(
                PartRates(
                    reading=len(files) / reading_s,
                    inference=len(files) / inference_s,
                    recording=len(files) / recording_s,
                    reading_core_s=reading_core_s / len(files),
                    inference_core_s=inference_core_s / len(files),
                    recording_core_s=recording_core_s / len(files),
                )
            )
            together.append(run)
    return Throughput(
        films=len(files),
        hips=sum(len(film.hips) for film in films),
        refused=len(files) - len(films),
        workers=workers,
        cores=cores,
        backend=str(fingerprint),
        alone=tuple(alone),
        together=tuple(together),
    )


@contextmanager
def open_results(
    batches: BatchScheduler, model: ModelFolder, rule: Rule
) -> Iterator[ResultPipeline]:
    """Open a pipeline with a temporary database."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "cases.db") as store:
        run = start_run(store, model, batches.fingerprint, "benchmark")
        yield ResultPipeline(model, batches, store, run, rule)


def read_alone(pool: Pool, files: Sequence[Path]) -> tuple[list[Result], float, float]:
    """Preprocess the files without inference.

    Returns the results, the wall-clock time, and the CPU time of this process and of the workers;
    the latter without that of refused films, which is not known.
    """
    start, start_core = time.perf_counter(), time.process_time()
    results = [result for batch in pool.run(files, lambda _: None) for _, result in batch]
    here_s = time.process_time() - start_core
    core_s = sum(result.core_s for result in results if isinstance(result, Prepared))
    return results, time.perf_counter() - start, here_s + core_s


def infer_alone(batches: BatchScheduler, films: Sequence[Prepared]) -> tuple[float, float]:
    """Score the films as fast as the backend can; return wall-clock time and CPU time."""
    start, start_core = time.perf_counter(), time.process_time()
    batches.submit(films)
    batches.flush()
    while batches.is_busy:
        batches.wait()
        batches.collect()
    return time.perf_counter() - start, time.process_time() - start_core


def record_alone(
    pipeline: ResultPipeline, transactions: Sequence[Sequence[Outcome]]
) -> tuple[float, float]:
    """Claim and commit outcomes in given transactions; return wall-clock and CPU time."""
    start, start_core = time.perf_counter(), time.thread_time()
    for outcomes in transactions:
        pipeline.store.claim(map(source_of, outcomes))
        pipeline.record(outcomes)
    return time.perf_counter() - start, time.thread_time() - start_core


def source_of(outcome: Outcome) -> Path:
    """Return the file of an outcome."""
    return outcome.film.source if isinstance(outcome, Screened) else outcome.source


def run_pipeline(
    pipeline: ResultPipeline, pool: Pool, files: Sequence[Path], workers: int
) -> tuple[PipelineRun, list[list[Outcome]]]:
    """Run the pipeline as `screen` does; return the measurements and the transactions."""
    queues = QueueSampler(pipeline.batches, pool)
    usage = pipeline.batches.usage
    busy_s, batches, hips = usage.busy_s, usage.batches, usage.hips
    committed, recording_s = list[list[Outcome]](), 0.0
    start, start_core = time.perf_counter(), time.process_time()
    read = queues.watch(pool.run(files, pipeline.store.claim, pipeline.batches))
    for outcomes, _ in transactions(pipeline, read):
        if not outcomes:
            continue
        record_start = time.perf_counter()
        pipeline.record(outcomes)
        recording_s += time.perf_counter() - record_start
        committed.append(outcomes)
    seconds, here_s = time.perf_counter() - start, time.process_time() - start_core
    recorded = list(chain.from_iterable(committed))
    stages = Counter[str]()
    for outcome in recorded:
        stages.update(outcome.timings_ms)
    reading_s = sum(stages[name] for name in READING) / 1e3
    hips_scored = usage.hips - hips
    run = PipelineRun(
        seconds=seconds,
        films_per_s=len(files) / seconds,
        hips_per_s=hips_scored / seconds,
        core_s=(here_s + queues.core_s) / len(files),
        stages_ms={
            **{name: total / len(recorded) for name, total in stages.items()},
            "record": recording_s * 1e3 / len(recorded),
        },
        busy={
            "workers": reading_s / (seconds * workers),
            "device": (usage.busy_s - busy_s) / seconds,
            "recording": recording_s / seconds,
        },
        films_in_work=queues.films_in_work,
        hips_waiting=queues.hips_waiting,
        hips_per_batch=hips_scored / max(1, usage.batches - batches),
        memory_mb=queues.memory_mb,
    )
    return run, committed


@dataclass
class QueueSampler:
    """Samples of the lengths of the queues, and the peak memory of all processes."""

    batches: BatchScheduler
    pool: Pool
    memory_mb: float = 0.0
    core_s: float = 0.0
    _in_work: list[int] = field(default_factory=list)
    _waiting: list[int] = field(default_factory=list)
    _next_memory: float = 0.0

    def watch(
        self, read: Iterable[list[tuple[Path, Result]]]
    ) -> Iterator[list[tuple[Path, Result]]]:
        """Pass batches of results on, and take a sample with each."""
        for batch in read:
            self._in_work.append(self.pool.in_flight)
            self._waiting.append(self.batches.waiting)
            self.core_s += sum(film.core_s for _, film in batch if isinstance(film, Prepared))
            if time.monotonic() >= self._next_memory:
                self.memory_mb = max(self.memory_mb, memory_mb())
                self._next_memory = time.monotonic() + MEMORY_INTERVAL_S
            yield batch
        self.memory_mb = max(self.memory_mb, memory_mb())

    @property
    def films_in_work(self) -> tuple[float, int]:
        """Mean and maximum number of films in the workers."""
        return sum(self._in_work) / len(self._in_work), max(self._in_work)

    @property
    def hips_waiting(self) -> tuple[float, int]:
        """Mean and maximum number of hips that waited for a batch."""
        return sum(self._waiting) / len(self._waiting), max(self._waiting)


def memory_mb() -> float:
    """Return the memory of this process and its descendants; shared pages are counted once."""
    return sum(map(proportional_kb, process_tree(os.getpid()))) / 1024


def process_tree(pid: int) -> set[int]:
    """Return a process and its descendants."""
    pids, parents = set[int](), [pid]
    while parents:
        pids.update(parents)
        parents = [child for parent in parents for child in children(parent)]
    return pids


def children(pid: int) -> list[int]:
    """Return the child processes of all threads of a process (proc(5))."""
    found = list[int]()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, file.read_text().split()))
        except OSError:
            continue  # the thread has ended
    return found


def proportional_kb(pid: int) -> int:
    """Return the proportional set size of a process (proc(5)), or 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
