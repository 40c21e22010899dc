"""The test double that ships: scores without a model, a delay, and failures on demand."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import hipedge
from hipedge.backends.base import Backend, Fingerprint
from hipedge.errors import BackendError
from hipedge.model.folder import ModelFolder
from hipedge.types import CATEGORIES

if TYPE_CHECKING:
    from typing_extensions import Self


class FakeBackend(Backend):
    """Scores a sample by the brightness of its parts, so that a test can paint what it wants.

    The sample is cut into 8 × 8 cells, of which row k stands for the k-th of `CATEGORIES`. There
    the category's map is the mean of each cell, from 0 (black) to 1 (white); elsewhere it is 0.
    Its logit is the sum, from 0 to 8: a sample with one white row is surely of its category.

    `latency_s` is slept for each batch. `failures` has one entry a batch, in order: an error to
    raise, or None; after the last entry nothing fails.
    """

    max_batch = 32  # as an engine has by default

    def __init__(
        self,
        size_px: int = 256,
        *,
        latency_s: float = 0.0,
        failures: Iterable[BackendError | None] = (),
    ) -> None:
        super().__init__(size_px)
        self._latency_s = latency_s
        self._failures = iter(failures)

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Stand in for `model`: of its size, without its weights."""
        return cls(model.card.input.size_px)

    @property
    def fingerprint(self) -> Fingerprint:
        """Says that nothing real computes here."""
        return Fingerprint("fake", hipedge.__version__, "none", "none", "none")

    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        time.sleep(self._latency_s)
        if (failure := next(self._failures, None)) is not None:
            raise failure
        rows = np.arange(len(CATEGORIES))
        side, cell = len(rows), self.size_px // len(rows)
        cells = batch.reshape(-1, side, cell, side, cell).mean((2, 4), dtype=np.float32) / 255
        maps = np.zeros((len(batch), side, side, side), np.float32)
        maps[:, rows, rows] = cells
        return maps.sum((2, 3)), maps
