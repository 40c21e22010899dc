"""Inference: the hips of many films in batches, in a thread that owns the backend.

A batch starts when it is full, or when the device is idle and the oldest hip has waited long
enough or no film is being read any more. Runtimes release Python's global lock while they compute,
so the main thread continues.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.backends.pipelined import Pipelined
from hipedge.errors import BackendError
from hipedge.types import Sample, Scores

if TYPE_CHECKING:
    # Imported lazily, so that the backend opens while the rest of the pipeline is imported.
    from typing_extensions import Self

    from hipedge.pipeline.preprocessor import Prepared

# Two cores read eight hips in this time: a full batch on a CPU, in which a hip costs less.
MAX_WAIT_S = 0.2
# Hips for this many batches may wait before no more films are read.
MAX_WAITING_BATCHES = 4


class InferenceBackend(Protocol):
    """A backend in this process or in another one."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Runtime, version and device."""

    @property
    def max_batch(self) -> int:
        """The largest useful batch."""

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        """Score a batch as `Backend.infer` does."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A film with the scores of its hips, in the order of its samples, and their timings.

    The timing `queue` is the wait of its first hip, `infer` the sum over its hips of the time of
    their batches divided by the batch size.
    """

    film: Prepared
    scores: tuple[Scores, ...]
    timings_ms: Mapping[str, float]


@dataclass
class Usage:
    """The work of the device so far: its busy time, and the batches and hips that it has scored."""

    busy_s: float = 0.0
    batches: int = 0
    hips: int = 0


