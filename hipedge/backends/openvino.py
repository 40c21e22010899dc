"""The OpenVINO backend: the fastest on a CPU, in bfloat16 where CPU and model allow it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.backends.int8_cache import find_int8
from hipedge.backends.parity_cache import cached_parity
from hipedge.errors import BackendError
from hipedge.model.folder import ModelFolder
from hipedge.telemetry import without_openvino_telemetry

with without_openvino_telemetry():
    import openvino

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("hipedge.openvino")

# OpenVINO's exceptions are raised in Python as these.
OPENVINO_ERRORS = (RuntimeError, ValueError, TypeError)

# OpenVINO's names of precisions, and those of a fingerprint.
PRECISIONS = {"f32": "fp32", "bf16": "bf16"}


class OpenVinoBackend(Backend):
    """The classifier compiled by OpenVINO for this CPU; `precision` is f32 or bf16.

    `int8` is a quantized classifier to run in place of the model's; what it does not quantize is
    computed in `precision`.
    """

    def __init__(
        self,
        model: ModelFolder,
        *,
        precision: str = "f32",
        threads: int | None = None,
        int8: Path | None = None,
    ) -> None:
        super().__init__(model.card.input.size_px)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._precision = PRECISIONS[precision] if int8 is None else "int8"
        path = int8 or model.classifier
        core = openvino.Core()
        self._device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch at a time
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        try:
            compiled = core.compile_model(str(path), "CPU", settings)
        except OPENVINO_ERRORS as error:
            raise BackendError(f"OpenVINO cannot load {path}: {error}") from error
        self._request: Any = compiled.create_infer_request()

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the classifier in the fastest precision that agrees with the FP32 scores.

        The first time that a model is opened on a machine, bfloat16 is compared on the golden
        samples, which takes seconds; the result is cached. INT8 goes ahead of both where it is
        proved and faster here.
        """
        int8, _ = find_int8(model, "openvino")
        if int8 is not None:
            return cls(model, threads=threads, int8=int8)
        return cls.open_unquantized(model, threads=threads)

    @classmethod
    def open_unquantized(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the model's own classifier, in bfloat16 or in FP32."""
        if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            backend = cls(model, precision="bf16", threads=threads)
            parity = cached_parity(backend, model)
            if parity.agrees:
                return backend
            log.info("bfloat16 is not used for this model: %s", "; ".join(parity.faults))
            backend.close()
        return cls(model, threads=threads)

    @property
    def fingerprint(self) -> Fingerprint:
        """OpenVINO's version, the processor, the precision and the number of threads."""
        return Fingerprint(
            runtime="openvino",
            version=openvino.__version__.split("-")[0],  # the rest names a build server
            provider="CPU",
            device=self._device,
            precision=self._precision,
            threads=self._threads,
        )

    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            results = self._request.infer({"pixels": batch})
        except OPENVINO_ERRORS as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        return results["logits"], results["maps"]

    def _release(self) -> None:
        """Free the compiled model."""
        self._request = None
