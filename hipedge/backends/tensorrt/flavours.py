"""The flavours of TensorRT: where the Python module of each comes from, and how they differ."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hipedge.errors import ConfigError, InstallationError

log = logging.getLogger("hipedge.tensorrt")


@dataclass(frozen=True)
class Flavour:
    """One flavour of TensorRT. Everything that hipedge does differently for it is in this row.

    `modules` are the possible names of its Python module, of which the first that is installed is
    used. `build_options` are those of `hipedge export engine` for an engine that it runs.
    """

    name: str
    modules: tuple[str, ...]
    install: str
    build_options: str
    builds: bool
    builds_without_gpu: bool  # engines are portable, and built for compute capabilities
    has_timing_cache: bool
    has_runtime_config: bool  # it configures CUDA graphs and the cache of compiled kernels


FLAVOURS: Mapping[str, Flavour] = {
    "tensorrt": Flavour(
        name="tensorrt",
        modules=("tensorrt",),
        install=(
            "pip install 'hipedge[tensorrt-cu13]', for a driver of CUDA 12"
            " 'hipedge[tensorrt-cu12]', or on a Jetson the packages of JetPack"
        ),
        build_options="--flavour tensorrt",
        builds=True,
        builds_without_gpu=False,
        has_timing_cache=True,
        has_runtime_config=False,
    ),
    "rtx": Flavour(
        name="rtx",
        modules=("tensorrt_rtx", "tensorrt_rtx_bindings"),
        install="pip install 'hipedge[rtx]'",
        build_options="--flavour rtx",
        builds=True,
        builds_without_gpu=True,
        has_timing_cache=False,  # its functions have no effect since 1.2
        has_runtime_config=True,
    ),
    # 44 MB, where TensorRT has 2 GB: for engines that TensorRT built on another machine.
    "lean": Flavour(
        name="lean",
        modules=("tensorrt_lean", "tensorrt_lean_bindings"),
        install="pip install 'hipedge[lean]'",
        build_options="--flavour tensorrt --lean",
        builds=False,
        builds_without_gpu=False,
        has_timing_cache=False,
        has_runtime_config=False,
    ),
}


def installed_module(flavour: Flavour) -> str | None:
    """Return the name of the flavour's installed Python module, or None."""
    for name in flavour.modules:
        spec = find_spec(name)
        # A folder that holds only type stubs is found too, as a namespace package.
        if spec is not None and spec.origin is not None:
            return name
    return None


def loadable() -> Iterator[tuple[Flavour, Any]]:
    """Yield each flavour that is installed and can be loaded, in order, with its Python module.

    Raises `InstallationError` where there is none, with the reason why the first installed
    flavour cannot be loaded.
    """
    failures: list[InstallationError] = []
    none_loads = True
    for flavour in FLAVOURS.values():
        if installed_module(flavour) is None:
            continue
        try:
            module = load(flavour)
        except InstallationError as error:
            failures.append(error)
            continue
        none_loads = False
        yield flavour, module
    if none_loads:
        cures = "; or ".join(flavour.install for flavour in FLAVOURS.values())
        missing = InstallationError(f"TensorRT is not installed: {cures}")
        raise next(iter(failures), missing)


def choose_flavour(name: str = "auto") -> Flavour:
    """Return the requested flavour, or for `auto` the first that can be loaded.

    Raises `ConfigError` for an unknown name and `InstallationError` where none is installed.
    """
    if name == "auto":
        flavour, _ = next(loadable())
        return flavour
    if name not in FLAVOURS:
        raise ConfigError(f"flavour {name!r} is unknown: choose auto, {', '.join(FLAVOURS)}")
    flavour = FLAVOURS[name]
    if not installed_module(flavour):
        raise InstallationError(f"TensorRT flavour {name} is not installed: {flavour.install}")
    return flavour


def load(flavour: Flavour) -> Any:
    """Import and return the flavour's Python module.

    Raises `InstallationError` where it is not installed, or its libraries cannot be loaded.
    """
    name = installed_module(flavour)
    if name is None:
        raise InstallationError(
            f"TensorRT flavour {flavour.name} is not installed: {flavour.install}"
        )
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise InstallationError(f"{name} cannot be loaded ({error}): {flavour.install}") from error


def open_log(module: Any) -> Any:
    """Return an `ILogger` that forwards to Python's logging, and keeps a list of its `errors`."""
    levels = {
        module.ILogger.INTERNAL_ERROR: logging.ERROR,
        module.ILogger.ERROR: logging.ERROR,
        module.ILogger.WARNING: logging.WARNING,
        module.ILogger.INFO: logging.INFO,
        module.ILogger.VERBOSE: logging.DEBUG,
    }

    class Log(module.ILogger):  # type: ignore[misc]  # the base is known at run time alone
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            level = levels[severity]
            if level == logging.ERROR:
                self.errors.append(message)
            log.log(level, "%s", message)

    return Log()
