"""The first CUDA GPU through pycuda: its primary context, and the cure where CUDA cannot start."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hipedge.backends.tensorrt.engine_cache import Device
from hipedge.errors import InstallationError

# Fragments of CUDA's error messages at initialisation, and what the user can do about each.
CURES = {
    "libcuda": "install the NVIDIA driver",
    "no CUDA-capable device": "check `nvidia-smi`; a container must be given the GPU",
    "driver version is insufficient": "update the NVIDIA driver: CUDA here is newer",
    "unsupported display driver": "update the NVIDIA driver, or restart after its update",
    "forward compatibility": "update the NVIDIA driver: CUDA here is newer",
    "undefined symbol": (
        "update the NVIDIA driver, or compile pycuda again with the CUDA toolkit of its version"
        " (pip install --no-binary pycuda --no-cache-dir --force-reinstall pycuda)"
    ),
}


@dataclass(frozen=True)
class Gpu:
    """The first GPU: pycuda's `driver` module, the retained primary context, and its properties.

    TensorRT and every other library in this process use the same primary context.
    """

    cuda: Any
    context: Any
    device: Device
    driver_version: str

    @classmethod
    def open(cls) -> Gpu:
        """Retain the primary context of the first GPU; raise `InstallationError` without one."""
        with _first_gpu() as (cuda, gpu):
            version = cuda.get_driver_version()
            driver_version = f"{version // 1000}.{version % 1000 // 10}"
            device = _describe(cuda, gpu)
            return cls(cuda, gpu.retain_primary_context(), device, driver_version)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current for this thread."""
        self.context.push()
        try:
            yield
        finally:
            self._pop()

    def _pop(self) -> None:
        try:
            self.cuda.Context.pop()
        except self.cuda.Error:
            # Takes the context off pycuda's own stack: if that is not empty when its thread ends,
            # pycuda aborts the process.
            self.context.detach()
            raise

    def release(self) -> None:
        """Release the primary context; call this in the thread that opened it.

        pycuda's `detach` makes the context current, and "does not pop the context from stack in any
        circumstances" (CUDA driver API, cuDevicePrimaryCtxRelease). pycuda cannot pop it either,
        once it is released.
        """
        self.context.detach()
        driver = ctypes.CDLL("libcuda.so.1")  # which pycuda has loaded
        current = ctypes.c_void_p()
        driver.cuCtxGetCurrent(ctypes.byref(current))
        if current.value == self.context.handle:
            driver.cuCtxPopCurrent_v2(ctypes.byref(current))


def _cure(error: Exception) -> str:
    for symptom, cure in CURES.items():
        if symptom in str(error):
            return cure
    return "check the NVIDIA driver with `nvidia-smi`"


def first_gpu() -> Device:
    """Return the properties of the first GPU; raise `InstallationError` without one.

    Its primary context is not retained.
    """
    with _first_gpu() as (cuda, gpu):
        return _describe(cuda, gpu)


@contextmanager
def _first_gpu() -> Iterator[tuple[Any, Any]]:
    """Give pycuda's `driver` module, initialised, and its first device.

    Raises `InstallationError`, with the cure, where CUDA fails here or within the block.
    """
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
        yield cuda, cuda.Device(0)
    except cuda.Error as error:
        raise InstallationError(f"CUDA cannot start ({error}): {_cure(error)}") from error


def _describe(cuda: Any, gpu: Any) -> Device:
    return Device(
        gpu.name(),
        tuple(gpu.compute_capability()),
        gpu.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT),
    )
