"""A recording double of pycuda's driver, TensorRT and cuda-bindings.

What is put on a stream runs when somebody waits for it, and not before: a result that is read too
early, or a buffer that is written too early, shows in the scores.
"""

import itertools
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np

from hipedge.backends.fake import FakeBackend

MAPS = (8, 8, 8)


class CudaError(Exception):
    """Stands for `pycuda.driver.Error`."""


class Pinned:
    """The allocation behind a page-locked array."""

    def __init__(self, double, shape, dtype):
        self.double, self.array = double, np.zeros(shape, dtype)
        self.__array_interface__ = self.array.__array_interface__

    def free(self):
        self.double.call("free_host")
        self.double.live -= 1


class Memory:
    """Device memory, by its address."""

    def __init__(self, double, nbytes, address):
        self.double, self.data, self.address = double, np.zeros(nbytes, np.uint8), address

    def __int__(self):
        return self.address

    def free(self):
        self.double.call("free_device")
        self.double.live -= 1


class Stream:
    def __init__(self, double):
        self.double, self.handle, self.queue = double, next(double.numbers), []
        double.streams[self.handle] = self
        double.call("Stream")

    def put(self, work):
        (self.double.capturing or self.queue).append(work)

    def run_to(self, mark):
        while mark in self.queue:
            self.queue.pop(0)()


class Event:
    def __init__(self, double):
        self.double, self.stream, self.mark = double, None, None
        double.call("Event")

    def record(self, stream):
        self.double.call("record", stream.handle)
        self.stream, self.mark = stream, lambda: None
        stream.put(self.mark)

    def synchronize(self):
        self.double.call("synchronize", self.stream.handle)
        self.stream.run_to(self.mark)

    def time_since(self, other):
        self.double.call("time_since")
        return 0.25


class Context:
    """The execution context of an engine; `refuses` is the name of a call that says no."""

    def __init__(self, double, number):
        self.double, self.number, self.addresses, self.shape = double, number, {}, None

    def set_optimization_profile_async(self, index, handle):
        return self.double.ask("set_optimization_profile_async", handle)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return self.double.ask("set_tensor_address", name)

    def set_input_shape(self, name, shape):
        self.shape = shape
        return self.double.ask("set_input_shape", shape[0])

    def execute_async_v3(self, handle):
        shape, memory = self.shape, self.double.memory
        addresses = dict(self.addresses)

        def compute():
            pixels = memory[addresses["pixels"]].data[: np.prod(shape)].reshape(shape)
            for name, values in zip(("logits", "maps"), self.double.network(pixels), strict=True):
                raw = np.ascontiguousarray(values).view(np.uint8).ravel()
                memory[addresses[name]].data[: raw.size] = raw

        went_well = self.double.ask("execute_async_v3", self.number, handle)
        if went_well:
            self.double.streams[handle].put(compute)
        return went_well


class Engine:
    def __init__(self, double):
        self.double = double

    def get_tensor_profile_shape(self, name, index):
        return tuple((n, 1, self.double.size_px, self.double.size_px) for n in self.double.profile)

    def get_tensor_shape(self, name):
        sizes = {"pixels": (1, *[self.double.size_px] * 2), "logits": (8,)}
        return (-1, *sizes.get(name, self.double.maps))

    def create_execution_context(self, *settings):
        number = next(self.double.numbers)
        went_well = self.double.ask("create_execution_context", *map(type, settings))
        return Context(self.double, number) if went_well else None

    def create_runtime_config(self):
        return RuntimeConfig(self.double)


class RuntimeConfig:
    def __init__(self, double):
        self.double, self.cuda_graph_strategy = double, None
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"

    def create_runtime_cache(self):
        self.double.runtime_config = self
        return SimpleNamespace(
            deserialize=lambda data: self.double.ask("deserialize_kernels", data),
            serialize=lambda: b"compiled kernels",
        )

    def set_runtime_cache(self, cache):
        return True


def fake_scores(backend, pixels):
    """Return the logits (N, K) and the maps (N, K, h, w) of a backend for pixels (N, 1, S, S)."""
    scores = backend.infer(np.ascontiguousarray(pixels))
    return np.stack([s.logits for s in scores]), np.stack([s.maps for s in scores])


