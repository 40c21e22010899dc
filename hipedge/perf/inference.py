"""How fast a backend is by batch size: latency and throughput, in the terms of `trtexec`."""

from __future__ import annotations

import operator
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend
from hipedge.backends.pipelined import Pipelined, Ticket, Timing
from hipedge.errors import ConfigError

# Above these a figure is doubtful, or bound by something else than the GPU's computation; the
# share of enqueueing is `trtexec`'s.
UNSTABLE_VARIATION = 0.025
ENQUEUE_BOUND_SHARE = 0.8

# Fewer make no percentile.
LEAST_BATCHES = 10

STATISTICS = ("min", "max", "mean", "median", "p90", "p95", "p99")


@dataclass(frozen=True)
class Distribution:
    """What repeated measurements of one time came to, in milliseconds."""

    min: float
    max: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float
    variation: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Distribution:
        """Summarise measurements; `variation` is the standard deviation over the mean."""
        values = np.asarray(values_ms)
        median, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99])
        return cls(
            min=float(values.min()),
            max=float(values.max()),
            mean=float(values.mean()),
            median=float(median),
            p90=float(p90),
            p95=float(p95),
            p99=float(p99),
            variation=float(values.std() / values.mean()),
        )


PARTS = ("enqueue", "h2d", "compute", "d2h")


@dataclass(frozen=True)
class Point:
    """One batch size of a sweep: throughput, and the latency of a batch.

    Latency is from handing a batch in to having its scores; on a GPU, as in `trtexec`, from the
    start of the copy there to the end of the copy back, and `parts` holds what it consists of and
    the host's time to enqueue.
    """

    batch: int
    batches: int
    seconds: float
    images_per_s: float
    latency: Distribution
    parts: Mapping[str, Distribution] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures doubtful, or bounds the throughput other than computation."""
        found = []
        variation = self.parts.get("compute", self.latency).variation
        if variation > UNSTABLE_VARIATION:
            found.append(f"computing varies by {variation:.1%}: lock the clocks, stop other work")
        if self.parts:
            enqueue, h2d, compute, d2h = (self.parts[name].median for name in PARTS)
            if enqueue > ENQUEUE_BOUND_SHARE * compute:
                found.append("the host's enqueueing may bound the throughput")
            if h2d >= compute:
                found.append("the copies to the GPU may bound the throughput")
            if d2h >= compute:
                found.append("the copies from the GPU may bound the throughput")
        return tuple(found)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Every figure by the name that a requirement has for it, as `p99_ms`, `compute_p99_ms`."""
        figures = {"images_per_s": self.images_per_s}
        for prefix, times in {"": self.latency, **self.parts}.items():
            start = f"{prefix}_" if prefix else ""
            figures |= {f"{start}{name}_ms": getattr(times, name) for name in STATISTICS}
        return figures


@dataclass(frozen=True)
class Sweep:
    """One backend over several batch sizes; copies are always in, CUDA graphs where it says so."""

    backend: str
    cuda_graphs: bool
    points: tuple[Point, ...]


def sweep(
    backend: Backend,
    samples: NDArray[np.uint8],
    batches: Sequence[int],
    *,
    warmup_s: float,
    duration_s: float,
) -> Sweep:
    """Measure `backend` on `samples`, uint8 (N, 1, S, S), repeated to batches of each size.

    Each size runs for `warmup_s` unmeasured, then for `duration_s` and at least `LEAST_BATCHES`.
    Raises `BackendError` where the backend fails.
    """
    made = (np.resize(samples, (size, *samples.shape[1:])) for size in batches)
    if isinstance(backend, Pipelined):
        points = tuple(measure_pipelined(backend, one, warmup_s, duration_s) for one in made)
        return Sweep(str(backend.fingerprint), backend.uses_graphs, points)
    points = tuple(measure(backend, one, warmup_s, duration_s) for one in made)
    return Sweep(str(backend.fingerprint), False, points)


def measure(
    backend: Backend, batch: NDArray[np.uint8], warmup_s: float, duration_s: float
) -> Point:
    """Measure one batch after the other, each waited for."""
    for _ in _for(warmup_s):
        backend.infer(batch)
    latencies_ms = []
    start = time.perf_counter()
    for began in _for(duration_s):
        backend.infer(batch)
        latencies_ms.append((time.perf_counter() - began) * 1e3)
    return _point(len(batch), time.perf_counter() - start, latencies_ms)


def measure_pipelined(
    backend: Pipelined, batch: NDArray[np.uint8], warmup_s: float, duration_s: float
) -> Point:
    """Measure with every slot of the backend in flight, as the line runs it."""
    for _ in _for(warmup_s):
        backend.infer(batch)
    timings: list[Timing] = []
    flight = deque[Ticket]()
    start = time.perf_counter()
    for _ in _for(duration_s):
        if len(flight) == backend.slots:
            timings.append(backend.collect_timed(flight.popleft())[1])
        flight.append(backend.submit(batch))
    timings.extend(backend.collect_timed(ticket)[1] for ticket in flight)
    seconds = time.perf_counter() - start
    parts = {
        name: Distribution.of([getattr(one, f"{name}_ms") for one in timings]) for name in PARTS
    }
    return _point(len(batch), seconds, [one.latency_ms for one in timings], parts)


def _for(seconds: float) -> Iterator[float]:
    """Yield the time until it is over, and at least `LEAST_BATCHES` times."""
    start = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) - start < seconds or count < LEAST_BATCHES:
        yield now
        count += 1


def _point(
    batch: int,
    seconds: float,
    latencies_ms: Sequence[float],
    parts: Mapping[str, Distribution] | None = None,
) -> Point:
    count = len(latencies_ms)
    rate = count * batch / seconds
    return Point(batch, count, seconds, rate, Distribution.of(latencies_ms), parts or {})


@dataclass(frozen=True)
class Requirement:
    """A bound on a figure, such as `p99_ms<=8`; it holds for every batch size measured."""

    text: str
    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read METRIC<=NUMBER, or with <, >= or >; raise `ConfigError` where it is another."""
        parts = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.]+)\s*", text)
        if parts is None or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", parts[3]):
            raise ConfigError(f"{text!r} is not a requirement such as 'p99_ms<=8'")
        return cls(text, parts[1], parts[2], float(parts[3]))

    def broken_by(self, point: Point) -> str | None:
        """Say how a point breaks the requirement, or return None where it does not.

        Raises `ConfigError` for a figure that this backend does not have.
        """
        if self.metric not in point.metrics:
            raise ConfigError(f"{self.text!r}: there is only {', '.join(point.metrics)}")
        value = point.metrics[self.metric]
        if COMPARISONS[self.comparison](value, self.bound):
            return None
        return f"batch {point.batch}: {self.metric} is {value:.4g}, not {self.text}"


COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
