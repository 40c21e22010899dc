"""ONNX Runtime: the only module that imports it, its exceptions, and how a session is opened."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from hipedge.errors import BackendError

# For a process that imported ONNX Runtime before hipedge could set `ORT_DISABLE_TELEMETRY`.
onnxruntime.disable_telemetry_events()

VERSION: str = onnxruntime.__version__
CPU = "CPUExecutionProvider"
LOG_ERRORS_ONLY = 3

# ONNX Runtime's exceptions have no common base class; its Python wrapper raises the last two.
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(
        value
        for value in vars(onnxruntime_pybind11_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
    RuntimeError,
    ValueError,
)


def open_session(path: Path, *, threads: int, provider: str = CPU) -> onnxruntime.InferenceSession:
    """Open an ONNX file with `threads` intra-op threads on one execution provider.

    Raises `BackendError` where ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take cores from the decoding processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = LOG_ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[provider], enable_fallback=False
        )
    except ORT_ERRORS as error:
        raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
