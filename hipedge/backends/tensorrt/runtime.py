"""TensorRT through pycuda: an engine that was proved on this GPU, two batches in flight.

Copies and computation of a slot go in order on its own stream; those of two slots overlap.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Fingerprint
from hipedge.backends.parity import ParityError, check
from hipedge.backends.pipelined import Pipelined, Ticket, Timing
from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs, GraphError
from hipedge.backends.tensorrt.engine_cache import (
    Device,
    engines_folder,
    find_engine,
    read_engine,
    record_proof,
)
from hipedge.backends.tensorrt.flavours import Flavour, choose_flavour, loadable, open_log
from hipedge.errors import BackendError, BackendLost, HipedgeError, InstallationError
from hipedge.files import write_atomically
from hipedge.model.card import CLASSIFIER
from hipedge.model.folder import ModelFolder
from hipedge.types import Scores

if TYPE_CHECKING:
    import tensorrt
    from typing_extensions import Self

log = logging.getLogger("hipedge.tensorrt")

INPUT, OUTPUTS = "pixels", ("logits", "maps")

# One batch computes while another is copied; a third would only wait.
SLOTS = 2

# Above this the launches of the kernels take less time than the kernels.
LARGEST_GRAPH_BATCH = 8

# What CUDA says where it cannot start, and what to do about it.
CURES = {
    "libcuda": "install the NVIDIA driver",
    "no CUDA-capable device": "check `nvidia-smi`; a container must be given the GPU",
    "driver version is insufficient": "update the NVIDIA driver: CUDA here is newer",
    "unsupported display driver": "update the NVIDIA driver, or restart after its update",
    "forward compatibility": "update the NVIDIA driver: CUDA here is newer",
}


class TensorRtFault(Exception):
    """A call of TensorRT said no; the log knows why."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU: pycuda's `driver` module, the primary context, and what the device is.

    The primary context is the one that TensorRT uses too, and every other library here.
    """

    cuda: Any
    context: Any
    device: Device
    driver_version: str

    @classmethod
    def open(cls) -> Gpu:
        """Retain the primary context of the first GPU; raise `InstallationError` without one."""
        if find_spec("pycuda") is None:
            raise InstallationError(
                "pycuda is not installed: pip install pycuda, where the CUDA toolkit is"
            )
        try:
            cuda = import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            raise InstallationError(f"CUDA cannot be loaded ({error}): {_cure(error)}") from error
        try:
            cuda.init()
            device = cuda.Device(0)
            found = Device(device.name(), tuple(device.compute_capability()))
            version = cuda.get_driver_version()
            context = device.retain_primary_context()
        except cuda.Error as error:
            raise InstallationError(f"CUDA cannot start ({error}): {_cure(error)}") from error
        return cls(cuda, context, found, f"{version // 1000}.{version % 1000 // 10}")

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current for this thread."""
        self.context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()


def _cure(error: Exception) -> str:
    for symptom, cure in CURES.items():
        if symptom in str(error):
            return cure
    return "check the NVIDIA driver with `nvidia-smi`"


def obstacle() -> str | None:
    """Return why TensorRT cannot run here and what to do about it, or None where it can."""
    try:
        choose_flavour()
        first_gpu()
    except InstallationError as error:
        return str(error)
    return None


def first_gpu() -> Device:
    """Return what the first GPU is, and leave it; raise `InstallationError` without one."""
    gpu = Gpu.open()
    gpu.context.detach()
    return gpu.device


