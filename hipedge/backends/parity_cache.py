"""A cache of parity checks, which take seconds and depend only on the model and the backend."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from hipedge.backends.base import Backend
from hipedge.backends.parity import Parity, check_parity
from hipedge.files import cache_folder, write_atomically
from hipedge.model import ModelFolder

log = logging.getLogger("hipedge.parity")


def cached_parity(backend: Backend, model: ModelFolder) -> Parity:
    """Return the parity of `backend` with the FP32 scores, from the cache or measured now.

    The key is the model's ID and the backend's whole fingerprint. Where the cache cannot be
    written the check is repeated each time. Raises `BackendError` where the backend fails.
    """
    key = f"{model.model_id} {backend.fingerprint}"
    path = cache_folder() / "parity" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if (cached := _read(path, key)) is not None:
        return cached
    parity = check_parity(backend, model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"of": key, **asdict(parity)}).encode())
    except OSError as error:
        log.warning("the parity check is repeated at each start: %s: %s", path, error.strerror)
    return parity


def _read(path: Path, key: str) -> Parity | None:
    try:
        content = json.loads(path.read_bytes())
        return Parity(**content) if content.pop("of") == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or written by another version of hipedge
