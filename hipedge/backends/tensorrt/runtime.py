"""The TensorRT backend: an engine that was proved on this GPU, with two batches in flight."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Fingerprint
from hipedge.backends.pipelined import Pipelined, Ticket, Timing
from hipedge.backends.tensorrt.calls import TensorRtError, construct, keep_for_ever, require
from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs, GraphError
from hipedge.backends.tensorrt.engine_cache import Device, kernels_of, read_engine
from hipedge.backends.tensorrt.flavours import Flavour, choose_flavour, open_log
from hipedge.backends.tensorrt.gpu import Gpu, first_gpu
from hipedge.backends.tensorrt.lookup import find_engine_of
from hipedge.backends.tensorrt.proof import prove
from hipedge.backends.tensorrt.slot import INPUT, Slot
from hipedge.errors import BackendError, BackendLost, InstallationError
from hipedge.files import write_atomically
from hipedge.model.folder import ModelFolder
from hipedge.types import Scores

if TYPE_CHECKING:
    import tensorrt
    from typing_extensions import Self

log = logging.getLogger("hipedge.tensorrt")

# One batch is computed while another is copied; a third would only wait.
SLOTS = 2


def obstacle() -> str | None:
    """Return why TensorRT cannot run here and what to do about it, or None where it can."""
    try:
        choose_flavour()
        first_gpu()
    except InstallationError as error:
        return str(error)
    return None


class TensorRtBackend(Pipelined):
    """An engine on a GPU. After any CUDA or TensorRT error it returns no further results.

    `module` is TensorRT's Python module. `kernels` is the file in which TensorRT for RTX keeps the
    kernels that it compiled for this GPU, which otherwise takes seconds. `graphs` captures CUDA
    graphs by `cuda-bindings`. Raises `BackendError` where the engine cannot be loaded.
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
        self._slots: list[Slot] = []
        self._runtime: tensorrt.Runtime | None = None
        self._engine: tensorrt.ICudaEngine | None = None
        self._runtime_cache: Any = None
        try:
            with gpu.current():
                self._load(engine, graphs)
        # OSError: the file of compiled kernels cannot be read.
        except (gpu.cuda.Error, TensorRtError, OSError) as error:
            # Its frames refer to the same objects, and so would keep them from being destroyed.
            traceback.clear_frames(error.__traceback__)
            self._free()
            raise BackendError(f"the engine cannot be loaded: {self._why(error)}") from error
        except BaseException as error:  # such as an interrupt
            traceback.clear_frames(error.__traceback__)
            self._free()
            raise

    def _load(self, data: bytes, graphs: CudaGraphs | None) -> None:
        # Objects of TensorRT become attributes at once: after an error `_free` destroys them, with
        # the context that they need for it.
        runtime: tensorrt.Runtime = construct(self._module.Runtime, self._log)
        self._runtime = runtime
        engine = self._engine = runtime.deserialize_cuda_engine(data)
        require(engine is not None, "deserialize_cuda_engine")
        settings = self._runtime_config(engine)
        least, _, most = engine.get_tensor_profile_shape(INPUT, 0)
        self._least, self.max_batch = int(least[0]), int(most[0])
        for _ in range(SLOTS):
            context = engine.create_execution_context(*settings)
            require(context is not None, "create_execution_context")
            self._slots.append(Slot(self._gpu.cuda, context, graphs))
            self._slots[-1].allocate(engine, self.max_batch)

    def _runtime_config(self, engine: Any) -> Sequence[Any]:
        """Open RTX's cache of compiled kernels; return the arguments to create a context with."""
        if not self._flavour.has_runtime_config:
            return ()
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = self._module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # By default RTX specialises kernels to a batch size in the background, after its first
        # batches: later results would come from kernels that the proof has not seen.
        specialization = self._module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = specialization.NONE
        self._runtime_cache = config.create_runtime_cache()
        if self._kernels is not None and self._kernels.exists():
            self._runtime_cache.deserialize(self._kernels.read_bytes())
        config.set_runtime_cache(self._runtime_cache)
        return (config,)

    @classmethod
    def open(cls, model: ModelFolder, *, threads: int | None = None) -> Self:
        """Load the cached engine of `model` for this GPU; `threads` is ignored.

        An engine that was not yet proved on this GPU for this very model is first compared with
        the golden scores; so are kernels that RTX has to compile, which are saved afterwards.

        Raises `InstallationError` without a GPU, driver, pycuda or TensorRT; `BackendError`,
        with the cure, where there is no engine or a stale one; `ParityError` where it disagrees.
        """
        choose_flavour()
        gpu = Gpu.open()
        try:
            flavour, module, path = find_engine_of(model, gpu.device)
            data, sidecar = read_engine(path)
        except BaseException:
            gpu.release()
            raise
        kernels = kernels_of(path, gpu.device)
        is_proved = str(gpu.device) in sidecar.devices_verified(model.model_id)
        must_compile = flavour.has_runtime_config and not kernels.exists()
        backend = cls(
            model.card.input.size_px,
            data,
            gpu=gpu,
            flavour=flavour,
            module=module,
            graphs=None if flavour.has_runtime_config else CudaGraphs.if_installed(),
            kernels=kernels,
        )
        if must_compile or not is_proved:
            try:
                prove(backend, model, path, sidecar.engine_sha256)
                # Now, since `watch` ends the process of the backend without closing it.
                backend.save_kernels()
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
        """Whether small batches run as CUDA graphs; False once a capture has failed."""
        return self._flavour.has_runtime_config or (
            bool(self._slots) and all(slot.graphs is not None for slot in self._slots)
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """TensorRT's flavour and version, the driver's CUDA version and the GPU."""
        flavour = self._flavour.name
        return Fingerprint(
            runtime="tensorrt" if flavour == "tensorrt" else f"tensorrt-{flavour}",
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
        """Run with the context current; after an error raise `BackendLost` for ever.

        CUDA's errors are sticky: a later call on a broken context fails too, or silently succeeds.
        """
        if self._lost is not None:
            raise BackendLost(self._lost)
        try:
            with self._gpu.current():
                yield
        except (self._gpu.cuda.Error, TensorRtError, GraphError) as error:
            self._lost = (
                f"the GPU failed ({self._why(error)}): no result of this batch is kept;"
                " start the process again"
            )
            raise BackendLost(self._lost) from error

    def _why(self, error: Exception) -> str:
        """Return the error, and TensorRT's most recent log messages of errors."""
        return "; ".join([str(error), *self._log.errors[-2:]])

    def _release(self) -> None:
        """Save the kernels that RTX compiled, then free everything."""
        try:
            self.save_kernels()
        except BackendLost as error:
            log.warning("RTX will compile again: %s", error)
        self._free()

    def save_kernels(self) -> None:
        """Write the kernels that RTX has compiled; a failure to do so is only logged.

        Does nothing for a flavour that compiles none. Raises `BackendLost` where the GPU fails.
        """
        if self._runtime_cache is None or self._kernels is None:
            return
        with self._on_gpu():
            kernels = self._runtime_cache.serialize()
        if kernels is None:
            log.warning("RTX will compile again: it returned no kernels")
            return
        try:
            write_atomically(self._kernels, bytes(kernels))
        except OSError as error:
            log.warning("RTX will compile again: %s: %s", self._kernels, error.strerror)

    def _free(self) -> None:
        """Free the memory and release the context; those of a broken GPU are kept for ever."""
        if self._lost is None:
            try:
                with self._gpu.current():
                    for slot in self._slots:
                        slot.free()
                    self._slots.clear()
                    self._engine = self._runtime = self._runtime_cache = None
                self._gpu.release()
                return
            except (self._gpu.cuda.Error, GraphError) as error:
                self._lost = str(error)
        log.warning("the GPU's memory is freed by the end of the process: %s", self._lost)
        held = (self._slots, self._engine, self._runtime, self._runtime_cache, self._gpu)
        keep_for_ever(held)