class BatchScheduler:
    """Collects hips into batches, and returns films with their scores in no particular order.

    A context manager. `open_` is called in the inference thread, which alone uses and closes the
    backend that it returns. All methods must be called from one other thread.
    """

    def __init__(
        self,
        open_: Callable[[], AbstractContextManager[InferenceBackend]],
        *,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._open, self._max_wait_s = open_, max_wait_s
        self._opened = Future[InferenceBackend]()
        self._max_waiting = MAX_WAITING_BATCHES * Backend.max_batch  # until the backend is open
        self._films = list[_Film]()
        self._waiting = deque[_Hip]()
        self._scored = list[Scored]()
        self._error: Exception | None = None
        self._is_closed = self._is_flushing = False
        self._changed = threading.Condition()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self.usage = Usage()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fingerprint(self) -> Fingerprint:
        """The backend's fingerprint. Waits until it is open; raises what opening it raised."""
        return self._opened.result().fingerprint

    @property
    def films(self) -> list[Prepared]:
        """The films that have been submitted and not been returned by `collect`."""
        with self._changed:
            return [f.film for f in self._films] + [s.film for s in self._scored]

    @property
    def waiting(self) -> int:
        """The number of hips that wait for a batch."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so many hips wait that no more films should be read."""
        return len(self._waiting) >= self._max_waiting

    @property
    def is_busy(self) -> bool:
        """Whether `collect` has still to return a film or raise an error."""
        return bool(self._films or self._scored or self._error)

    def fileno(self) -> int:
        """Return an eventfd(2) that is readable when `collect` has a result or an error."""
        return self._event

    def wait(self) -> None:
        """Wait until `collect` has a result or an error."""
        select.select([self], [], [])

    def submit(self, films: Iterable[Prepared]) -> None:
        """Queue films, each with at least one hip. `collect` returns each of them once."""
        now = time.perf_counter()
        with self._changed:
            for film in films:
                entry = _Film(film, now)
                self._films.append(entry)
                self._waiting.extend(entry.hips())
            self._changed.notify()

    def flush(self) -> None:
        """Start batches until no hip waits, without waiting for others: none follow soon."""
        with self._changed:
            if self._waiting:  # else the idle thread would be woken in vain, at each iteration
                self._is_flushing = True
                self._changed.notify()

    def collect(self) -> list[Scored]:
        """Return the films whose scores are complete, without waiting.

        Raises the backend's error once all films that were complete have been returned; the other
        films are queued again, until `retry`.
        """
        with self._changed:
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
            scored, self._scored = self._scored, []
            if not scored and self._error is not None:
                raise self._error
            return scored

    def retry(self) -> None:
        """Clear the error, and let the backend score the queued films."""
        with self._changed:
            self._error = None
            self._changed.notify()

    def close(self) -> None:
        """Stop after the current batch, and close the backend. May be called more than once."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    # The methods below run in the inference thread.

    def _work(self) -> None:
        try:
            with self._open() as backend:
                self._max_waiting = MAX_WAITING_BATCHES * backend.max_batch
                self._opened.set_result(backend)
                self._serve(backend if isinstance(backend, Pipelined) else _Sequential(backend))
        except Exception as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            self._fail(error)

    def _serve(self, device: Pipelined | _Sequential) -> None:
        flight = deque[tuple[list[_Hip], Any]]()
        busy_since = 0.0
        while not self._is_closed:
            hips = self._next(device.max_batch, is_idle=not flight)
            try:
                if hips:
                    busy_since = busy_since if flight else time.perf_counter()
                    for hip in hips:
                        hip.film.start()
                    pixels = np.stack([hip.sample.pixels for hip in hips])
                    flight.append((hips, device.submit(pixels)))
                if flight and (not hips or len(flight) == device.slots):
                    hips, ticket = flight.popleft()
                    scores = device.collect(ticket)
                    now = time.perf_counter()
                    self._finish(hips, scores, now - busy_since)
                    busy_since = now
            except BackendError as error:
                _discard(device, flight)
                self._fail(error)

    def _next(self, size: int, *, is_idle: bool) -> list[_Hip]:
        """Wait for a batch and return its hips; none where the device must finish one first."""
        with self._changed:
            while not self._is_closed and not self._is_ready(size, is_idle):
                if not is_idle:
                    return []
                self._changed.wait(self._wait_s)
            count = 0 if self._is_closed else min(size, len(self._waiting))
            hips = [self._waiting.popleft() for _ in range(count)]
            self._is_flushing = self._is_flushing and bool(self._waiting)
            return hips

    def _is_ready(self, size: int, is_idle: bool) -> bool:
        if self._error is not None or not self._waiting:
            return False
        return len(self._waiting) >= size or (is_idle and self._wait_s == 0)

    @property
    def _wait_s(self) -> float | None:
        """How much longer the oldest hip waits for others; None where no batch can start."""
        if self._error is not None or not self._waiting:
            return None
        if self._is_flushing:
            return 0.0
        waited_s = time.perf_counter() - self._waiting[0].film.since
        return max(0.0, self._max_wait_s - waited_s)

    def _finish(self, hips: Sequence[_Hip], scores: Sequence[Scores], took_s: float) -> None:
        with self._changed:
            self.usage.busy_s += took_s
            self.usage.batches += 1
            self.usage.hips += len(hips)
            for hip, hip_scores in zip(hips, scores, strict=True):
                hip.film.add(hip_scores, took_s / len(hips))
            self._scored.extend(film.scored for film in self._films if film.is_done)
            self._films = [film for film in self._films if not film.is_done]
            self._notify_owner()

    def _fail(self, error: Exception) -> None:
        """Queue every incomplete film again, for `retry`."""
        with self._changed:
            self._error = error
            self._waiting.clear()
            for film in self._films:
                film.scores.clear()
                film.infer_s = 0.0
                self._waiting.extend(film.hips())
            self._notify_owner()

    def _notify_owner(self) -> None:
        os.eventfd_write(self._event, 1)


def _discard(device: Pipelined | _Sequential, flight: deque[tuple[list[_Hip], Any]]) -> None:
    """Wait for all batches in flight and drop their scores, so that their slots are free again."""
    while flight:
        _, ticket = flight.popleft()
        with suppress(BackendError):  # of a failure already reported; the films are queued again
            device.collect(ticket)


@dataclass(eq=False)
class _Film:
    """A film that is being scored: its scores so far, in the order of its samples."""

    film: Prepared
    since: float
    scores: list[Scores] = field(default_factory=list)
    began: float = 0.0
    infer_s: float = 0.0

    @property
    def samples(self) -> list[Sample]:
        return [sample for _, views in self.film.hips for sample in views]

    @property
    def is_done(self) -> bool:
        return len(self.scores) == len(self.samples)

    @property
    def scored(self) -> Scored:
        timings_ms = {"queue": (self.began - self.since) * 1e3, "infer": self.infer_s * 1e3}
        return Scored(self.film, tuple(self.scores), timings_ms)

    def hips(self) -> list[_Hip]:
        return [_Hip(self, sample) for sample in self.samples]

    def start(self) -> None:
        if not self.scores:
            self.began = time.perf_counter()

    def add(self, scores: Scores, took_s: float) -> None:
        self.scores.append(scores)
        self.infer_s += took_s


class _Hip(NamedTuple):
    """One sample of one film: a view of a hip."""

    film: _Film
    sample: Sample


class _Sequential:
    """Gives a backend without `submit` that interface: one slot, which computes in `collect`."""

    slots = 1

    def __init__(self, backend: InferenceBackend) -> None:
        self._backend, self.max_batch = backend, backend.max_batch

    def submit(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return batch

    def collect(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        return self._backend.infer(batch)
