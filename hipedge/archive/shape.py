"""What a cluster offers to a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_WORKERS_PER_READER = 4


@dataclass(frozen=True)
class Cluster:
    """The cores of each node, the GPUs of all, and the address of the dashboard."""

    cores: tuple[int, ...]
    gpus: int = 0
    dashboard: str | None = None

    @property
    def workers_per_reader(self) -> int:
        """The worker processes of one reader."""
        return workers_per_reader(self.cores)

    @property
    def readers(self) -> int:
        """The readers that the nodes have cores for."""
        return sum(cores // self.workers_per_reader for cores in self.cores)


def workers_per_reader(cores: Sequence[int]) -> int:
    """Return how many worker processes a reader has: as many as the smallest node has cores for.

    A reader with several has less overhead for each, but all of them wait for its slowest film.
    """
    return max(1, min(MOST_WORKERS_PER_READER, *cores))
