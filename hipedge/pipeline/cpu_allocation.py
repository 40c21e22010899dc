"""The allocation of CPU cores to preprocessing and inference, as measured by `hipedge tune`."""

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
    """The number of preprocessing workers, and of threads of a backend on the CPU.

    `threads` is None for every core, and for backends that do not compute on the CPU.
    """

    workers: int
    threads: int | None = None


def tuned_allocation(model: ModelFolder, backend: str, workers: int | None) -> CpuAllocation:
    """Return the cached allocation for this machine, or by default all cores for each part.

    A number of `workers` that the site has set takes precedence.
    """
    allocation = _read(model, backend) or CpuAllocation(len(os.sched_getaffinity(0)))
    return allocation if workers is None else CpuAllocation(workers, allocation.threads)


def save_allocation(model: ModelFolder, backend: str, allocation: CpuAllocation) -> None:
    """Write an allocation to the cache. Raises `OSError` where it cannot be written."""
    path = _path(model, backend)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"of": _key(model, backend), **asdict(allocation)}
    write_atomically(path, json.dumps(content).encode())


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
        return None  # absent, or written by another version of hipedge
