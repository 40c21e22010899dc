"""One batch in flight: a CUDA stream, an execution context, and buffers on host and device."""

from __future__ import annotations

import logging
import time
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.pipelined import Timing
from hipedge.backends.tensorrt.calls import TensorRtError, require
from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs, GraphError

if TYPE_CHECKING:
    import tensorrt

log = logging.getLogger("hipedge.tensorrt")

INPUT, OUTPUTS = "pixels", ("logits", "maps")

# With larger batches the kernels take longer than their launches: a graph saves nothing.
LARGEST_GRAPH_BATCH = 8


class Slot:
    """The stream, execution context and buffers of one batch of at most `max_batch` samples.

    Copies and computation of a batch are ordered on the slot's own stream. `cuda` is pycuda's
    `driver` module, whose context the caller makes current for every method.
    """

    def __init__(
        self, cuda: Any, context: tensorrt.IExecutionContext, graphs: CudaGraphs | None
    ) -> None:
        self._cuda, self._context, self.graphs = cuda, context, graphs
        self._stream: Any = None
        self._events: list[Any] = []
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, Any] = {}
        self._batch_size: int | None = None
        self._graph: Any = None
        self._enqueue_ms = 0.0
        self.in_flight = False
        self.number = 0

    def allocate(self, engine: tensorrt.ICudaEngine, max_batch: int) -> None:
        """Allocate everything on host and device; `free` frees it, also after a failure."""
        cuda, context = self._cuda, self._context
        self._stream = cuda.Stream()
        for _ in range(4):
            # By default a thread that waits for an event spins.
            self._events.append(cuda.Event(cuda.event_flags.BLOCKING_SYNC))
        profile_is_set = context.set_optimization_profile_async(0, self._stream.handle)
        require(profile_is_set, "set_optimization_profile_async")
        for name in (INPUT, *OUTPUTS):
            dtype = np.uint8 if name == INPUT else np.float32
            engine_shape: Any = engine.get_tensor_shape(name)
            shape = (max_batch, *tuple(engine_shape)[1:])
            self._host[name] = cuda.pagelocked_empty(shape, dtype)
            self._device[name] = cuda.mem_alloc(prod(shape) * np.dtype(dtype).itemsize)
            address_is_set = context.set_tensor_address(name, int(self._device[name]))
            require(address_is_set, "set_tensor_address")

    def start(self, batch: NDArray[np.uint8], least: int) -> int:
        """Enqueue a batch's copies and computation on the stream; return its number in this slot.

        A batch smaller than `least`, the engine's smallest, is padded with whatever the buffer
        held before.
        """
        size = max(len(batch), least)
        pixels = self._host[INPUT]
        pixels[: len(batch)] = batch
        copied_in, computed = self._events[1:3]
        self._events[0].record(self._stream)
        self._cuda.memcpy_htod_async(self._device[INPUT], pixels[:size], self._stream)
        copied_in.record(self._stream)
        start = time.perf_counter()
        self._compute(size)
        self._enqueue_ms = (time.perf_counter() - start) * 1e3
        computed.record(self._stream)
        for name in OUTPUTS:
            self._cuda.memcpy_dtoh_async(self._host[name][:size], self._device[name], self._stream)
        self._events[3].record(self._stream)
        self.in_flight = True
        self.number += 1
        return self.number

    def _compute(self, size: int) -> None:
        """Enqueue the network, or launch its graph from the second batch of a small size on.

        A graph is valid for one batch size, and TensorRT allocates for a size as it first runs.
        """
        stream = self._stream.handle
        if size != self._batch_size:
            self._drop_graph()
            shape = (size, *self._host[INPUT].shape[1:])
            require(self._context.set_input_shape(INPUT, shape), "set_input_shape")
            self._batch_size = size
            self._enqueue()
            return
        if self.graphs is not None and size <= LARGEST_GRAPH_BATCH and self._graph is None:
            self._capture(self.graphs)
        if self.graphs is not None and self._graph is not None:
            self.graphs.launch(self._graph, stream)
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        require(self._context.execute_async_v3(self._stream.handle), "execute_async_v3")

    def _capture(self, graphs: CudaGraphs) -> None:
        try:
            self._graph = graphs.capture(self._stream.handle, self._enqueue)
        except (GraphError, TensorRtError) as error:
            # As text: a log may keep the error, and with its frames this slot's events.
            log.warning("small batches run without CUDA graphs: %s", str(error))
            self.graphs = None

    def finish(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], Timing]:
        """Wait for the batch; return copies of its logits and maps, and its timing."""
        started, copied_in, computed, copied_out = self._events
        copied_out.synchronize()
        timing = Timing(
            enqueue_ms=self._enqueue_ms,
            h2d_ms=copied_in.time_since(started),
            compute_ms=computed.time_since(copied_in),
            d2h_ms=copied_out.time_since(computed),
        )
        logits, maps = (self._host[name][:size].copy() for name in OUTPUTS)
        self.in_flight = False
        return logits, maps, timing

    def free(self) -> None:
        """Wait for what is on the stream, then free everything.

        What the GPU still has to copy would otherwise be written into memory of others.
        """
        if self._stream is not None:
            self._stream.synchronize()
        self._drop_graph()
        for device in self._device.values():
            device.free()
        for host in self._host.values():
            host.base.free()  # type: ignore[union-attr]  # pycuda's allocation
        self._device.clear()
        self._host.clear()
        # These have no call that frees them: they are freed as the last reference goes.
        self._events.clear()
        del self._stream, self._context

    def _drop_graph(self) -> None:
        if self.graphs is not None and self._graph is not None:
            self.graphs.free(self._graph)
        self._graph = None
