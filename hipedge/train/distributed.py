"""One process or several, as `torchrun` starts them: on the CPU, one GPU, or a GPU each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

# The others wait while one reads every film, or validates: with torch's ten minutes for GPUs they
# would give up on it. Where a process dies, `torchrun` ends the others.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class DistributedContext:
    """Which process this is (`rank` of `world`), and the device that it computes on."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def distributed_context(device: str | None = None) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started, if it did, and say where this one computes.

    `device` is cpu or cuda; None takes the GPU where there is one. The processes talk by NCCL
    between GPUs and by Gloo between CPUs.
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
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield place
    finally:
        distributed.destroy_process_group()
