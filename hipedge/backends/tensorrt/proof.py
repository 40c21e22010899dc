"""An engine is used on a device only after it has agreed there with the model's FP32 scores."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hipedge.backends.parity import ParityError, check_parity
from hipedge.backends.tensorrt.engine_cache import record_proof
from hipedge.model.folder import ModelFolder

if TYPE_CHECKING:
    from hipedge.backends.tensorrt.runtime import TensorRtBackend

log = logging.getLogger("hipedge.tensorrt")


def prove(backend: TensorRtBackend, model: ModelFolder, path: Path, engine_sha256: str) -> None:
    """Compare an engine's scores with the golden ones on this GPU, and record that they agree.

    `path` is the engine, beside whose JSON the report is written, and `engine_sha256` the hash of
    the engine that `backend` runs. Raises `ParityError` where the scores disagree.
    """
    parity = check_parity(backend, model)
    if not parity.agrees:
        raise ParityError(
            f"{path} is not used: on {backend.device} it disagrees with the model"
            f" ({'; '.join(parity.faults)}): build it again with"
            f" `hipedge export engine {model.path} --force`, or use --backend onnxruntime",
            backend.fingerprint,
            parity,
        )
    try:
        record_proof(path, engine_sha256, backend.device, model.model_id, asdict(parity))
    except OSError as error:
        log.warning("the parity check is repeated at each start: %s: %s", path, error.strerror)
