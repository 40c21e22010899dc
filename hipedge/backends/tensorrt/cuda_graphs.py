"""CUDA graphs through `cuda-bindings`, since pycuda cannot capture: a small batch costs one launch.

The caller has made the stream's context current.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class GraphError(Exception):
    """A call of CUDA's graph API failed."""


class CudaGraphs:
    """Capture and launch; `runtime` is the module `cuda.bindings.runtime`."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    @classmethod
    def if_installed(cls) -> CudaGraphs | None:
        """Return the graphs of this installation, or None where it has no `cuda-bindings`."""
        if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
            return None
        return cls(import_module("cuda.bindings.runtime"))

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """Return the executable graph of what `enqueue` puts on `stream`.

        Raises `GraphError` where that cannot be captured; the stream is then as before.
        """
        cuda = self._runtime
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(cuda.cudaStreamBeginCapture, stream, mode)
        try:
            enqueue()
        finally:
            error, graph = cuda.cudaStreamEndCapture(stream)
        self._check(error, "cudaStreamEndCapture")
        try:
            return self._call(cuda.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(cuda.cudaGraphDestroy, graph)

    def launch(self, graph: Any, stream: int) -> None:
        """Put a captured graph on `stream`."""
        self._call(self._runtime.cudaGraphLaunch, graph, stream)

    def free(self, graph: Any) -> None:
        """Destroy an executable graph."""
        self._call(self._runtime.cudaGraphExecDestroy, graph)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call CUDA; return its only result, or None where it has none."""
        error, *results = function(*arguments)
        self._check(error, function.__name__)
        return results[0] if results else None

    def _check(self, error: Any, name: str) -> None:
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise GraphError(f"{name} failed: {error.name}")
