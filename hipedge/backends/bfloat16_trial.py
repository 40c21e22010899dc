"""Whether a model is to run in bfloat16 on this processor: it must agree with FP32 and be faster.

Without AMX it may be slower: an Intel Xeon with AVX-512 and bfloat16 takes 1.5 times as long. The
trial takes seconds, and depends only on the model, the backend and the processor: it is made once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hipedge.backends.base import Backend, Fingerprint
from hipedge.backends.in_turn import measure_in_turn
from hipedge.backends.parity import Parity, check_parity
from hipedge.files import cache_folder, write_atomically
from hipedge.model import ModelFolder

log = logging.getLogger("hipedge.bfloat16")


@dataclass(frozen=True)
class Bfloat16Trial:
    """The parity of a model in bfloat16, and its CPU time of a hip beside that of FP32."""

    parity: Parity
    fp32_ms: float
    bf16_ms: float

    @property
    def obstacle(self) -> str | None:
        """Why bfloat16 is not used; None where it is."""
        if self.parity.faults:
            return "; ".join(self.parity.faults)
        if not self.bf16_ms < self.fp32_ms:
            return f"it takes {self.bf16_ms:.2f} ms a hip, FP32 {self.fp32_ms:.2f}"
        return None


def try_bfloat16(fp32: Backend, bf16: Backend, model: ModelFolder) -> Bfloat16Trial:
    """Compare both on the model's golden samples. Raises `BackendError` where one fails."""
    batch = model.golden().samples[: bf16.max_batch]
    return Bfloat16Trial(check_parity(bf16, model), *measure_in_turn((fp32, bf16), batch))


def cached_trial(
    fingerprint: Fingerprint, model: ModelFolder, run: Callable[[], Bfloat16Trial]
) -> Bfloat16Trial:
    """Return the trial of a model in the backend of that fingerprint, cached or made by `run`.

    Where the cache cannot be written the trial is repeated each time.
    """
    key = f"{model.model_id} {fingerprint}"
    path = cache_folder() / "bfloat16" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if (cached := _read(path, key)) is not None:
        return cached
    trial = run()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"of": key, **asdict(trial)}).encode())
    except OSError as error:
        log.warning("the trial of bfloat16 is repeated at each start: %s: %s", path, error.strerror)
    return trial


def _read(path: Path, key: str) -> Bfloat16Trial | None:
    try:
        content = json.loads(path.read_bytes())
        if content.pop("of") != key:
            return None
        return Bfloat16Trial(**{**content, "parity": Parity(**content["parity"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or written by another version of hipedge
