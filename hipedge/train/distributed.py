"""One process or several started by `torchrun`, on the CPU or a GPU each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

# The other processes wait while the leader reads every film, or validates: torch's default of ten
# minutes for GPUs is too short for that. Where a process dies, `torchrun` ends the others.
TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class DistributedContext:
    """The process (`rank` of `world`) and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def distributed_context(device: str | None = None) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started, if any, and yield this one's context.

    `device` is cpu or cuda; None takes the GPU where there is one. The processes communicate by
    NCCL between GPUs and by Gloo between CPUs.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield DistributedContext(torch.device(kind))
        return
    place = DistributedContext(torch.device(kind), int(os.environ["RANK"]), world)
    if kind == "cuda":
        place = DistributedContext(
            torch.device(kind, int(os.environ["LOCAL_RANK"])), place.rank, world
        )
        torch.cuda.set_device(place.device)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield place
    finally:
        distributed.destroy_process_group()
