"""The interface of all backends: a batch of samples in, the scores of each sample out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import BackendError
from hipedge.model.folder import ModelFolder
from hipedge.types import CATEGORIES, Scores

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Fingerprint:
    """Runtime, version and device that computed a result; stored with every result.

    Equal installations have equal fingerprints. `precision` is that of the model's graph; a
    processor without half precision computes it in single. `threads` is None for a runtime that
    has no such setting.
    """

    runtime: str
    version: str
    provider: str
    device: str
    precision: str
    threads: int | None = None

    def __str__(self) -> str:
        threads = "" if self.threads is None else f" threads={self.threads}"
        return (
            f"{self.runtime}={self.version} provider={self.provider} device={self.device}"
            f" precision={self.precision}{threads}"
        )


class Backend(ABC):
    """One runtime with one model loaded. Use it in a `with` statement, which closes it.

    A subclass implements `open`, `fingerprint` and `_infer`; this class validates their inputs and
    outputs. `max_batch` is the largest useful batch: on a CPU larger ones need more memory and no
    less time per sample.
    """

    max_batch: int = 8

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self._is_open = True

    @classmethod
    @abstractmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load `model`; backends on the CPU use `threads`, or by default every available core.

        Raises `BackendError` where this runtime cannot run the model.
        """

    @classmethod
    def open_unquantized(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the model's own classifier, also where `open` would take a quantized one."""
        return cls.open(model, threads=threads)

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Runtime, version and device of this backend."""

    @abstractmethod
    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return logits (N, K) and maps (N, K, h, w); raise only `BackendError`."""

    def infer(self, batch: NDArray[np.uint8]) -> tuple[Scores, ...]:
        """Score a C-contiguous uint8 batch (N, 1, S, S); return N scores with arrays of their own.

        Scores may be NaN or infinite: the caller must refuse these hips. Raises `BackendError` for
        a batch of another shape or type, and where the runtime fails.
        """
        if not self._is_open:
            raise BackendError("this backend is closed: open it again")
        self._check_batch(batch)
        logits, maps = self._infer(batch)
        self._check_scores(len(batch), logits, maps)
        return tuple(Scores(logits[i].copy(), maps[i].copy()) for i in range(len(batch)))

    def close(self) -> None:
        """Release the runtime's resources. May be called more than once."""
        if self._is_open:
            self._is_open = False
            self._release()

    def _release(self) -> None:  # noqa: B027  # a subclass may hold nothing
        """Release the runtime's resources; called at most once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_batch(self, batch: NDArray[np.uint8]) -> None:
        side = self.size_px
        fits = batch.dtype == np.uint8 and batch.ndim == 4 and batch.shape[1:] == (1, side, side)
        if not fits or len(batch) == 0 or not batch.flags.c_contiguous:
            raise BackendError(
                f"a batch is C-contiguous uint8 (N ≥ 1, 1, {side}, {side}),"
                f" not {batch.dtype} {batch.shape}: prepare samples at the model's size"
            )

    def _check_scores(self, n: int, logits: NDArray[Any], maps: NDArray[Any]) -> None:
        expected = (n, len(CATEGORIES))
        fits = logits.shape == expected and maps.ndim == 4 and maps.shape[:2] == expected
        if not fits or logits.dtype != np.float32 or maps.dtype != np.float32:
            raise BackendError(
                f"the model returned logits {logits.dtype} {logits.shape} and maps {maps.dtype}"
                f" {maps.shape}, not float32 {expected} and (*{expected}, h, w): use another model"
            )
