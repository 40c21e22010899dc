"""A backend that copies one batch while it computes another."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend
from hipedge.types import Scores


@dataclass(frozen=True)
class Timing:
    """What one batch took, as `trtexec` has it: the host's time to enqueue, and the device's.

    The device's are measured by events on its stream: the copy to it, the computation, the copy
    back.
    """

    enqueue_ms: float
    h2d_ms: float
    compute_ms: float
    d2h_ms: float

    @property
    def latency_ms(self) -> float:
        """From the start of the copy there to the end of the copy back."""
        return self.h2d_ms + self.compute_ms + self.d2h_ms


@dataclass(frozen=True)
class Ticket:
    """A batch in flight: which slot it is in, and its number there."""

    slot: int
    number: int
    size: int


class Pipelined(Backend):
    """A backend with `slots` batches in flight, each of at most `max_batch` samples.

    For one thread: the order of calls says what overlaps.
    """

    slots: int
    max_batch: int

    @property
    @abstractmethod
    def uses_graphs(self) -> bool:
        """Whether small batches run as CUDA graphs."""

    @abstractmethod
    def submit(self, batch: NDArray[np.uint8]) -> Ticket:
        """Start a batch, as in `infer` but of at most `max_batch`, and return without waiting.

        The batch is copied before this returns. Raises `BackendError` where all slots are in
        flight, and as `infer` does.
        """

    @abstractmethod
    def collect_timed(self, ticket: Ticket) -> tuple[tuple[Scores, ...], Timing]:
        """Wait for a batch; return its scores, as `infer` does, and what it took.

        Raises `BackendError` for a ticket that was collected before, and as `infer` does.
        """

    def collect(self, ticket: Ticket) -> tuple[Scores, ...]:
        """Wait for a batch and return its scores."""
        return self.collect_timed(ticket)[0]
