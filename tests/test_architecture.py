"""Who may import whom, as `docs/architecture.md` says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hipedge
from hipedge import errors

PACKAGE = Path(hipedge.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A package, and the only places that may import it.
OWNERS = {
    "torch": ("train/", "export/onnx.py"),
    "timm": ("train/",),
    "onnx": ("export/onnx.py",),
    "onnxruntime": ("onnx_session.py",),
    "openvino": ("backends/openvino.py",),
    "tensorrt": (
        "backends/tensorrt/runtime.py",
        "backends/tensorrt/slot.py",
        "export/engine.py",
        "export/timing_cache.py",
    ),
    "pycuda": ("backends/tensorrt/gpu.py",),
    "pydicom": ("dicom/", "phantom/"),
    "imagecodecs": ("dicom/", "phantom/"),
    "blake3": ("dicom/",),
    "sqlite_utils": ("store/",),
    "sqlite3": ("store/", "perf/doctor.py", "versions.py"),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "numba": ("phantom/",),
    "xraylib": ("phantom/",),
    "sklearn": ("study/",),
    "statsmodels": ("study/",),
    "matplotlib": ("study/", "train/", "phantom/"),
    "scipy": ("study/", "phantom/", "train/"),
    "watchfiles": ("watch/hints.py",),
    "prometheus_client": ("watch/metrics.py",),
    "hipedge.cli": ("cli/", "__main__.py"),
}
STAGES = ("pipeline.discover", "dicom", "locate", "imaging.prepare", "rules", "store")
# The database keeps decisions current, so it may decide from the logits that it holds.
ALLOWED_BETWEEN_STAGES = {("store", "rules")}


def imports(path):
    """Every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("name", OWNERS)
def test_each_package_is_imported_only_where_it_belongs(name):
    strangers = [
        place(path)
        for path in MODULES
        if not place(path).startswith(OWNERS[name])
        and any(one == name or one.startswith(f"{name}.") for one in imports(path))
    ]
    assert strangers == []


def stage_of(path):
    module = place(path).removesuffix(".py").replace("/", ".")
    return next((s for s in STAGES if module == s or module.startswith(f"{s}.")), None)


def test_stages_do_not_import_one_another():
    found = {
        (stage_of(path), other)
        for path in MODULES
        for other in STAGES
        if stage_of(path) not in (None, other)
        and any(one.startswith(f"hipedge.{other}") for one in imports(path))
    }
    assert found == ALLOWED_BETWEEN_STAGES


OPTIONAL = "torch timm onnx onnxscript openvino tensorrt pycuda numba xraylib scipy sklearn statsmodels matplotlib watchfiles prometheus_client"  # noqa: E501
NEEDS_AN_EXTRA = ("train", "phantom", "study", "export/onnx.py", "backends/openvino.py")


def test_every_runtime_module_is_imported_without_any_extra():
    runtime = [
        ".".join(("hipedge", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in MODULES
        if not place(path).startswith(NEEDS_AN_EXTRA) and path.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {OPTIONAL.split()}: sys.modules[name] = None\n"
        f"for name in {runtime}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_package_is_declared_so_that_the_wheel_has_it():
    project = (PACKAGE.parent / "pyproject.toml").read_text()
    declared = re.search(r"packages = \[(.*?)\]", project, re.DOTALL)
    names = set(re.findall(r'"([\w.]+)"', declared[1]))
    found = {".".join(("hipedge", *path.parent.relative_to(PACKAGE).parts))
             for path in MODULES if path.name == "__init__.py"}  # fmt: skip
    assert names == found


def test_every_code_has_its_row_and_every_row_its_sentence():
    assert set(errors.CODES) == set(errors.Code)
    assert all(info.meaning for info in errors.CODES.values())
    assert errors.State.SCREENED not in {info.state for info in errors.CODES.values()}


def test_every_error_of_ours_has_one_base():
    ours = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(ours) > 5
    assert all(issubclass(error, errors.HipedgeError) for error in ours)
