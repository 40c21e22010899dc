"""infer, beside the line: hips of many films in batches, in a thread that owns the backend.

A batch starts when it is full, or when the device is idle and the oldest hip has waited long
enough. Runtimes compute without Python's lock, so the main process goes on meanwhile.
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
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Fingerprint
from hipedge.backends.pipelined import Pipelined
from hipedge.errors import BackendError
from hipedge.types import Sample, Scores

if TYPE_CHECKING:
    # The model is opened before the rest of the line is imported.
    from typing_extensions import Self

    from hipedge.pipeline.preprocess import Prepared

# Long beside a batch on a GPU, short beside one film on a CPU.
LONGEST_WAIT_S = 0.005
# Hips for so many batches may wait; then no more films are read.
BATCHES_WAITING = 4


class Infers(Protocol):
    """A backend, here or in a process of its own."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What computes."""

    @property
    def max_batch(self) -> int:
        """The largest batch worth making."""

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        """Score a batch as `Backend.infer` does."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A film whose hips have their scores, in the order of its samples, and what that took.

    `queue` is the wait of its first hip, `infer` its hips' shares of their batches.
    """

    film: Prepared
    scores: tuple[Scores, ...]
    timings_ms: Mapping[str, float]


@dataclass
class Usage:
    """What the device has done so far, and how long it was at it."""

    busy_s: float = 0.0
    batches: int = 0
    hips: int = 0


class BatchScheduler:
    """Films in, films with their scores out, in no order; opened by `with`.

    `open_` is called in the thread, which alone uses what it returns, and closes it. The methods
    are for one other thread.
    """

    def __init__(
        self,
        open_: Callable[[], AbstractContextManager[Infers]],
        *,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._open, self._longest_wait_s = open_, longest_wait_s
        self._opened = Future[Infers]()
        self._most_waiting = BATCHES_WAITING * 8
        self._films = list[_Film]()
        self._waiting = deque[_Hip]()
        self._scored = list[Scored]()
        self._error: Exception | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self.usage = Usage()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def fingerprint(self) -> Fingerprint:
        """What computes; waits until that is open. Raises what opening it raised."""
        return self._opened.result().fingerprint

    @property
    def films(self) -> list[Prepared]:
        """The films that have not come back."""
        with self._changed:
            return [one.film for one in self._films] + [one.film for one in self._scored]

    @property
    def waiting(self) -> int:
        """How many hips wait for a batch."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so many hips wait that no more should be made."""
        return len(self._waiting) >= self._most_waiting

    @property
    def is_busy(self) -> bool:
        """Whether any film has not come back."""
        return bool(self._films or self._scored or self._error)

    def fileno(self) -> int:
        """Return what can be read from when `collect` has something: an eventfd(2)."""
        return self._event

    def wait(self) -> None:
        """Wait until `collect` has something."""
        select.select([self], [], [])

    def submit(self, films: Iterable[Prepared]) -> None:
        """Take films with one hip at least, each of which comes back by `collect`, once."""
        now = time.perf_counter()
        with self._changed:
            for film in films:
                one = _Film(film, now)
                self._films.append(one)
                self._waiting.extend(one.hips())
            self._changed.notify()

    def collect(self) -> list[Scored]:
        """Return the films that have got their scores, without waiting.

        Raises what the backend raised; its films wait again, until `retry`.
        """
        with self._changed:
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
            scored, self._scored = self._scored, []
            if not scored and self._error is not None:
                raise self._error
            return scored

    def retry(self) -> None:
        """Let the backend try again what it failed on."""
        with self._changed:
            self._error = None
            self._changed.notify()

    def close(self) -> None:
        """End after the batch at work, and close the backend. Closing twice is harmless."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    # in the thread

    def _work(self) -> None:
        try:
            with self._open() as backend:
                self._most_waiting = BATCHES_WAITING * backend.max_batch
                self._opened.set_result(backend)
                self._serve(backend if isinstance(backend, Pipelined) else _OneByOne(backend))
        except Exception as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            self._fail(error)

    def _serve(self, device: Pipelined | _OneByOne) -> None:
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
                flight.clear()
                self._fail(error)

    def _next(self, size: int, *, is_idle: bool) -> list[_Hip]:
        """Wait for a batch and return it; none where the device has another one to finish first."""
        with self._changed:
            while not self._is_closed and not self._is_ready(size, is_idle):
                if not is_idle:
                    return []
                self._changed.wait(self._wait_s)
            count = 0 if self._is_closed else min(size, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _is_ready(self, size: int, is_idle: bool) -> bool:
        if self._error is not None or not self._waiting:
            return False
        return len(self._waiting) >= size or (is_idle and self._wait_s == 0)

    @property
    def _wait_s(self) -> float | None:
        """How long the oldest hip is still to wait for others; None where there is none."""
        if self._error is not None or not self._waiting:
            return None
        waited_s = time.perf_counter() - self._waiting[0].film.since
        return max(0.0, self._longest_wait_s - waited_s)

    def _finish(self, hips: Sequence[_Hip], scores: Sequence[Scores], took_s: float) -> None:
        with self._changed:
            self.usage.busy_s += took_s
            self.usage.batches += 1
            self.usage.hips += len(hips)
            for hip, one in zip(hips, scores, strict=True):
                hip.film.add(one, took_s / len(hips))
            self._scored.extend(one.scored for one in self._films if one.is_done)
            self._films = [one for one in self._films if not one.is_done]
            self._tell()

    def _fail(self, error: Exception) -> None:
        """Let every film wait again, for `retry`."""
        with self._changed:
            self._error = error
            self._waiting.clear()
            for film in self._films:
                film.scores.clear()
                film.infer_s = 0.0
                self._waiting.extend(film.hips())
            self._tell()

    def _tell(self) -> None:
        os.eventfd_write(self._event, 1)


@dataclass(eq=False)
class _Film:
    """A film on its way: the scores that it has got so far, in its samples' order."""

    film: Prepared
    since: float
    scores: list[Scores] = field(default_factory=list)
    began: float = 0.0
    infer_s: float = 0.0

    @property
    def samples(self) -> list[Sample]:
        return [sample for _, ways in self.film.hips for sample in ways]

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
    """One way to see one hip of a film."""

    film: _Film
    sample: Sample


class _OneByOne:
    """A backend without `submit`: a device with one slot, which computes while it is waited for."""

    slots = 1

    def __init__(self, backend: Infers) -> None:
        self._backend, self.max_batch = backend, backend.max_batch

    def submit(self, batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return batch

    def collect(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        return self._backend.infer(batch)
