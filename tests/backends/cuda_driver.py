"""The real pycuda on a stand-in for NVIDIA's driver, which is compiled from `cuda_driver.c`.

HIPEDGE_PYCUDA names a folder with pycuda, which `build_pycuda.sh` makes on any machine.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
NOT_SUPPORTED = 801
FOREVER = 1 << 40


@dataclass(frozen=True)
class Counts:
    """What the process holds of the GPU, and what it did wrong."""

    references: int = 0  # to the primary context
    depth: int = 0  # contexts on the stacks of all threads
    device_memory: int = 0
    host_memory: int = 0
    streams: int = 0
    events: int = 0
    graphs: int = 0
    executables: int = 0
    faults: int = 0  # memory that was freed while work on it was queued
    spinning_waits: int = 0


class Driver:
    """The loaded stand-in; `modules` are pycuda's, which are not in `sys.modules`."""

    def __init__(self, library, modules):
        self.library, self.modules = library, modules
        library.standin_call.restype = ctypes.c_char_p
        library.standin_call_count.restype = ctypes.c_long
        library.standin_counts.restype = ctypes.POINTER(ctypes.c_long)

    @property
    def cuda(self):
        return self.modules["pycuda.driver"]

    def start(self, name="Test GPU", capability=(8, 9), multiprocessors=46, init=0):
        """Begin anew with a GPU; `init` is what CUDA's initialisation returns."""
        self.library.standin_start(init, name.encode(), *capability, multiprocessors)

    def fail(self, after=0, until=FOREVER):
        """Let all calls fail from the `after`-th from now until the `until`-th."""
        self.library.standin_fail(ctypes.c_long(after), ctypes.c_long(until))

    def fail_use(self, name, use=1):
        """Let the `use`-th call of this name from now fail, counted from 1."""
        self.library.standin_fail_use(name.encode(), ctypes.c_long(use))

    def heal(self):
        self.library.standin_heal()

    def use(self, name):
        """Count a call of TensorRT like one of the driver; return whether it may succeed."""
        # The library keeps the pointer.
        self._names = getattr(self, "_names", {})
        text = self._names.setdefault(name, ctypes.create_string_buffer(name.encode()))
        return not self.library.standin_use(text)

    def call_count(self):
        return self.library.standin_call_count()

    def names(self, since=0):
        """The names of the calls so far, without the version of the interface."""
        calls = (self.library.standin_call(n).decode() for n in range(since, self.call_count()))
        return [call.removesuffix("_v2") for call in calls]

    @property
    def counts(self):
        return Counts(*self.library.standin_counts()[: len(Counts.__dataclass_fields__)])

    @property
    def is_current(self):
        """Whether this thread has a context."""
        return self.library.standin_depth() > 0


def pycuda_folder():
    """The folder with pycuda, or skip."""
    folder = Path(os.environ.get("HIPEDGE_PYCUDA", ""))
    if "HIPEDGE_PYCUDA" not in os.environ or not (folder / "pycuda").is_dir():
        pytest.skip("no pycuda: tests/backends/build_pycuda.sh, and set HIPEDGE_PYCUDA")
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        pytest.skip("no gcc: it compiles the stand-in for the driver")
    return folder


def compile_driver(pycuda, folder):
    """Compile the stand-in into `folder`: pycuda's other calls return that they do not exist."""
    (extension,) = (pycuda / "pycuda").glob("_driver*.so")
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", extension], capture_output=True, text=True, check=True
    )
    needed = set(re.findall(r" U (cu[A-Z]\w*)", symbols.stdout))
    present = set(re.findall(r"^CUresult (cu\w+)", SOURCE.read_text("utf-8"), re.MULTILINE))
    rest = folder / "rest.c"
    rest.write_text(
        "".join(f"int {n}(void) {{ return {NOT_SUPPORTED}; }}\n" for n in sorted(needed - present))
    )
    library = folder / "libcuda.so.1"
    options = ["-O1", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    subprocess.run(["gcc", *options, "-o", library, SOURCE, rest], check=True)
    return library


def load_driver(folder):
    """Compile and load the stand-in and pycuda on it, or skip."""
    pycuda = pycuda_folder()
    if "libcuda.so" in Path("/proc/self/maps").read_text():
        pytest.skip("the driver of a GPU is loaded in this process")
    library = ctypes.CDLL(str(compile_driver(pycuda, folder)))
    before = set(sys.modules)
    sys.path.append(str(pycuda))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("pycuda.driver")
    finally:
        sys.path.remove(str(pycuda))
    new = set(sys.modules) - before
    modules = {n: sys.modules[n] for n in new if n.partition(".")[0] == "pycuda"}
    for name in modules:
        del sys.modules[name]
    return Driver(library, modules)
