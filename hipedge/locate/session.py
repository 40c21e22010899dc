"""The locator in a single-threaded ONNX Runtime session on the CPU, for worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import BackendError
from hipedge.locate.learned import LocatorScores
from hipedge.onnx_session import ORT_ERRORS, open_session

OUTPUTS = ("heat", "present", "turns", "log_distance")


class OnnxLocator:
    """Scores thumbnails with `locator.onnx`. Raises `BackendError` if it cannot be loaded."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, threads=1)

    def __call__(self, thumbnail: NDArray[np.uint8]) -> LocatorScores:
        """Score one thumbnail uint8 (256, 256)."""
        try:
            outputs = self._session.run(list(OUTPUTS), {"pixels": thumbnail[None, None]})
        except ORT_ERRORS as error:
            raise BackendError(f"ONNX Runtime failed on the locator: {error}") from error
        heat, present, turns, log_distance = (output[0] for output in outputs)
        return LocatorScores(heat, present, turns, float(log_distance))
