"""The trial of a quantized classifier in one runtime on this processor: the gate, and the times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge import backends
from hipedge.backends import Backend
from hipedge.backends.in_turn import measure_in_turn
from hipedge.backends.int8_cache import Trial
from hipedge.export.int8_gate import Scored, judge
from hipedge.model import ModelFolder

BATCH = 8


@dataclass(frozen=True, eq=False)
class Labelled:
    """Hips of known category: samples uint8 (N, 1, S, S), categories (N,) and patients.

    A category is an index into `CATEGORIES`.
    """

    samples: NDArray[np.uint8]
    truth: NDArray[np.int64]
    patients: Sequence[str]


def try_int8(name: str, model: ModelFolder, int8: Path, labelled: Labelled) -> Trial:
    """Compare a backend's scores and CPU times of both networks, with one thread.

    Raises `BackendError` where the backend cannot run one of them.
    """
    golden = model.golden()
    with (
        backends.open_backend(name, model, threads=1, quantized=False) as reference,
        backends.open_int8(name, model, int8, threads=1) as quantized,
    ):
        both = reference, quantized
        verdict = judge(
            (_score(reference, golden.samples), _score(quantized, golden.samples)),
            (_score(reference, labelled.samples), _score(quantized, labelled.samples)),
            labelled.truth,
            labelled.patients,
            card=model.card,
            expected=golden,
        )
        times_ms = measure_in_turn(both, golden.samples[:BATCH])
        fingerprints = [str(backend.fingerprint) for backend in both]
    report = {"fingerprints": fingerprints, **asdict(verdict)}
    return Trial(verdict.faults, *times_ms, report=report)


def _score(backend: Backend, samples: NDArray[np.uint8]) -> Scored:
    scores = [
        scores
        for start in range(0, len(samples), BATCH)
        for scores in backend.infer(np.ascontiguousarray(samples[start : start + BATCH]))
    ]
    return np.stack([s.logits for s in scores]), np.stack([s.maps for s in scores])
