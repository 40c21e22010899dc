"""How fast the whole line is on some films, and how near to what its stages imply.

In one run, on the same processes and the same films: reading alone, inference alone, recording
alone, and all of them together. Processes have started and the model is loaded before the clock
starts, which a command pays once.
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
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder
from hipedge.pipeline.batching import BatchScheduler
from hipedge.pipeline.preprocess import Known, Prepared, Preprocessor
from hipedge.pipeline.results import ResultPipeline, start_run, transactions
from hipedge.pipeline.workers import Limits, WorkerCrash, Workers
from hipedge.rules.decide import Rule
from hipedge.store import Store
from hipedge.types import Outcome, Refusal, Screened

READING = ("load", "hash", "read", "locate", "prepare")
MEMORY_EVERY_S = 5.0  # looking takes long, where a process has much

Pool = Workers[Path, Prepared | Refusal | Known]
Result = Prepared | Refusal | Known | WorkerCrash


@dataclass(frozen=True)
class Alone:
    """Films a second of each part of the line by itself, and the processor's time of a film.

    A part may wait too: reading for a network, inference for a device, recording for the disk.
    """

    reading: float
    inference: float
    recording: float
    reading_core_s: float
    inference_core_s: float
    recording_core_s: float


@dataclass(frozen=True)
class Together:
    """One pass of the whole line.

    `stages_ms` is the mean time of a film in each stage; `busy` the share of the time for which
    each part was at work: the workers, the device, the main process while it records.
    """

    seconds: float
    films_per_s: float
    hips_per_s: float
    stages_ms: Mapping[str, float]
    busy: Mapping[str, float]
    films_in_work: tuple[float, int]
    hips_waiting: tuple[float, int]
    hips_per_batch: float
    memory_mb: float


@dataclass(frozen=True)
class LineFigures:
    """All passes."""

    films: int
    hips: int
    refused: int
    workers: int
    cores: int
    backend: str
    alone: tuple[Alone, ...]
    together: tuple[Together, ...]

    @property
    def limits(self) -> tuple[Mapping[str, float], ...]:
        """Films a second that each part allows, and that all cores allow for all parts together."""
        return tuple(self._limits(one) for one in self.alone)

    def _limits(self, alone: Alone) -> Mapping[str, float]:
        core_s = alone.reading_core_s + alone.inference_core_s + alone.recording_core_s
        return {
            "reading": alone.reading,
            "inference": alone.inference,
            "recording": alone.recording,
            "processor": self.cores / core_s,
        }

    @property
    def limit(self) -> float:
        """Films a second that the parts alone imply: the median over the passes."""
        return median(min(one.values()) for one in self.limits)

    @property
    def bottleneck(self) -> str:
        """The part that limits; `processor` where the parts share it, with its largest user."""
        rates = {name: median(one[name] for one in self.limits) for name in self.limits[0]}
        first = min(rates, key=lambda name: rates[name])
        if first != "processor":
            return first
        users = {
            "reading": median(one.reading_core_s for one in self.alone),
            "inference": median(one.inference_core_s for one in self.alone),
            "recording": median(one.recording_core_s for one in self.alone),
        }
        return f"processor, mostly by {max(users, key=lambda name: users[name])}"

    @property
    def films_per_s(self) -> float:
        """The median over the passes."""
        return median(one.films_per_s for one in self.together)

    @property
    def efficiency(self) -> float:
        """The line's rate as a share of the limit of the same pass: the median."""
        pairs = zip(self.together, self.limits, strict=True)
        return median(one.films_per_s / min(limits.values()) for one, limits in pairs)