class TensorRtBackend(Pipelined):
    """An engine on a GPU. After any CUDA or TensorRT error it gives no more results.

    `module` is TensorRT's Python module. `kernels` is where TensorRT for RTX keeps what it
    compiled for this GPU, which takes seconds otherwise. `graphs` are those of `cuda-bindings`.
    """

    slots = SLOTS

    def __init__(
        self,
        size_px: int,
        engine: bytes,
        *,
        gpu: Gpu,
        flavour: Flavour,
        module: Any,
        graphs: CudaGraphs | None = None,
        kernels: Path | None = None,
    ) -> None:
        super().__init__(size_px)
        self._gpu, self._flavour, self._module, self._kernels = gpu, flavour, module, kernels
        self._log = open_log(module)
        self._lost: str | None = None
        self._slots: list[_Slot] = []
        self._runtime: tensorrt.Runtime | None = None
        self._engine: tensorrt.ICudaEngine | None = None
        self._runtime_cache: Any = None
        try:
            with gpu.current():
                self._load(engine, graphs)
        # OSError: the file of compiled kernels cannot be read.
        except (gpu.cuda.Error, TensorRtFault, OSError) as error:
            self._free()
            raise BackendError(f"the engine cannot be loaded: {self._why(error)}") from error

    def _load(self, data: bytes, graphs: CudaGraphs | None) -> None:
        runtime: tensorrt.Runtime = self._module.Runtime(self._log)
        engine = runtime.deserialize_cuda_engine(data)
        _require(engine is not None, "deserialize_cuda_engine")
        self._runtime, self._engine = runtime, engine
        self._runtime_cache, settings = self._runtime_config(engine)
        least, _, most = engine.get_tensor_profile_shape(INPUT, 0)
        self._least, self.max_batch = int(least[0]), int(most[0])
        for _ in range(SLOTS):
            context = engine.create_execution_context(*settings)
            _require(context is not None, "create_execution_context")
            self._slots.append(_Slot(self._gpu.cuda, engine, context, self.max_batch, graphs))

    def _runtime_config(self, engine: Any) -> tuple[Any, Sequence[Any]]:
        """Return the cache of compiled kernels and how to create a context, where RTX has both."""
        if not self._flavour.has_runtime_config:
            return None, ()
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = self._module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        cache = config.create_runtime_cache()
        if self._kernels is not None and self._kernels.exists():
            cache.deserialize(self._kernels.read_bytes())
        config.set_runtime_cache(cache)
        return cache, (config,)

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the cached engine of `model` for this GPU; `threads` is of no use here.

        An engine that was not proved on this GPU, and for this very model, is held to the golden
        scores first.

        Raises `InstallationError` without a GPU, driver, pycuda or TensorRT; `BackendError`,
        with the cure, where there is no engine or a stale one; `ParityError` where it disagrees.
        """
        choose_flavour()
        gpu = Gpu.open()
        try:
            flavour, module, path = find_engine_of(model, gpu.device)
            data, sidecar = read_engine(path)
        except HipedgeError:
            gpu.context.detach()
            raise
        backend = cls(
            model.card.input.size_px,
            data,
            gpu=gpu,
            flavour=flavour,
            module=module,
            graphs=None if flavour.has_runtime_config else CudaGraphs.if_installed(),
            kernels=path.with_name(path.name + ".kernels"),
        )
        if str(gpu.device) not in sidecar.devices_verified(model.model_id):
            try:
                prove(backend, model, path, sidecar.engine_sha256)
            except BaseException:
                backend.close()
                raise
        return backend

    @property
    def device(self) -> Device:
        """The GPU that this runs on."""
        return self._gpu.device

    @property
    def uses_graphs(self) -> bool:
        """Whether small batches run as CUDA graphs; not once one could not be captured."""
        return self._flavour.has_runtime_config or (
            bool(self._slots) and all(slot.graphs is not None for slot in self._slots)
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """TensorRT's flavour and version, the driver's CUDA version and the GPU."""
        return Fingerprint(
            runtime="tensorrt" if self._flavour.name == "tensorrt" else "tensorrt-rtx",
            version=self._module.__version__,
            provider=f"CUDA {self._gpu.driver_version}",
            device=str(self._gpu.device),
            precision="fp16",
        )

    def submit(self, batch: NDArray[np.uint8]) -> Ticket:
        """Start a batch on a free slot; see `Pipelined.submit`."""
        self._check_open()
        self._check_batch(batch)
        if len(batch) > self.max_batch:
            raise BackendError(f"this engine takes at most {self.max_batch} samples at a time")
        return self._start(batch)

    def collect_timed(self, ticket: Ticket) -> tuple[tuple[Scores, ...], Timing]:
        """Wait for a batch; see `Pipelined.collect_timed`."""
        self._check_open()
        logits, maps, timing = self._finish(ticket)
        self._check_scores(ticket.size, logits, maps)
        scores = (Scores(logits[i], maps[i]) for i in range(ticket.size))
        return tuple(scores), timing

    def _infer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        tickets = deque[Ticket]()
        parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for start in range(0, len(batch), self.max_batch):
            if len(tickets) == SLOTS:
                parts.append(self._finish(tickets.popleft())[:2])
            tickets.append(self._start(batch[start : start + self.max_batch]))
        parts.extend(self._finish(ticket)[:2] for ticket in tickets)
        logits, maps = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(maps)

    def _start(self, batch: NDArray[np.uint8]) -> Ticket:
        free = next((i for i, slot in enumerate(self._slots) if not slot.in_flight), None)
        if free is None:
            raise BackendError(f"all {SLOTS} slots are in flight: collect a batch first")
        with self._on_gpu():
            return Ticket(free, self._slots[free].start(batch, self._least), len(batch))

    def _finish(self, ticket: Ticket) -> tuple[NDArray[np.float32], NDArray[np.float32], Timing]:
        slot = self._slots[ticket.slot]
        if not slot.in_flight or slot.number != ticket.number:
            raise BackendError("this batch was collected before")
        with self._on_gpu():
            return slot.finish(ticket.size)

    def _check_open(self) -> None:
        if not self._is_open:
            raise BackendError("this backend is closed: open it again")

    @contextmanager
    def _on_gpu(self) -> Iterator[None]:
        """Run with the context current; after an error there is no next time.

        CUDA's errors stay: every later call on a broken context fails too, or worse, does not.
        """
        if self._lost is not None:
            raise BackendLost(self._lost)
        try:
            with self._gpu.current():
                yield
        except (self._gpu.cuda.Error, TensorRtFault, GraphError) as error:
            self._lost = (
                f"the GPU failed ({self._why(error)}): no result of this batch is kept;"
                " start the process again"
            )
            raise BackendLost(self._lost) from error

    def _why(self, error: Exception) -> str:
        """Return the error, and what TensorRT logged of late."""
        return "; ".join([str(error), *self._log.errors[-2:]])

    def _release(self) -> None:
        """Keep what RTX compiled, then give everything back."""
        if self._lost is None:
            self._save_kernels()
        self._free()

    def _save_kernels(self) -> None:
        if self._runtime_cache is None or self._kernels is None:
            return
        try:
            write_atomically(self._kernels, bytes(self._runtime_cache.serialize()))
        except OSError as error:
            log.warning("RTX will compile again: %s: %s", self._kernels, error.strerror)

    def _free(self) -> None:
        """Free the memory and release the context; a broken one is freed as the process ends."""
        try:
            with self._gpu.current():
                for slot in self._slots:
                    slot.free()
        except (self._gpu.cuda.Error, GraphError) as error:
            log.warning("the GPU's memory is freed by the end of the process: %s", error)
        finally:
            self._slots.clear()
            self._engine = self._runtime = self._runtime_cache = None
            self._gpu.context.detach()


class _Slot:
    """One batch in flight: a stream, an execution context, and buffers on both sides."""

    def __init__(
        self,
        cuda: Any,
        engine: tensorrt.ICudaEngine,
        context: tensorrt.IExecutionContext,
        max_batch: int,
        graphs: CudaGraphs | None,
    ) -> None:
        self._cuda, self._context, self.graphs = cuda, context, graphs
        self._stream = cuda.Stream()
        self._events = [cuda.Event() for _ in range(4)]
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, Any] = {}
        self._batch_size: int | None = None
        self._graph: Any = None
        self._enqueue_ms = 0.0
        self.in_flight = False
        self.number = 0
        profile_is_set = context.set_optimization_profile_async(0, self._stream.handle)
        _require(profile_is_set, "set_optimization_profile_async")
        for name in (INPUT, *OUTPUTS):
            dtype = np.uint8 if name == INPUT else np.float32
            whole: Any = engine.get_tensor_shape(name)
            shape = (max_batch, *tuple(whole)[1:])
            self._host[name] = cuda.pagelocked_empty(shape, dtype)
            self._device[name] = cuda.mem_alloc(prod(shape) * np.dtype(dtype).itemsize)
            _require(
                context.set_tensor_address(name, int(self._device[name])), "set_tensor_address"
            )

    def start(self, batch: NDArray[np.uint8], least: int) -> int:
        """Put a batch's copies and computation on the stream; return its number.

        A batch smaller than the engine takes is filled up with what lay in the buffer before.
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
        """Enqueue the network, or launch its graph once a small batch size has come twice.

        A graph holds one batch size, and TensorRT sets up for a size as it first runs.
        """
        stream = self._stream.handle
        if size != self._batch_size:
            self._drop_graph()
            shape = (size, *self._host[INPUT].shape[1:])
            _require(self._context.set_input_shape(INPUT, shape), "set_input_shape")
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
        _require(self._context.execute_async_v3(self._stream.handle), "execute_async_v3")

    def _capture(self, graphs: CudaGraphs) -> None:
        try:
            self._graph = graphs.capture(self._stream.handle, self._enqueue)
        except (GraphError, TensorRtFault) as error:
            log.warning("small batches run without CUDA graphs: %s", error)
            self.graphs = None

    def finish(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], Timing]:
        """Wait for the batch; return copies of its logits and maps, and what it took."""
        self._events[3].synchronize()
        began, copied_in, computed, copied_out = self._events
        timing = Timing(
            enqueue_ms=self._enqueue_ms,
            h2d_ms=copied_in.time_since(began),
            compute_ms=computed.time_since(copied_in),
            d2h_ms=copied_out.time_since(computed),
        )
        logits, maps = (self._host[name][:size].copy() for name in OUTPUTS)
        self.in_flight = False
        return logits, maps, timing

    def free(self) -> None:
        """Free the buffers on both sides, and the graph."""
        self._drop_graph()
        for name in self._device:
            self._device[name].free()
            self._host[name].base.free()  # type: ignore[union-attr]  # pycuda's allocation

    def _drop_graph(self) -> None:
        if self.graphs is not None and self._graph is not None:
            self.graphs.free(self._graph)
        self._graph = None


