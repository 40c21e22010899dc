"""Who may import whom, as `docs/architecture.md` says."""

import ast
import re
import subprocess
import sys
from functools import cache
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
    "onnx": ("export/int8.py", "export/onnx.py", "export/precision.py"),
    "onnxruntime": ("onnx_session.py",),
    "openvino": ("backends/openvino.py",),
    "tensorrt": (
        "backends/tensorrt/runtime.py",
        "backends/tensorrt/slot.py",
        "export/engine.py",
        "export/timing_cache.py",
    ),
    "pycuda": ("backends/tensorrt/gpu.py",),
    "pydicom": ("dicom/", "phantom/", "results/", "network/"),
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
    "jinja2": ("study/report/", "web/"),
    "markupsafe": ("study/report/",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
    "argon2": ("web/",),
    "matplotlib": ("study/", "train/", "phantom/"),
    "scipy": ("study/", "phantom/", "train/"),
    "watchfiles": ("watch/events.py",),
    "prometheus_client": ("metrics_server.py", "watch/metrics.py", "archive/metrics.py"),
    "highdicom": ("results/",),
    "pynetdicom": ("network/",),
    "dicomweb_client": ("network/",),
    "ray": ("archive/",),
    "pyarrow": ("archive/",),
    "hipedge.cli": ("cli/", "__main__.py"),
}
# The packages from the bottom up. Imports point down, or stay within a package: modules of the
# root that everybody uses are at the bottom, the command line is at the top.
LAYERS = (
    (
        "errors",
        "types",
        "files",
        "content",
        "versions",
        "interrupts",
        "machine",
        "metrics_server",
        "mounts",
        "http_request",
        "config",
        "csv_input",
        "onnx_session",
        "service_log",
        "telemetry",
        "text",
    ),
    ("imaging", "deploy"),
    ("model", "dicom"),
    ("rules", "locate"),
    ("backends", "store"),
    ("export", "network", "pipeline", "review", "phantom"),
    ("insertion", "results"),
    ("archive", "perf", "watch", "study", "train", "web"),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}


@cache
def imports(path):
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


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


def package_of(module):
    """The package of `hipedge.package.module`, or the module itself where it is in the root."""
    return module.split(".")[1] if "." in module else None


def arrows():
    """Which package imports which, with the modules that do."""
    names = {".".join(("hipedge", *p.relative_to(PACKAGE).with_suffix("").parts)): p
             for p in MODULES}  # fmt: skip
    found = {}
    for name, path in names.items():
        source = package_of(name.removesuffix(".__init__"))
        for imported in imports(path):
            target = package_of(imported) if imported.startswith("hipedge.") else None
            if source and target in RANK and source != target:
                found.setdefault((source, target), set()).add(name)
    return found


def test_every_package_has_its_layer():
    found = {place(path).split("/")[0].removesuffix(".py") for path in MODULES}
    assert found - set(RANK) == {"__init__"}


def test_no_import_points_upwards_or_sideways_so_there_are_no_cycles():
    wrong = {
        (source, target): modules
        for (source, target), modules in arrows().items()
        if RANK[source] < RANK[target] or (RANK[source] == RANK[target] and source not in LAYERS[0])
    }
    assert wrong == {}


def test_the_modules_of_the_root_import_each_other_in_no_circle():
    root = {pair for pair in arrows() if set(pair) <= set(LAYERS[0])}
    while leaves := {s for s, _ in root} | {t for _, t in root}:
        ends = leaves - {source for source, _ in root}
        assert ends, f"a circle within {root}"
        root = {(source, target) for source, target in root if target not in ends}


OPTIONAL = "torch timm onnx onnxscript openvino tensorrt pycuda numba xraylib scipy sklearn statsmodels jinja2 matplotlib watchfiles prometheus_client pynetdicom highdicom dicomweb_client starlette uvicorn argon2 ray pyarrow"  # noqa: E501
NEEDS_AN_EXTRA = (
    "train",
    "phantom",
    "insertion",
    "archive",
    "study",
    "web",
    "export/int8.py",
    "export/onnx.py",
    "export/precision.py",
    "backends/openvino.py",
    "network/scp.py",
    "network/store_scu.py",
    "network/stow.py",
    "results",
)


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
