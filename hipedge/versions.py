"""Versions of the pipeline and of packages: stored with each run, shown by `hipedge doctor`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

import hipedge

# Incremented whenever the same file could give other scores: then every file is screened again,
# and cached training crops are made again.
PIPELINE_VERSION = 3

CORE = ("imagecodecs", "numpy", "onnxruntime", "pillow", "pydicom", "sqlite-utils")


def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions that can influence a result."""
    packages = {name: package_version(name) or "missing" for name in CORE}
    return {
        "hipedge": hipedge.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **packages,
    }
