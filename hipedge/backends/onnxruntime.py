"""The ONNX Runtime backend: part of every installation, runs on any CPU."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.errors import BackendError
from hipedge.model.folder import ModelFolder
from hipedge.onnx_session import (
    CPU,
    ORT_ERRORS,
    VERSION,
    open_half_precision_session,
    open_session,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class OnnxRuntimeBackend(Backend):
    """The classifier in a session of ONNX Runtime.

    `provider` is the name of an execution provider. Raises `BackendError` where ONNX Runtime would
    use another one.
    """

    def __init__(
        self, model: ModelFolder, *, threads: int | None = None, provider: str = CPU
    ) -> None:
        super().__init__(model.card.input.size_px)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._session = (
            open_half_precision_session(model.classifier, threads=self._threads)
            if provider == CPU
            else open_session(model.classifier, threads=self._threads, provider=provider)
        )
        self._provider = self._session.get_providers()[0]
        if self._provider != provider:
            raise BackendError(
                f"ONNX Runtime would run on {self._provider} instead of {provider}:"
                " install the build that has it, or choose another backend"
            )

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the classifier on the CPU, by default with a thread for each available core."""
        return cls(model, threads=threads)

    @property
    def fingerprint(self) -> Fingerprint:
        """ONNX Runtime's version, the provider of the session, and the number of threads."""
        return Fingerprint(
            runtime="onnxruntime",
            version=VERSION,
            provider=self._provider,
            device=platform.machine(),
            precision="fp16",
            threads=self._threads,
        )

    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            logits, maps = self._session.run(["logits", "maps"], {"pixels": batch})
        except ORT_ERRORS as error:
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        return logits, maps

    def _release(self) -> None:
        del self._session
