"""A backend for tests and demonstrations: scores computed without a model, delays and failures."""

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
    """Scores a sample by its brightness, so that a test can choose the category by painting it.

    The sample is divided into K × K cells, of which row k belongs to the k-th of the K
    `CATEGORIES`. In this row the category's map is the mean of each cell, from 0 (black) to 1
    (white); elsewhere it is 0. The logit is the map's sum, from 0 to K: a sample with one white
    row is of its category with near certainty.

    Each batch takes `latency_s` more. `failures` has one entry per batch, in order: an error to
    raise, or None; after the last entry no batch fails.
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
        """Accept samples of the model's size; its weights are not read."""
        return cls(model.card.input.size_px)

    @property
    def fingerprint(self) -> Fingerprint:
        """A fingerprint without a device or provider."""
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
