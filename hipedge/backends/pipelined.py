"""The interface of backends that copy one batch while they compute another."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend
from hipedge.types import Scores


@dataclass(frozen=True)
class Timing:
    """The times of one batch, as defined by NVIDIA's `trtexec`.

    `enqueue_ms` is the host's time to enqueue. The others are the device's, measured by events on
    its stream: the copy from host to device (H2D), the computation, the copy back (D2H).
    """

    enqueue_ms: float
    h2d_ms: float
    compute_ms: float
    d2h_ms: float

    @property
    def latency_ms(self) -> float:
        """From the start of the copy to the device to the end of the copy back."""
        return self.h2d_ms + self.compute_ms + self.d2h_ms


@dataclass(frozen=True)
class Ticket:
    """A batch in flight: its slot, its number in that slot, and its size."""

    slot: int
    number: int
    size: int


class Pipelined(Backend):
    """A backend with up to `slots` batches in flight, each of at most `max_batch` samples.

    For use by one thread at a time.
    """

    slots: int
    max_batch: int

    @property
    @abstractmethod
    def uses_graphs(self) -> bool:
        """Whether small batches run as CUDA graphs."""

    @abstractmethod
    def submit(self, batch: NDArray[np.uint8]) -> Ticket:
        """Start a batch of at most `max_batch` samples, and return without waiting for it.

        The batch is copied before this returns. Raises `BackendError` where all slots are in
        flight, and as `infer` does.
        """

    @abstractmethod
    def collect_timed(self, ticket: Ticket) -> tuple[tuple[Scores, ...], Timing]:
        """Wait for a batch; return its scores, as `infer` does, and its timing.

        Raises `BackendError` for a ticket that was collected before, and as `infer` does.
        """

    def collect(self, ticket: Ticket) -> tuple[Scores, ...]:
        """Wait for a batch and return its scores."""
        return self.collect_timed(ticket)[0]
