"""What a cluster offers to a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hipedge.errors import ConfigError

MOST_WORKERS_PER_READER = 4


@dataclass(frozen=True)
class Cluster:
    """The cores and the memory of each node, the GPUs of all, and the address of the dashboard.

    `memory_bytes` is what Ray may give away: what a site caps with `ray start --memory`.
    """

    cores: tuple[int, ...]
    memory_bytes: tuple[int, ...]
    gpus: int = 0
    dashboard: str | None = None

    def readers(self, worker_bytes: int) -> Readers:
        """Return the readers that the nodes have cores and memory for.

        Every worker process may use `worker_bytes`. Raises `ConfigError` where no node has that.
        """
        fitting = [
            (cores, memory // worker_bytes)
            for cores, memory in zip(self.cores, self.memory_bytes, strict=True)
            if memory >= worker_bytes
        ]
        if not fitting:
            raise ConfigError(
                f"no node has the {worker_bytes >> 20} MB of memory that a worker process may use:"
                " set worker_memory_mb lower, or give the nodes more with `ray start --memory`"
            )
        workers = workers_per_reader([min(pair) for pair in fitting])
        return Readers(sum(min(pair) // workers for pair in fitting), workers)


@dataclass(frozen=True)
class Readers:
    """How many readers there are at most, and how many worker processes each of them has."""

    count: int
    workers: int


def workers_per_reader(cores: Sequence[int]) -> int:
    """Return how many worker processes a reader has: as many as the smallest node has cores for.

    A reader with several has less overhead for each, but all of them wait for its slowest film.
    """
    return max(1, min(MOST_WORKERS_PER_READER, *cores))
