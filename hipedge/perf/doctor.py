"""The self-check of an installation: packages, backends, model and database, with cures."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Iterator

from hipedge import backends
from hipedge.config import Settings
from hipedge.dicom.decoder_versions import decoder_versions
from hipedge.errors import HipedgeError
from hipedge.model import open_model, require_model
from hipedge.perf.check import Check
from hipedge.perf.peers import check_peers
from hipedge.perf.services import check_services
from hipedge.pipeline.preprocess import open_locator
from hipedge.rules.site_rule import site_rule
from hipedge.store.store import Store
from hipedge.versions import CORE, package_version

# The packages of each extra.
EXTRAS = {
    "train": ("torch", "timm", "onnx", "onnxscript", "matplotlib"),
    "phantom": ("numba", "scipy", "xraylib"),
    "study": ("scipy", "scikit-learn", "statsmodels", "matplotlib"),
    "service": ("watchfiles", "prometheus-client"),
    "clinic": ("pynetdicom", "highdicom", "dicomweb-client"),
    "tensorrt-cu12": ("tensorrt-cu12", "pycuda", "cuda-bindings"),
    "tensorrt-cu13": ("tensorrt-cu13", "pycuda", "cuda-bindings"),
    "lean": ("tensorrt-lean-cu13", "pycuda", "cuda-bindings"),
    "rtx": ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
    "openvino": ("openvino",),
}


def examine(settings: Settings) -> list[Check]:
    """Check everything that screening needs with these settings, the services and the peers.

    The peers are those that the settings name: each is connected to, and nothing else is.
    """
    return [
        *_machine(),
        *_packages(),
        *_decoders(),
        *_backends(),
        *_site(settings),
        *check_services(settings),
        *check_peers(settings),
        *_extras(),
    ]


def _machine() -> Iterator[Check]:
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("machine", "python", sys.version_info >= (3, 10), python)
    cores = len(os.sched_getaffinity(0))
    yield Check("machine", "processor", True, f"{cores} cores for this process")
    yield Check("machine", "sqlite", True, sqlite3.sqlite_version)


def _packages() -> Iterator[Check]:
    for name in CORE:
        version = package_version(name)
        cure = "" if version else "pip install hipedge"
        yield Check("core", name, version is not None, version or "missing", cure)


def _decoders() -> Iterator[Check]:
    for name, version in decoder_versions().items():
        yield Check("decoder", name, True, version)


def _backends() -> Iterator[Check]:
    for name, row in backends.BACKENDS.items():
        if not row.automatic:
            continue
        obstacle = backends.obstacle(name)
        found = "can run" if obstacle is None else "cannot run"
        yield Check("backend", name, None if obstacle else True, found, obstacle or "")
    try:
        name, reason = backends.choose("auto")
        yield Check("backend", "auto", True, f"{name}: {reason}")
    except HipedgeError as error:
        yield Check("backend", "auto", False, "none can run", str(error))


def _site(settings: Settings) -> Iterator[Check]:
    try:
        model = open_model(require_model(settings.model))
        site_rule(model.card, settings)
        yield Check("site", "model", True, f"{model.card.name}: {model.card.status_text}")
        name, reason = backends.choose(settings.backend)
        with backends.open_backend(name, model) as backend:
            found = f"{backend.fingerprint}: {backends.why(name, reason, model)}"
            yield Check("site", "model on backend", True, found)
        if model.locator:
            open_locator(model.locator)
            yield Check("site", "locator", True, "finds the hips")
    except HipedgeError as error:
        yield Check("site", "model", False, "cannot be used", str(error))
    if not settings.db.exists():
        folder = settings.db.absolute().parent
        works = os.access(folder, os.W_OK)
        cure = "" if works else f"make {folder} a writable folder"
        yield Check("site", "database", works, f"{settings.db} will be created", cure)
        return
    try:
        with Store(settings.db):
            yield Check("site", "database", True, f"{settings.db} can be written")
    except HipedgeError as error:
        yield Check("site", "database", False, "cannot be used", str(error))


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        versions = {name: package_version(name) for name in packages}
        absent = [name for name, version in versions.items() if version is None]
        found = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        cure = f"pip install 'hipedge[{extra}]'" if absent else ""
        yield Check("extra", extra, None if absent else True, found, cure, required=False)
