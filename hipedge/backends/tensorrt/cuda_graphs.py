"""CUDA graphs through `cuda-bindings`: a small batch costs one launch. pycuda cannot capture.

The caller must have made the context of the stream current.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class GraphError(Exception):
    """A call of CUDA's graph API failed."""


class CudaGraphs:
    """Captures and launches graphs; `runtime` is the module `cuda.bindings.runtime`."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    @classmethod
    def if_installed(cls) -> CudaGraphs | None:
        """Return an instance, or None where `cuda-bindings` is not installed."""
        if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
            return None
        return cls(import_module("cuda.bindings.runtime"))

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """Return the executable graph of the work that `enqueue` puts on `stream`.

        Raises `GraphError` where it cannot be captured; the stream can then still be used.
        """
        cuda = self._runtime
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(cuda.cudaStreamBeginCapture, stream, mode)
        try:
            enqueue()
        except BaseException:
            # Ends the capture too. Of a sequence that is incomplete CUDA may still make a graph.
            error, graph = cuda.cudaStreamEndCapture(stream)
            if error == cuda.cudaError_t.cudaSuccess:
                self._call(cuda.cudaGraphDestroy, graph)
            raise
        graph = self._call(cuda.cudaStreamEndCapture, stream)
        try:
            return self._call(cuda.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(cuda.cudaGraphDestroy, graph)

    def launch(self, graph: Any, stream: int) -> None:
        """Enqueue a captured graph on `stream`."""
        self._call(self._runtime.cudaGraphLaunch, graph, stream)

    def free(self, graph: Any) -> None:
        """Destroy an executable graph."""
        self._call(self._runtime.cudaGraphExecDestroy, graph)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call CUDA and check its status; return its only other result, or None."""
        error, *results = function(*arguments)
        self._check(error, function.__name__)
        return results[0] if results else None

    def _check(self, error: Any, name: str) -> None:
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise GraphError(f"{name} failed: {error.name}")