def _require(went_well: bool, call: str) -> None:
    if not went_well:
        raise TensorRtFault(f"{call} failed")


def find_engine_of(model: ModelFolder, device: Device) -> tuple[Flavour, Any, Path]:
    """Return the first flavour here that has an engine of `model` for `device`, and that."""
    refusals: list[BackendError] = []
    for flavour, module in loadable():
        try:
            path = find_engine(
                engines_folder(),
                onnx_sha256=model.card.files[CLASSIFIER],
                flavour=flavour.name,
                version=module.__version__,
                device=device,
                cure=f"run `hipedge export engine {model.path} --flavour {flavour.name}`",
            )
            return flavour, module, path
        except BackendError as error:
            refusals.append(error)
    raise refusals[0]


def prove(backend: TensorRtBackend, model: ModelFolder, path: Path, engine_sha256: str) -> None:
    """Hold an engine to the golden scores on this GPU, and note in its JSON that it agreed.

    Raises `ParityError` where it does not.
    """
    parity = check(backend, model)
    if not parity.agrees:
        raise ParityError(
            f"{path} is not used: on {backend.device} it disagrees with the model"
            f" ({'; '.join(parity.faults)}): build it again with"
            f" `hipedge export engine {model.path} --force`, or take --backend onnxruntime",
            backend.fingerprint,
            parity,
        )
    try:
        record_proof(path, engine_sha256, backend.device, model.model_id, asdict(parity))
    except OSError as error:
        log.warning("the engine is proved at each start: %s: %s", path, error.strerror)
