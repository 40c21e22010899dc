"""Which versions of what a run used: stored with its rows, shown by `hipedge doctor`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

import hipedge

# Raised whenever the same file could give other scores: then every file is screened anew, and
# the crops that training keeps are made anew.
PIPELINE_VERSION = 3

CORE = ("imagecodecs", "numpy", "onnxruntime", "pillow", "pydicom", "sqlite-utils")


def package_version(name: str) -> str | None:
    """Return an installed package's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions that can change a result."""
    packages = {name: package_version(name) or "missing" for name in CORE}
    return {
        "hipedge": hipedge.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **packages,
    }
