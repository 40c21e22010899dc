"""What the tests of the TensorRT backend share: a backend on the stand-in, samples, threads."""

import threading

import numpy as np

from hipedge.backends.tensorrt.cuda_graphs import CudaGraphs
from hipedge.backends.tensorrt.flavours import FLAVOURS
from hipedge.backends.tensorrt.gpu import Gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend

GPU_NAME = "Test GPU (8.9, 46 multiprocessors)"


def backend_on(tensorrt, *, graphs=False, flavour="tensorrt", kernels=None):
    return TensorRtBackend(
        tensorrt.size_px,
        b"engine",
        gpu=Gpu.open(),
        flavour=FLAVOURS[flavour],
        module=tensorrt.module,
        graphs=CudaGraphs(tensorrt.graphs()) if graphs else None,
        kernels=kernels,
    )


def samples(count, size_px=64):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 1, size_px, size_px), dtype=np.uint8)


def logits(scores):
    return np.stack([one.logits for one in scores])


def in_thread(work):
    """Return what `work` returns in a thread of its own, which has ended; raise what it raises."""
    result = []

    def run():
        try:
            result.append((work(), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((value, error),) = result
    if error is not None:
        raise error
    return value
