"""A double of TensorRT and of CUDA's graph API on the stand-in for the driver.

Its classes and their members have the names that they have in TensorRT. What it enqueues is run by
the stand-in, so that it is ordered with pycuda's copies on the same stream. As TensorRT does, it
needs a current context, even to destroy its objects.
"""

import ctypes
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np

from hipedge.backends.fake import FakeBackend

MAPS = (8, 8, 8)
HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def memory(address, shape, dtype):
    """The array at an address, which is of the host on the stand-in."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), dtype).reshape(shape)


class TensorRt:
    """TensorRT with one engine: its batch sizes, its network, and the shape of its maps."""

    def __init__(self, driver, size_px=64, profile=(1, 4, 8), network=None, maps=MAPS):
        self.driver, self.size_px, self.profile, self.maps = driver, size_px, profile, maps
        self.network = network or FakeBackend(size_px)._infer
        self.faults, self.runtime_config, self.kernels = [], None, b"compiled kernels"
        self.kernels_read, self.settings, self.callbacks, self.lives = [], [], [], 0
        self.module = self._module()

    def use(self, name):
        """Count a call; return whether it succeeds."""
        if not self.driver.is_current:
            self.faults.append(f"{name} without a current context")
        return self.driver.use(name)

    def _module(self):
        tensorrt = ModuleType("tensorrt")
        tensorrt.__spec__ = ModuleSpec("tensorrt", None, origin="a double")
        tensorrt.__version__ = "10.3.0"
        levels = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
        tensorrt.ILogger = type("ILogger", (), {name: i for i, name in enumerate(levels)})
        tensorrt.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
        tensorrt.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(NONE="none")
        tensorrt.Runtime = lambda logger: Runtime(self)
        return tensorrt

    def graphs(self):
        """`cuda.bindings.runtime`, whose calls return an error and then their results."""
        return graph_api(self.driver.library)


class Held:
    """An object of TensorRT, which frees memory of the GPU when it is destroyed."""

    def __init__(self, tensorrt):
        self._tensorrt = tensorrt
        tensorrt.lives += 1

    def __del__(self):
        self._tensorrt.lives -= 1
        if not self._tensorrt.driver.is_current:
            name = type(self).__name__
            self._tensorrt.faults.append(f"{name} destroyed without a current context")


class Runtime(Held):
    def deserialize_cuda_engine(self, data):
        return (
            ICudaEngine(self._tensorrt) if self._tensorrt.use("deserialize_cuda_engine") else None
        )


class ICudaEngine(Held):
    def get_tensor_profile_shape(self, name, index):
        side = self._tensorrt.size_px
        return tuple((n, 1, side, side) for n in self._tensorrt.profile)

    def get_tensor_shape(self, name):
        sizes = {"pixels": (1, *[self._tensorrt.size_px] * 2), "logits": (8,)}
        return (-1, *sizes.get(name, self._tensorrt.maps))

    def create_execution_context(self, *settings):
        self._tensorrt.settings.append(settings)
        went_well = self._tensorrt.use("create_execution_context")
        return IExecutionContext(self._tensorrt) if went_well else None

    def create_runtime_config(self):
        self._tensorrt.runtime_config = IRuntimeConfig(self._tensorrt)
        return self._tensorrt.runtime_config


class IExecutionContext(Held):
    def __init__(self, tensorrt):
        super().__init__(tensorrt)
        self._addresses, self._shape = {}, None

    def set_optimization_profile_async(self, index, handle):
        return self._tensorrt.use("set_optimization_profile_async")

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return self._tensorrt.use("set_tensor_address")

    def set_input_shape(self, name, shape):
        self._shape = shape
        return self._tensorrt.use("set_input_shape")

    def execute_async_v3(self, handle):
        if not self._tensorrt.use("execute_async_v3"):
            return False
        shape, addresses, network = self._shape, dict(self._addresses), self._tensorrt.network

        @HOST_FUNCTION
        def compute(_):
            pixels = memory(addresses["pixels"], shape, np.uint8)
            for name, values in zip(("logits", "maps"), network(pixels), strict=True):
                memory(addresses[name], values.shape, values.dtype)[:] = values

        self._tensorrt.callbacks.append(compute)
        launch = self._tensorrt.driver.library.cuLaunchHostFunc
        return launch(ctypes.c_void_p(handle), compute, None) == 0


class IRuntimeConfig:
    def __init__(self, tensorrt):
        self._tensorrt, self.cuda_graph_strategy = tensorrt, None
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"

    def create_runtime_cache(self):
        return IRuntimeCache(self._tensorrt)

    def set_runtime_cache(self, cache):
        return True


class IRuntimeCache(Held):
    def deserialize(self, data):
        self._tensorrt.kernels_read.append(data)
        return self._tensorrt.use("deserialize")

    def serialize(self):
        return self._tensorrt.kernels if self._tensorrt.use("serialize") else None


def graph_api(library):
    ok, broken = SimpleNamespace(name="cudaSuccess"), SimpleNamespace(name="cudaErrorUnknown")

    def answer(code, *results):
        return (ok, *results) if code == 0 else (broken, *(None for _ in results))

    def handle():
        return ctypes.c_void_p()

    def cudaStreamBeginCapture(stream, mode):  # noqa: N802
        return answer(library.cuStreamBeginCapture_v2(ctypes.c_void_p(stream), mode))

    def cudaStreamEndCapture(stream):  # noqa: N802
        graph = handle()
        return answer(
            library.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph)), graph
        )

    def cudaGraphInstantiate(graph, flags):  # noqa: N802
        executable = handle()
        code = library.cuGraphInstantiateWithFlags(
            ctypes.byref(executable), graph, ctypes.c_ulonglong(flags)
        )
        return answer(code, executable)

    def cudaGraphLaunch(executable, stream):  # noqa: N802
        return answer(library.cuGraphLaunch(executable, ctypes.c_void_p(stream)))

    def cudaGraphDestroy(graph):  # noqa: N802
        return answer(library.cuGraphDestroy(graph))

    def cudaGraphExecDestroy(executable):  # noqa: N802
        return answer(library.cuGraphExecDestroy(executable))

    named = {name: value for name, value in locals().items() if name.startswith("cuda")}
    return SimpleNamespace(
        **named,
        cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        cudaError_t=SimpleNamespace(cudaSuccess=ok),
    )