def measure_line(
    files: Sequence[Path],
    *,
    model: ModelFolder,
    open_backend: Callable[[], Backend],
    rule: Rule,
    workers: int,
    limits: Limits,
    repeats: int,
) -> LineFigures:
    """Measure the line and its parts on `files`, each `repeats` times, in turns.

    Raises `InputError` where none of them can be screened, and what the line raises.
    """
    cores = len(os.sched_getaffinity(0))
    front = Preprocessor(model.card.input, GivenHips(), frozenset(), model.locator)
    with BatchScheduler(open_backend) as batches, Workers(front, workers, limits) as pool:
        results, *_ = read_alone(pool, files)  # also starts the processes
        films = [one for one in results if isinstance(one, Prepared)]
        if not films:
            raise InputError("none of these films can be screened: name a folder with hip films")
        fingerprint = batches.fingerprint
        infer_alone(batches, films[:1])
        alone, together = list[Alone](), list[Together]()
        for _ in range(repeats):
            _, reading_s, reading_core_s = read_alone(pool, files)
            inference_s, inference_core_s = infer_alone(batches, films)
            with open_results(batches, model, rule) as pipeline:
                one, lots = run_together(pipeline, pool, files, workers)
            with open_results(batches, model, rule) as pipeline:
                recording_s, recording_core_s = record_alone(pipeline, lots)
            alone.append(
                Alone(
                    reading=len(files) / reading_s,
                    inference=len(files) / inference_s,
                    recording=len(files) / recording_s,
                    reading_core_s=reading_core_s / len(files),
                    inference_core_s=inference_core_s / len(files),
                    recording_core_s=recording_core_s / len(files),
                )
            )
            together.append(one)
    return LineFigures(
        films=len(files),
        hips=sum(len(one.hips) for one in films),
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
    """Give a line into a database that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "cases.db") as store:
        run = start_run(store, model, batches.fingerprint, "benchmark")
        yield ResultPipeline(model, batches, store, run, rule)


def read_alone(pool: Pool, files: Sequence[Path]) -> tuple[list[Result], float, float]:
    """Read, locate and prepare.

    Returns the results, how long it took, and how much of the processor's time, in the workers and
    here; of films that were refused that is not known.
    """
    start, start_core = time.perf_counter(), time.process_time()
    results = [result for lot in pool.run(files, lambda _: None) for _, result in lot]
    here_s = time.process_time() - start_core
    core_s = sum(one.core_s for one in results if isinstance(one, Prepared))
    return results, time.perf_counter() - start, here_s + core_s


def infer_alone(batches: BatchScheduler, films: Sequence[Prepared]) -> tuple[float, float]:
    """Score the films as fast as the backend takes them.

    Returns how long it took, and how much of the processor's time.
    """
    start, start_core = time.perf_counter(), time.process_time()
    batches.submit(films)
    while batches.is_busy:
        batches.wait()
        batches.collect()
    return time.perf_counter() - start, time.process_time() - start_core


def record_alone(
    pipeline: ResultPipeline, lots: Sequence[Sequence[Outcome]]
) -> tuple[float, float]:
    """Claim and commit outcomes in the lots in which the line did.

    Returns how long it took, and for how long of that it computed.
    """
    start, start_core = time.perf_counter(), time.thread_time()
    for lot in lots:
        pipeline.store.claim(source_of(one) for one in lot)
        pipeline.record(lot)
    return time.perf_counter() - start, time.thread_time() - start_core


def source_of(outcome: Outcome) -> Path:
    """Return the file that an outcome is of."""
    return outcome.film.source if isinstance(outcome, Screened) else outcome.source


def run_together(
    pipeline: ResultPipeline, pool: Pool, files: Sequence[Path], workers: int
) -> tuple[Together, list[list[Outcome]]]:
    """Run the line as `screen` does; return what was seen of it, and what it committed."""
    gauges = Gauges(pipeline.batches, pool)
    usage = pipeline.batches.usage
    busy_s, batches, hips = usage.busy_s, usage.batches, usage.hips
    lots, recording_s = list[list[Outcome]](), 0.0
    start = time.perf_counter()
    read = gauges.watch(pool.run(files, pipeline.store.claim, pipeline.batches))
    for outcomes, _ in transactions(pipeline, read):
        if not outcomes:
            continue
        began = time.perf_counter()
        pipeline.record(outcomes)
        recording_s += time.perf_counter() - began
        lots.append(outcomes)
    seconds = time.perf_counter() - start
    everything = list(chain.from_iterable(lots))
    stages = Counter[str]()
    for outcome in everything:
        stages.update(outcome.timings_ms)
    reading_s = sum(stages[name] for name in READING) / 1e3
    done = usage.hips - hips
    together = Together(
        seconds=seconds,
        films_per_s=len(files) / seconds,
        hips_per_s=done / seconds,
        stages_ms={
            **{name: total / len(everything) for name, total in stages.items()},
            "record": recording_s * 1e3 / len(everything),
        },
        busy={
            "workers": reading_s / (seconds * workers),
            "device": (usage.busy_s - busy_s) / seconds,
            "recording": recording_s / seconds,
        },
        films_in_work=gauges.films_in_work,
        hips_waiting=gauges.hips_waiting,
        hips_per_batch=done / max(1, usage.batches - batches),
        memory_mb=gauges.memory_mb,
    )
    return together, lots


@dataclass
class Gauges:
    """What was waiting where, and the most memory that the processes held together."""

    batches: BatchScheduler
    pool: Pool
    memory_mb: float = 0.0
    _in_work: list[int] = field(default_factory=list)
    _waiting: list[int] = field(default_factory=list)
    _next_memory: float = 0.0

    def watch(
        self, read: Iterable[list[tuple[Path, Result]]]
    ) -> Iterator[list[tuple[Path, Result]]]:
        """Pass results on, and look at the gauges whenever there are some."""
        for lot in read:
            self._in_work.append(self.pool.in_flight)
            self._waiting.append(self.batches.waiting)
            if time.monotonic() >= self._next_memory:
                self.memory_mb = max(self.memory_mb, memory_mb())
                self._next_memory = time.monotonic() + MEMORY_EVERY_S
            yield lot
        self.memory_mb = max(self.memory_mb, memory_mb())

    @property
    def films_in_work(self) -> tuple[float, int]:
        """How many films the workers had, on average and at most."""
        return sum(self._in_work) / len(self._in_work), max(self._in_work)

    @property
    def hips_waiting(self) -> tuple[float, int]:
        """How many hips waited for a batch, on average and at most."""
        return sum(self._waiting) / len(self._waiting), max(self._waiting)


def memory_mb() -> float:
    """Return the memory of this process and its descendants, what they share counted once."""
    return sum(map(proportional_kb, family(os.getpid()))) / 1024


def family(pid: int) -> set[int]:
    """Return a process and its descendants."""
    pids, fresh = set[int](), [pid]
    while fresh:
        pids.update(fresh)
        fresh = [child for one in fresh for child in children(one)]
    return pids


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, of all its threads (proc(5))."""
    found = list[int]()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, file.read_text().split()))
        except OSError:
            continue  # it has ended
    return found


def proportional_kb(pid: int) -> int:
    """Return a process's proportional set size (proc(5)); 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
