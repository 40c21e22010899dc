"""Inference backends, one runtime per file with one interface, and the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hipedge.backends.base import Backend, Fingerprint
from hipedge.backends.int8_cache import find_int8
from hipedge.errors import ConfigError, InstallationError
from hipedge.model.folder import ModelFolder

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendRow",
    "Fingerprint",
    "choose",
    "missing",
    "obstacle",
    "open_backend",
    "open_int8",
    "why",
]


@dataclass(frozen=True)
class BackendRow:
    """A backend's class, the packages that it imports, and how to install these.

    `automatic` says whether `auto` may choose it, `on_cpu` whether it computes on the CPU, `int8`
    whether it runs a quantized classifier where that is proved. The
    module of a backend that `needs_gpu` has a function `obstacle`, which says why it cannot run.
    """

    module: str
    class_name: str
    needs: tuple[str, ...]
    install: str
    automatic: bool = True
    needs_gpu: bool = False
    on_cpu: bool = True
    int8: bool = False


# In order of speed: `auto` takes the first that can run.
BACKENDS: Mapping[str, BackendRow] = {
    "tensorrt": BackendRow(
        "hipedge.backends.tensorrt.runtime",
        "TensorRtBackend",
        ("pycuda",),  # and a flavour of TensorRT, which `obstacle` looks for
        "pip install 'hipedge[tensorrt]'",
        needs_gpu=True,
        on_cpu=False,
    ),
    "openvino": BackendRow(
        "hipedge.backends.openvino",
        "OpenVinoBackend",
        ("openvino",),
        "pip install 'hipedge[openvino]'",
        int8=True,
    ),
    "onnxruntime": BackendRow(
        "hipedge.backends.onnxruntime",
        "OnnxRuntimeBackend",
        ("onnxruntime",),
        "pip install onnxruntime",
        int8=True,
    ),
    "fake": BackendRow(
        "hipedge.backends.fake", "FakeBackend", (), "", automatic=False, on_cpu=False
    ),
}


def missing(name: str) -> tuple[str, ...]:
    """Return the modules that the backend needs and that are not installed."""
    return tuple(module for module in _row(name).needs if find_spec(module) is None)


def obstacle(name: str) -> str | None:
    """Return why the backend cannot run here and what to do about it, or None where it can."""
    row = _row(name)
    if absent := missing(name):
        return f"{name} needs {', '.join(absent)}: {row.install}"
    if row.needs_gpu:
        reason: str | None = import_module(row.module).obstacle()
        return None if reason is None else f"{name} cannot run: {reason}"
    return None


def choose(name: str = "auto", *, require_gpu: bool = False) -> tuple[str, str]:
    """Return the name of the backend to use, and the reason for the choice.

    That is the requested backend, or for `auto` the first of `BACKENDS` that can run. With
    `require_gpu` no backend on the CPU is chosen. Raises `ConfigError` for an unknown name, or
    for a backend on the CPU where a GPU is required; `InstallationError` where none can run.
    """
    if name != "auto":
        if require_gpu and not _row(name).needs_gpu:
            raise ConfigError(f"backend {name} runs on the CPU, and a GPU is required")
        if (reason := obstacle(name)) is not None:
            raise InstallationError(f"backend {reason}")
        return name, "requested"
    skipped: list[str] = []
    for candidate, row in BACKENDS.items():
        if not row.automatic or (require_gpu and not row.needs_gpu):
            continue
        reason = obstacle(candidate)
        if reason is None:
            return candidate, "; ".join([*skipped, "first in order that can run"])
        skipped.append(reason)
    raise InstallationError("no backend can run: " + "; ".join(skipped))


def open_backend(
    name: str, model: ModelFolder, *, threads: int | None = None, quantized: bool = True
) -> Backend:
    """Open a backend of the table with `model`; `threads` as in `Backend.open`.

    Without `quantized` it runs the model's own file even where INT8 is proved and faster. Raises
    `ConfigError` for an unknown name, `InstallationError` where the backend's runtime is not
    installed, and `BackendError` where it cannot run the model.
    """
    backend_class = _class_of(name)
    how = backend_class.open if quantized else backend_class.open_unquantized
    return how(model, threads=threads)


def open_int8(name: str, model: ModelFolder, int8: Path, *, threads: int | None = None) -> Backend:
    """Open a backend that can with a quantized classifier of `model`, proved or not.

    Raises as `open_backend` does.
    """
    backend_class: Any = _class_of(name)
    opened: Backend = backend_class(model, threads=threads, int8=int8)
    return opened


def _class_of(name: str) -> type[Backend]:
    name, _ = choose(name)
    row = _row(name)
    found: type[Backend] = getattr(import_module(row.module), row.class_name)
    return found


def why(name: str, reason: str, model: ModelFolder) -> str:
    """Return the reason for a backend, of `choose`, and whether it takes INT8 for `model`."""
    return f"{reason}; {find_int8(model, name)[1]}" if _row(name).int8 else reason


def _row(name: str) -> BackendRow:
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r} is unknown: choose auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]
