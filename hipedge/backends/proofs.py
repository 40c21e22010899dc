"""The verdict of a parity check, remembered: it takes seconds and changes only with what ran."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from hipedge.backends.base import Backend
from hipedge.backends.parity import Parity, check
from hipedge.files import cache_folder, write_atomically
from hipedge.model import ModelFolder

log = logging.getLogger("hipedge.parity")


def parity_of(backend: Backend, model: ModelFolder) -> Parity:
    """Return how far `backend` is from the FP32 scores: from the cache, or measured now.

    The cache is keyed by the model and the backend's whole fingerprint. Where it cannot be
    written the check is made each time. Raises `BackendError` where the backend fails.
    """
    what = f"{model.model_id} {backend.fingerprint}"
    path = cache_folder() / "parity" / f"{hashlib.sha256(what.encode()).hexdigest()}.json"
    if (remembered := _read(path, what)) is not None:
        return remembered
    parity = check(backend, model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"of": what, **asdict(parity)}).encode())
    except OSError as error:
        log.warning("the parity check is made at each start: %s: %s", path, error.strerror)
    return parity


def _read(path: Path, what: str) -> Parity | None:
    try:
        content = json.loads(path.read_bytes())
        return Parity(**content) if content.pop("of") == what else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or of another version of hipedge: it is measured again