class Double:
    """One machine with one GPU. `fail_at` is the number of the call, from now, that fails."""

    def __init__(self, size_px=64, profile=(1, 4, 8), network=None, maps=MAPS):
        self.size_px, self.profile, self.maps = size_px, profile, maps
        self.network = network or partial(fake_scores, FakeBackend(size_px))
        self.calls, self.fail_at, self.live, self.capturing = [], None, 0, None
        self.retained = 0
        self.numbers, self.streams, self.memory = itertools.count(1), {}, {}
        self.runtime_config, self.gpu_name, self.capability = None, "Test GPU", (8, 9)
        self.cuda = self._cuda()
        self.module = self._tensorrt()

    def call(self, name, *details):
        """Record a call of CUDA, and fail where it is that one's turn."""
        self.calls.append((name, *details))
        if self._is_turn():
            raise CudaError(f"{name} failed: an illegal memory access was encountered")

    def ask(self, name, *details):
        """Record a call of TensorRT, and say no where it is that one's turn."""
        self.calls.append((name, *details))
        return not self._is_turn()

    def _is_turn(self):
        if self.fail_at is None:
            return False
        self.fail_at -= 1
        return self.fail_at < 0  # a broken context stays broken

    def names(self, since=0):
        return [name for name, *_ in self.calls[since:]]

    def _cuda(self):
        cuda = module("pycuda.driver")
        cuda.Error = CudaError
        cuda.init = lambda: self.call("init")
        cuda.get_driver_version = lambda: 13020
        cuda.Device = lambda index: SimpleNamespace(
            name=lambda: self.gpu_name,
            compute_capability=lambda: self.capability,
            retain_primary_context=self._retain_primary_context,
        )
        cuda.Context = SimpleNamespace(pop=lambda: self.call("pop"))
        cuda.Stream = lambda: Stream(self)
        cuda.Event = lambda: Event(self)
        cuda.pagelocked_empty = self._pagelocked_empty
        cuda.mem_alloc = self._mem_alloc
        cuda.memcpy_htod_async = self._copy_in
        cuda.memcpy_dtoh_async = self._copy_out
        return cuda

    def _retain_primary_context(self):
        self.retained += 1
        return SimpleNamespace(
            push=lambda: self.call("push"), detach=lambda: self.calls.append(("detach",))
        )

    def _pagelocked_empty(self, shape, dtype):
        self.call("pagelocked_empty")
        self.live += 1
        return np.asarray(Pinned(self, shape, dtype))

    def _mem_alloc(self, nbytes):
        self.call("mem_alloc", nbytes)
        self.live += 1
        address = 4096 * next(self.numbers)
        self.memory[address] = Memory(self, nbytes, address)
        return self.memory[address]

    def _copy_in(self, target, source, stream):
        self.call("htod", stream.handle)
        flat = source.reshape(-1)

        def copy():
            target.data[: flat.size] = flat

        stream.put(copy)

    def _copy_out(self, target, source, stream):
        self.call("dtoh", stream.handle)

        def copy():
            target.view(np.uint8).reshape(-1)[:] = source.data[: target.nbytes]

        stream.put(copy)

    def _tensorrt(self):
        tensorrt = module("tensorrt")
        tensorrt.__version__ = "10.3.0"
        levels = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
        tensorrt.ILogger = type("ILogger", (), {name: i for i, name in enumerate(levels)})
        tensorrt.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
        tensorrt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(NONE="none")
        tensorrt.Runtime = lambda log: SimpleNamespace(
            deserialize_cuda_engine=lambda data: (
                Engine(self) if self.ask("deserialize_cuda_engine") else None
            )
        )
        return tensorrt

    def graphs(self):
        """`cuda.bindings.runtime`, whose calls return an error and then their results."""
        ok, broken = SimpleNamespace(name="cudaSuccess"), SimpleNamespace(name="cudaErrorUnknown")

        def cudaStreamBeginCapture(stream, mode):  # noqa: N802
            self.capturing = [lambda: None]
            return (ok,) if self.ask("begin_capture", stream) else (broken,)

        def cudaStreamEndCapture(stream):  # noqa: N802
            graph, self.capturing = self.capturing, None
            return (ok, graph) if self.ask("end_capture", stream) else (broken, None)

        def cudaGraphInstantiate(graph, flags):  # noqa: N802
            return (ok, graph) if self.ask("instantiate") else (broken, None)

        def cudaGraphLaunch(graph, stream):  # noqa: N802
            if not self.ask("launch", stream):
                return (broken,)
            for work in graph:
                self.streams[stream].put(work)
            return (ok,)

        def cudaGraphDestroy(graph):  # noqa: N802
            return (ok,) if self.ask("destroy") else (broken,)

        def cudaGraphExecDestroy(graph):  # noqa: N802
            return (ok,) if self.ask("destroy_exec") else (broken,)

        mode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        named = {name: value for name, value in locals().items() if name.startswith("cuda")}
        return SimpleNamespace(
            **named,
            cudaStreamCaptureMode=mode,
            cudaError_t=SimpleNamespace(cudaSuccess=ok),
        )


def module(name):
    """An empty module that can be found as if it were installed."""
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None, origin="a double")
    return made
