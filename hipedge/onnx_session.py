"""ONNX Runtime: the only module that imports it, its exceptions, and how a session is opened."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from hipedge.errors import BackendError

log = logging.getLogger("hipedge.onnxruntime")

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
    return _load(path, _options(threads), provider)


def open_half_precision_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open a file in half precision, which ONNX Runtime computes in single precision on a CPU.

    ONNX Runtime inserts the conversions after it has folded constants, so that the limits of a
    Clip are no constants to it and it does not fuse the Clip into the convolution ahead. It does
    where it reads the graph with the conversions as a file: that takes a temporary one, and the
    opening 0.03 s more. Where none can be written, the session is as correct and slower.

    Raises `BackendError` as `open_session` does.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder, path.name)
            options = _options(threads)
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(converted)
            _load(path, options, CPU)
            return open_session(converted, threads=threads)
    except (OSError, BackendError) as error:
        log.warning("%s is opened as it is, and runs more slowly: %s", path, error)
    return open_session(path, threads=threads)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take cores from the decoding processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = LOG_ERRORS_ONLY
    return options


def _load(
    path: Path, options: onnxruntime.SessionOptions, provider: str
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[provider], enable_fallback=False
        )
    except ORT_ERRORS as error:
        raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
