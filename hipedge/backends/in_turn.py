"""Two backends measured in turn, so that other load on the machine hits both alike."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend

ROUNDS, CALLS = 11, 2


def measure_in_turn(both: tuple[Backend, Backend], batch: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the median CPU time of a hip in milliseconds, of each backend.

    `batch` is uint8 (N, 1, S, S). Raises `BackendError` where a backend fails.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for backend, found in zip(both, times, strict=True):
            start = time.process_time()
            for _ in range(CALLS):
                backend.infer(batch)
            found.append((time.process_time() - start) / CALLS / len(batch) * 1e3)
    return float(np.median(times[0])), float(np.median(times[1]))
