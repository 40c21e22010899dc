"""An engine for the stand-in of the driver, in processes that load that as they would the driver.

It knows the golden scores of the model that HOST_MODEL names, where
`benchmarks.gpu_acceptance.torch_engine` computes the network on a GPU.
"""

import ctypes
import os
from pathlib import Path

from hipedge.model import open_model
from tests.backends.cuda_driver import Driver
from tests.backends.golden_backend import GoldenBackend
from tests.backends.tensorrt_double import ICudaEngine, TensorRt

__version__ = "host"

GOLDEN = open_model(Path(os.environ["HOST_MODEL"])).golden()
DOUBLE = TensorRt(
    Driver(ctypes.CDLL("libcuda.so.1"), {}),
    size_px=GOLDEN.samples.shape[-1],
    profile=(1, 8, 32),
    network=GoldenBackend(GOLDEN)._infer,
    maps=GOLDEN.maps.shape[1:],
)
ILogger = DOUBLE.module.ILogger


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, data):
        return ICudaEngine(DOUBLE)
