"""Every TensorRT name that the code uses, held against the real bindings of each version.

So a removed name, as `BuilderFlag.FP16` in version 11, fails here and not in a clinic.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from hipedge.backends.tensorrt.flavours import FLAVOURS, load
from tests.export.bindings import ROOT, bindings_folder, rtx_libraries, run_with

VERSIONS = ("10.3", "10.16", "11.4")
SOURCES = [
    ROOT / "hipedge/export/engine.py",
    ROOT / "hipedge/export/timing_cache.py",
    *sorted((ROOT / "hipedge/backends/tensorrt").glob("*.py")),
]

# What is used of each class, in every version and flavour.
NAMES = {
    "Builder": (
        *("build_serialized_network", "create_builder_config", "create_network"),
        "create_optimization_profile",
    ),
    "BuilderFlag": ("EXCLUDE_LEAN_RUNTIME", "TF32", "VERSION_COMPATIBLE"),
    "DataType": ("FLOAT", "UINT8"),
    "IBuilderConfig": (
        *("clear_flag", "set_flag"),
        *("add_optimization_profile", "builder_optimization_level", "create_timing_cache"),
        *("get_timing_cache", "progress_monitor", "set_memory_pool_limit", "set_timing_cache"),
    ),
    "ICudaEngine": (*("create_execution_context", "get_tensor_profile_shape", "get_tensor_shape"),),
    "IExecutionContext": (
        *("execute_async_v3", "set_input_shape", "set_optimization_profile_async"),
        "set_tensor_address",
    ),
    "ILogger": ("ERROR", "INFO", "INTERNAL_ERROR", "VERBOSE", "WARNING", "log"),
    "INetworkDefinition": ("get_input", "get_output", "num_inputs", "num_outputs"),
    "IOptimizationProfile": ("set_shape",),
    "IProgressMonitor": ("phase_finish", "phase_start", "step_complete"),
    "ITensor": ("dtype", "name"),
    "ITimingCache": ("serialize",),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "ParserError": ("desc", "node_name", "node_operator"),
    "Runtime": ("deserialize_cuda_engine",),
}

# What only TensorRT for RTX has, and the rows of the table of flavours let through.
RTX_NAMES = {
    "ComputeCapability": ("SM86",),
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
    "IBuilderConfig": ("num_compute_capabilities", "set_compute_capability"),
    "ICudaEngine": ("create_runtime_config",),
    "IRuntimeCache": ("deserialize", "serialize"),
    "DynamicShapesKernelSpecializationStrategy": ("NONE",),
    "IRuntimeConfig": (
        *("create_runtime_cache", "cuda_graph_strategy", "set_runtime_cache"),
        "dynamic_shapes_kernel_specialization_strategy",
    ),
}

MISSING = """
import json, tensorrt
names = json.loads({names!r})
print(json.dumps({{
    "version": tensorrt.__version__,
    "missing": [
        f"{{owner}}.{{name}}" for owner, members in names.items() for name in members
        if not hasattr(getattr(tensorrt, owner, None), name)
    ],
}}))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_there_in_tensorrt(version, tmp_path):
    found = json.loads(run_with(version, MISSING.format(names=json.dumps(NAMES)), tmp_path))
    assert found["version"].startswith(version)
    assert found["missing"] == []


def test_a_name_that_a_version_has_not_is_seen(tmp_path):
    removed = json.dumps({"BuilderFlag": ["FP16", "TF32"]})
    found = json.loads(run_with("11.4", MISSING.format(names=removed), tmp_path))
    assert found["missing"] == ["BuilderFlag.FP16"]


@pytest.fixture(scope="module")
def rtx():
    rtx_libraries()
    return load(FLAVOURS["rtx"])


def test_every_name_is_there_in_tensorrt_for_rtx(rtx):
    missing = [
        f"{owner}.{name}"
        for names in (NAMES, RTX_NAMES)
        for owner, members in names.items()
        for name in members
        if not hasattr(getattr(rtx, owner, None), name)
    ]
    assert missing == []


def attributes_used():
    """Every attribute in the sources, and each `module.Class` and `module.Class.NAME` in full."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                yield ast.unparse(node)


def test_the_tables_hold_every_name_that_the_code_uses(rtx):
    owners = {*NAMES, *RTX_NAMES}
    listed = {*(n for names in NAMES.values() for n in names)}
    listed |= {n for names in RTX_NAMES.values() for n in names}
    used = set(attributes_used())
    of_module = {
        match[1] for one in used if (match := re.match(r"(?:self\._)?module\.([A-Z]\w+)", one))
    }
    assert of_module <= owners
    members = {
        name for owner in owners for name in dir(getattr(rtx, owner)) if not name.startswith("_")
    }
    # These are used of NumPy, of logging and of ctypes alone.
    others = {"itemsize", "shape", "DEBUG", "value"}
    assert {one.rsplit(".")[-1] for one in used} & members - others <= listed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_code_type_checks_against_the_stubs_of_tensorrt(tmp_path):
    stubs, wrong = tmp_path / "stubs", tmp_path / "wrong.py"
    shutil.copytree(bindings_folder("stubs"), stubs)
    repair(stubs / "tensorrt_bindings" / "tensorrt.pyi")
    wrong.write_text("import tensorrt\n\ndef f(b: tensorrt.Builder) -> None:\n    b.no_such()\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", *SOURCES, wrong],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(stubs)},
        capture_output=True,
        text=True,
    )
    # That one is found shows that the stubs were read.
    assert 'wrong.py:4: error: "Builder" has no attribute "no_such"' in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("hipedge")] == []


def repair(stub):
    """Make the published stubs Python: five signatures are not, and one name hides `bool`."""
    text = stub.read_text(encoding="utf-8")
    text = re.sub(r"^bool: .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\bin: list", "in_: list", text)
    text = text.replace("channel_axis: int) ->", "channel_axis: int = ...) ->")
    stub.write_text(text, encoding="utf-8")
