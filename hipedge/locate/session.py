"""The locator in a single-threaded ONNX Runtime session on the CPU, for worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import BackendError
from hipedge.locate.learned import LocatorScores
from hipedge.onnx_session import ORT_ERRORS, open_session

OUTPUTS = ("heat", "present", "turns", "log_distance")
# Locators of hipedge 0.2 and before do not have it.
HIP = "hip"
# The key of the file's metadata that says what the locator was trained on.
ABOUT = "hipedge.training_data"


class OnnxLocator:
    """Scores thumbnails with `locator.onnx`. Raises `BackendError` if it cannot be loaded.

    `about` is a text on what it was trained on, "" where the file has none.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_session(path, threads=1)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.about: str = metadata.get(ABOUT, "")
        there = {output.name for output in self._session.get_outputs()}
        self._outputs = [*OUTPUTS, *({HIP} & there)]

    def __call__(self, thumbnail: NDArray[np.uint8]) -> LocatorScores:
        """Score one thumbnail uint8 (256, 256)."""
        try:
            outputs = self._session.run(self._outputs, {"pixels": thumbnail[None, None]})
        except ORT_ERRORS as error:
            raise BackendError(f"ONNX Runtime failed on the locator: {error}") from error
        heat, present, turns, log_distance, *hip = (output[0] for output in outputs)
        return LocatorScores(
            heat, present, turns, float(log_distance), float(hip[0]) if hip else None
        )
