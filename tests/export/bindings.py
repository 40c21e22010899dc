"""Test scaffolding: TensorRT's own bindings, on the libraries of TensorRT for RTX as stand-ins.

HIPEDGE_TENSORRT_BINDINGS names a folder with one for each version (`10.3`, `10.16`, `11.4`) and one
with the lean runtime (`lean`), into which `pip install --no-deps --target` put the wheels. Never
part of the product: with 10.x the binary interface differs, so that names can be read and nothing
else.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = {"libnvinfer": "libtensorrt_rtx", "libnvonnxparser": "libtensorrt_onnxparser_rtx"}
NO_PLUGINS = "int initLibNvInferPlugins(void *logger, const char *name) { return 1; }\n"


def rtx_libraries():
    """The folder of the RTX libraries, or skip."""
    spec = find_spec("tensorrt_rtx_libs")
    if spec is None:
        pytest.skip("TensorRT for RTX is not installed: pip install 'hipedge[rtx]'")
    return Path(spec.submodule_search_locations[0])


def bindings_folder(version):
    """The folder with the bindings of a version of TensorRT, or skip."""
    folder = Path(os.environ.get("HIPEDGE_TENSORRT_BINDINGS", "")) / version
    if "HIPEDGE_TENSORRT_BINDINGS" not in os.environ or not folder.is_dir():
        pytest.skip(f"no bindings of TensorRT {version}: set HIPEDGE_TENSORRT_BINDINGS")
    return folder


def environment_with(*folders, **variables):
    """The environment of a process that finds modules in these folders and in this checkout."""
    paths = [*map(str, folders), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": ":".join(paths), **variables}


def run_with(version, script, folder, **environment):
    """Run Python code in a process that has `tensorrt` of a version on the stand-ins."""
    libraries, bindings = rtx_libraries(), bindings_folder(version)
    major = version.split(".")[0]
    for asked_for, stand_in in STAND_INS.items():
        (real,) = libraries.glob(f"{stand_in}.so.*")
        (folder / f"{asked_for}.so.{major}").symlink_to(real)
    source = folder / "plugins.c"
    source.write_text(NO_PLUGINS)
    plugins = folder / f"libnvinfer_plugin.so.{major}"
    compiler = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{plugins.name}", "-o", plugins, source]
    subprocess.run(compiler, check=True)
    # NVIDIA's own package `tensorrt` is these lines and its libraries.
    (folder / "tensorrt.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    libraries = {"LD_LIBRARY_PATH": f"{folder}:{libraries}"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment_with(folder, bindings, **libraries, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
