"""One runtime a file, the same surface each; and the table of those that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from hipedge.backends.base import Backend, Fingerprint
from hipedge.errors import ConfigError, InstallationError
from hipedge.model.folder import ModelFolder

__all__ = ["BACKENDS", "Backend", "BackendRow", "Fingerprint", "choose", "missing", "open_backend"]


@dataclass(frozen=True)
class BackendRow:
    """Where a backend's class is, what it imports, and how to install that.

    `automatic` says whether `auto` may choose it.
    """

    module: str
    class_name: str
    needs: tuple[str, ...]
    install: str
    automatic: bool = True


# `auto` takes the first that is installed.
BACKENDS: Mapping[str, BackendRow] = {
    "onnxruntime": BackendRow(
        "hipedge.backends.ort", "OnnxRuntimeBackend", ("onnxruntime",), "pip install onnxruntime"
    ),
    "fake": BackendRow("hipedge.backends.fake", "FakeBackend", (), "", automatic=False),
}


def missing(name: str) -> tuple[str, ...]:
    """Return the modules that the backend needs and this installation lacks."""
    return tuple(module for module in _row(name).needs if find_spec(module) is None)


def choose(name: str = "auto") -> tuple[str, str]:
    """Return the backend to use and why: the one asked for, or the first that is installed.

    Raises `ConfigError` for an unknown name and `InstallationError` where nothing can be used.
    """
    if name != "auto":
        if lacks := missing(name):
            raise InstallationError(
                f"backend {name} needs {', '.join(lacks)}: {_row(name).install}"
            )
        return name, "asked for"
    passed_over: list[str] = []
    for candidate, row in BACKENDS.items():
        if not row.automatic:
            continue
        lacks = missing(candidate)
        if not lacks:
            return candidate, "; ".join([*passed_over, "first in order that is installed"])
        passed_over.append(f"{candidate} needs {', '.join(lacks)} ({row.install})")
    raise InstallationError("no backend is installed: " + "; ".join(passed_over))


def open_backend(name: str, model: ModelFolder, *, threads: int | None = None) -> Backend:
    """Open a backend of the table with `model`; `threads` as in `Backend.open`.

    Raises `ConfigError` for an unknown name, `InstallationError` where the backend's runtime is
    not installed, and `BackendError` where it cannot run the model.
    """
    name, _ = choose(name)
    row = _row(name)
    backend_class: type[Backend] = getattr(import_module(row.module), row.class_name)
    return backend_class.open(model, threads=threads)


def _row(name: str) -> BackendRow:
    if name not in BACKENDS:
        raise ConfigError(f"backend {name!r} is unknown: choose auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]
