"""The first CUDA GPU through pycuda: its primary context, and the cure where CUDA cannot start."""

from __future__ import annotations

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
            return cls(cuda, gpu.retain_primary_context(), _describe(gpu), driver_version)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current for this thread."""
        self.context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def release(self) -> None:
        """Release the primary context."""
        self.context.detach()


def _cure(error: Exception) -> str:
    for symptom, cure in CURES.items():
        if symptom in str(error):
            return cure
    return "check the NVIDIA driver with `nvidia-smi`"


def first_gpu() -> Device:
    """Return the name and capability of the first GPU; raise `InstallationError` without one.

    Its primary context is not retained: pycuda's `detach` would leave it on the stack of contexts.
    """
    with _first_gpu() as (_, gpu):
        return _describe(gpu)


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


def _describe(gpu: Any) -> Device:
    return Device(gpu.name(), tuple(gpu.compute_capability()))
