"""Many samples through a backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hipedge.backends.base import Backend
from hipedge.types import Sample, Scores

BATCH = 32


def infer(samples: Sequence[Sample], backend: Backend) -> Iterator[Scores]:
    """Yield the scores of each sample, in batches of bounded memory."""
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        yield from backend.infer(np.stack([sample.pixels for sample in batch]))
