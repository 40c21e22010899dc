"""A stand-in for TensorRT's runtime, which computes the network with torch on the caller's stream.

For a GPU for which there is no TensorRT: pycuda, streams, events, pinned buffers, CUDA graphs and
half precision are then those of the product, and the kernels torch's. It has the names of TensorRT
that the backend uses; an engine is the bytes of an ONNX file.
"""

# ruff: noqa: D101, D102  # TensorRT documents them

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_acceptance.torch_onnx import TorchGraph

__version__ = f"torch-{torch.__version__}"

# Least, best and most samples of a batch.
PROFILE = (1, 8, 32)
TYPES = {torch.uint8: "|u1", torch.float32: "<f4"}
DEVICE = "cuda"


class ILogger:
    """The base class of the backend's log, to which this engine writes nothing."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _Memory:
    """Memory of the GPU at an address, by the CUDA array interface."""

    def __init__(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": tuple(shape),
            "typestr": TYPES[dtype],
            "version": 3,
        }


def tensor_at(address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor that uses the GPU's memory at an address."""
    return torch.as_tensor(_Memory(address, shape, dtype), device=DEVICE)


@contextmanager
def on_stream(handle: int) -> Iterator[None]:
    """Let torch put its work on the CUDA stream with this handle."""
    with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
        yield


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        # As in the engines that hipedge builds.
        torch.backends.cudnn.allow_tf32 = False

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine:
        return ICudaEngine(TorchGraph(data, DEVICE))


class ICudaEngine:
    def __init__(self, graph: TorchGraph) -> None:
        self._graph = graph

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(size, *self._graph.shapes[name]) for size in PROFILE]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self._graph.shapes[name])

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self._graph)


class IExecutionContext:
    def __init__(self, graph: TorchGraph) -> None:
        self._graph = graph
        self._addresses: dict[str, int] = {}
        self._shape: Sequence[int] = ()

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        return index == 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._shape = shape
        return True

    def execute_async_v3(self, handle: int) -> bool:
        with on_stream(handle):
            pixels = tensor_at(self._addresses["pixels"], self._shape, torch.uint8)
            results: dict[str, Any] = dict(
                zip(("logits", "maps"), self._graph(pixels), strict=True)
            )
            for name, values in results.items():
                tensor_at(self._addresses[name], values.shape, torch.float32).copy_(values)
        return True
