"""Latency and throughput of a backend by batch size, in the terms of NVIDIA's `trtexec`."""

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

# Above these a figure is unreliable, or limited by something other than the GPU's computation;
# the limit for enqueueing is that of `trtexec`.
UNSTABLE_VARIATION = 0.025
ENQUEUE_BOUND_SHARE = 0.8

# The fewest measurements of which percentiles are given.
MIN_BATCHES = 10

STATISTICS = ("min", "max", "mean", "median", "p90", "p95", "p99")


@dataclass(frozen=True)
class Distribution:
    """Statistics of repeated measurements of a time, in milliseconds."""

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
    """Throughput and latency at one batch size.

    On a CPU, latency is the duration of a call. On a GPU it is, as in `trtexec`, the time from the
    start of the copy to the device to the end of the copy back; `parts` has its components and the
    host's time to enqueue.
    """

    batch: int
    batches: int
    seconds: float
    images_per_s: float
    latency: Distribution
    parts: Mapping[str, Distribution] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons why the figures are unreliable, or limited by other things than computation."""
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
        """All figures by their names in requirements, such as `p99_ms` or `compute_p99_ms`."""
        figures = {"images_per_s": self.images_per_s}
        for prefix, times in {"": self.latency, **self.parts}.items():
            start = f"{prefix}_" if prefix else ""
            figures |= {f"{start}{name}_ms": getattr(times, name) for name in STATISTICS}
        return figures


@dataclass(frozen=True)
class Sweep:
    """The measurements of one backend at several batch sizes, including copies to the device."""

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
    """Measure `backend` on `samples`, uint8 (N, 1, S, S), repeated to fill batches of each size.

    Each size runs for `warmup_s` unmeasured, then for `duration_s` and at least `MIN_BATCHES`.
    Raises `BackendError` where the backend fails.
    """
    inputs = (np.resize(samples, (size, *samples.shape[1:])) for size in batches)
    if isinstance(backend, Pipelined):
        points = tuple(measure_pipelined(backend, batch, warmup_s, duration_s) for batch in inputs)
        return Sweep(str(backend.fingerprint), backend.uses_graphs, points)
    points = tuple(measure(backend, batch, warmup_s, duration_s) for batch in inputs)
    return Sweep(str(backend.fingerprint), False, points)


def measure(
    backend: Backend, batch: NDArray[np.uint8], warmup_s: float, duration_s: float
) -> Point:
    """Measure batches one at a time."""
    for _ in _repeat(warmup_s):
        backend.infer(batch)
    latencies_ms = []
    start = time.perf_counter()
    for batch_start in _repeat(duration_s):
        backend.infer(batch)
        latencies_ms.append((time.perf_counter() - batch_start) * 1e3)
    return _point(len(batch), time.perf_counter() - start, latencies_ms)


def measure_pipelined(
    backend: Pipelined, batch: NDArray[np.uint8], warmup_s: float, duration_s: float
) -> Point:
    """Measure with all slots of the backend in flight, as in the pipeline."""
    for _ in _repeat(warmup_s):
        backend.infer(batch)
    timings: list[Timing] = []
    flight = deque[Ticket]()
    start = time.perf_counter()
    for _ in _repeat(duration_s):
        if len(flight) == backend.slots:
            timings.append(backend.collect_timed(flight.popleft())[1])
        flight.append(backend.submit(batch))
    timings.extend(backend.collect_timed(ticket)[1] for ticket in flight)
    seconds = time.perf_counter() - start
    parts = {name: Distribution.of([getattr(t, f"{name}_ms") for t in timings]) for name in PARTS}
    return _point(len(batch), seconds, [timing.latency_ms for timing in timings], parts)


def _repeat(seconds: float) -> Iterator[float]:
    """Yield the current time until `seconds` are over, and at least `MIN_BATCHES` times."""
    start = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) - start < seconds or count < MIN_BATCHES:
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
    """A bound on a figure, such as `p99_ms<=8`, for every batch size measured."""

    text: str
    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Parse METRIC<=NUMBER, or with <, >= or >; raise `ConfigError` for any other text."""
        parts = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*([0-9.]+)\s*", text)
        if parts is None or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", parts[3]):
            raise ConfigError(f"{text!r} is not a requirement such as 'p99_ms<=8'")
        return cls(text, parts[1], parts[2], float(parts[3]))

    def broken_by(self, point: Point) -> str | None:
        """Return a message where a point violates the requirement, else None.

        Raises `ConfigError` for a figure that was not measured for this backend.
        """
        if self.metric not in point.metrics:
            raise ConfigError(f"{self.text!r}: the figures here are {', '.join(point.metrics)}")
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
