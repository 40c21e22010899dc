"""How the cores are shared between reading and inference: as `hipedge tune` has found."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hipedge.files import cache_folder, write_atomically
from hipedge.machine import processor
from hipedge.model.folder import ModelFolder


@dataclass(frozen=True)
class CpuAllocation:
    """How many processes read, and on how many threads a backend on the CPU computes.

    `threads` is None for every core, and for backends that compute elsewhere.
    """

    workers: int
    threads: int | None = None


def tuned_allocation(model: ModelFolder, backend: str, workers: int | None) -> CpuAllocation:
    """Return the shares that are remembered for this machine, or all cores for each part.

    A site's own number of `workers` wins.
    """
    shares = _read(model, backend) or CpuAllocation(len(os.sched_getaffinity(0)))
    return shares if workers is None else CpuAllocation(workers, shares.threads)


def save_allocation(model: ModelFolder, backend: str, shares: CpuAllocation) -> None:
    """Write shares into the cache. Raises `OSError` where it cannot be written."""
    path = _path(model, backend)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"of": _key(model, backend), **asdict(shares)}).encode())


def _key(model: ModelFolder, backend: str) -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{model.model_id} {backend} {processor()} {cores} cores"


def _path(model: ModelFolder, backend: str) -> Path:
    name = hashlib.sha256(_key(model, backend).encode()).hexdigest()
    return cache_folder() / "tuning" / f"{name}.json"


def _read(model: ModelFolder, backend: str) -> CpuAllocation | None:
    try:
        content = json.loads(_path(model, backend).read_bytes())
        return CpuAllocation(**content) if content.pop("of") == _key(model, backend) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or of another version of hipedge
