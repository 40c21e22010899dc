"""TensorRT's real lean runtime, as far as it goes without a GPU."""

import json
import subprocess
import sys

from tests.backends.cuda_driver import pycuda_folder
from tests.export.bindings import ROOT, bindings_folder, environment_with
from tests.export.test_tensorrt_names import NAMES

RUNTIME_CLASSES = ("ICudaEngine", "IExecutionContext", "ILogger", "Runtime")

LOAD = """
import json, sys
from hipedge.backends.tensorrt.flavours import FLAVOURS, load

names = json.loads(sys.argv[1])
lean = load(FLAVOURS["lean"])
print(json.dumps({
    "version": lean.__version__,
    "libraries": sorted(set(
        line.split("/")[-1].strip() for line in open("/proc/self/maps") if "libnvinfer" in line
    )),
    "missing": [
        f"{owner}.{name}" for owner, members in names.items() for name in members
        if not hasattr(getattr(lean, owner, None), name)
    ],
}))
"""

OPEN = """
import sys
from pathlib import Path
from hipedge.backends.tensorrt.flavours import FLAVOURS, load
from hipedge.backends.tensorrt.gpu import Gpu
from hipedge.backends.tensorrt.runtime import TensorRtBackend
from hipedge.errors import BackendError
from tests.backends.cuda_driver import Counts, load_driver

driver = load_driver(Path(sys.argv[1]))
sys.modules.update(driver.modules)
driver.start()
flavour = FLAVOURS["lean"]
try:
    TensorRtBackend(64, b"no engine", gpu=Gpu.open(), flavour=flavour, module=load(flavour))
except BackendError as error:
    print(error)
assert driver.counts == Counts()
"""


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env=environment_with(bindings_folder("lean")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_of_the_lean_runtime_is_loaded_and_has_every_name():
    found = json.loads(run(LOAD, json.dumps({one: NAMES[one] for one in RUNTIME_CLASSES})))
    assert found["version"].startswith("11.")
    assert found["missing"] == []
    # And nothing of the builder.
    assert any(name.startswith("libnvinfer_lean") for name in found["libraries"])
    assert all("lean" in name or "vc_plugin" in name for name in found["libraries"])


def test_where_cuda_does_not_start_it_is_a_backend_error_and_nothing_is_kept(tmp_path):
    """Any call of the object that TensorRT then returns would be a segmentation fault."""
    pycuda_folder()
    assert "the engine cannot be loaded: the initialisation of TensorRT" in run(OPEN, tmp_path)
