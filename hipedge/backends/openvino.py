"""The OpenVINO backend: on a CPU, in bfloat16 where the model bears it and that is faster."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.backends.bfloat16_trial import Bfloat16Trial, cached_trial, try_bfloat16
from hipedge.backends.int8_cache import find_int8
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
        self._threads = threads or _cores()
        self._precision = PRECISIONS[precision] if int8 is None else "int8"
        path = int8 or model.classifier
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch at a time
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        except OPENVINO_ERRORS as error:
            raise BackendError(f"OpenVINO cannot load {path}: {error}") from error
        self._request: Any = compiled.create_infer_request()

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the classifier in the fastest precision that agrees with the FP32 scores.

        The first time that a model is opened on a machine, bfloat16 is tried on the golden
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
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return cls(model, threads=threads)
        bfloat16 = _fingerprint("bf16", threads or _cores())
        trial = cached_trial(bfloat16, model, lambda: cls._try_bfloat16(model, threads))
        if trial.obstacle is None:
            return cls(model, precision="bf16", threads=threads)
        log.info("bfloat16 is not used for this model: %s", trial.obstacle)
        return cls(model, threads=threads)

    @classmethod
    def _try_bfloat16(cls, model: ModelFolder, threads: int | None) -> Bfloat16Trial:
        with (
            cls(model, threads=threads) as fp32,
            cls(model, precision="bf16", threads=threads) as bf16,
        ):
            return try_bfloat16(fp32, bf16, model)

    @property
    def fingerprint(self) -> Fingerprint:
        """OpenVINO's version, the processor, the precision and the number of threads."""
        return _fingerprint(self._precision, self._threads)

    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            results = self._request.infer({"pixels": batch})
        except OPENVINO_ERRORS as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        return results["logits"], results["maps"]

    def _release(self) -> None:
        """Free the compiled model."""
        self._request = None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _fingerprint(precision: str, threads: int) -> Fingerprint:
    return Fingerprint(
        runtime="openvino",
        version=openvino.__version__.split("-")[0],  # the rest names a build server
        provider="CPU",
        device=_device(),
        precision=precision,
        threads=threads,
    )


@lru_cache(maxsize=1)
def _device() -> str:
    return str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")).strip()
