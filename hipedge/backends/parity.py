"""Numerical parity: whether a backend reproduces the network's FP32 scores on golden samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.backends.base import Backend, Fingerprint
from hipedge.errors import BackendError
from hipedge.model import Golden, ModelFolder
from hipedge.model.card import Card
from hipedge.rules.flags import softmax
from hipedge.rules.operating_points import operating_points
from hipedge.types import ABNORMAL, CATEGORIES

# The largest difference allowed in a calibrated probability. A category or flag must be the same
# wherever its margin in FP32 is larger than this.
PROBABILITY_TOLERANCE = 0.01

# The largest difference allowed in a heat map, as a fraction of the largest value of any golden
# map: five of the 256 colours of its colour map.
MAP_TOLERANCE = 0.02

# The largest difference allowed between the probabilities of a sample in different batches:
# runtimes choose kernels by batch size, and each sums in another order.
BATCH_TOLERANCE = 0.005

# Passes over the golden samples: the batch size, and whether the samples come in reverse order.
PASSES = ((1, False), (8, False), (32, True))

Scored = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """The largest differences between a backend's scores and the FP32 scores, over all passes.

    `map_difference` is a fraction of the largest golden map value. `category_changes` and
    `flag_changes` count decisions that differ although their margin in FP32 exceeds
    `PROBABILITY_TOLERANCE`; of `decisions`, `close_calls` have a smaller margin and are not
    compared.
    """

    samples: int
    not_finite: int
    probability_difference: float
    map_difference: float
    batch_difference: float
    category_changes: int
    flag_changes: int
    close_calls: int
    decisions: int

    @property
    def faults(self) -> tuple[str, ...]:
        """Descriptions of what is out of tolerance; empty where the backend agrees."""
        measured = {
            "a probability": (self.probability_difference, PROBABILITY_TOLERANCE),
            "a heat map, by its range,": (self.map_difference, MAP_TOLERANCE),
            "a probability in another batch": (self.batch_difference, BATCH_TOLERANCE),
        }
        counted = {
            "samples with NaN or infinity": self.not_finite,
            "categories differ": self.category_changes,
            "flags differ": self.flag_changes,
        }
        return (
            *(f"{count} {what}" for what, count in counted.items() if count),
            *(
                f"{what} differs by {value:.4f}, more than {limit:g}"
                for what, (value, limit) in measured.items()
                if not value <= limit  # NaN is a fault too
            ),
        )

    @property
    def agrees(self) -> bool:
        """Whether the backend may be used."""
        return not self.faults


class ParityError(BackendError):
    """A backend was refused because its scores disagree: its fingerprint, and by how much."""

    def __init__(self, message: str, fingerprint: Fingerprint, parity: Parity) -> None:
        super().__init__(message)
        self.fingerprint, self.parity = fingerprint, parity

    def __reduce__(self) -> tuple[type[ParityError], tuple[str, Fingerprint, Parity]]:
        return type(self), (str(self), self.fingerprint, self.parity)


def check_parity(backend: Backend, model: ModelFolder) -> Parity:
    """Score the golden samples with `backend`, in several batch sizes, and compare with FP32.

    Raises `BackendError` where the backend fails, or has heat maps of another size.
    """
    golden = model.golden()
    passes = [_score(backend, golden.samples, *how) for how in PASSES]
    found, expected = passes[0][1].shape, golden.maps.shape
    if found != expected:
        raise BackendError(f"the backend returns maps {found}, and the model's are {expected}")
    return compare(golden, passes, model.card)


def _score(backend: Backend, samples: NDArray[np.uint8], size: int, is_reversed: bool) -> Scored:
    """Return the logits (N, K) and maps (N, K, h, w) of all samples, in the samples' order."""
    order = np.arange(len(samples))[:: -1 if is_reversed else 1]
    scores = [
        scores
        for start in range(0, len(order), size)
        for scores in backend.infer(np.ascontiguousarray(samples[order[start : start + size]]))
    ]
    inverse = np.argsort(order)
    logits, maps = np.stack([s.logits for s in scores]), np.stack([s.maps for s in scores])
    return logits[inverse], maps[inverse]


def compare(golden: Golden, passes: Sequence[Scored], card: Card) -> Parity:
    """Compare the logits and maps of each pass over the golden samples with the FP32 ones."""
    expected = _probabilities(golden.logits, card)
    found = np.stack([_probabilities(logits, card) for logits, _ in passes])  # (passes, N, K)
    maps = np.stack([maps for _, maps in passes])
    finite = np.isfinite(found).all(2) & np.isfinite(maps).all((2, 3, 4))
    categories_clear = _category_margins(expected) > PROBABILITY_TOLERANCE
    flags_clear = np.abs(_flag_margins(expected, card)) > PROBABILITY_TOLERANCE
    categories_differ = found.argmax(-1) != expected.argmax(-1)
    flags_differ = (_flag_margins(found, card) >= 0) != (_flag_margins(expected, card) >= 0)
    return Parity(
        samples=len(expected),
        not_finite=_count(~finite.all(0)),
        probability_difference=float(np.abs(found - expected).max()),
        map_difference=float(np.abs(maps - golden.maps).max() / np.abs(golden.maps).max()),
        batch_difference=float(np.ptp(found, axis=0).max()),
        category_changes=_count((categories_differ & categories_clear).any(0)),
        flag_changes=_count((flags_differ & flags_clear).any(0)),
        close_calls=_count(~categories_clear) + _count(~flags_clear),
        decisions=categories_clear.size + flags_clear.size,
    )


def _probabilities(logits: NDArray[np.float32], card: Card) -> NDArray[np.float64]:
    """Return calibrated probabilities, (N, K) -> (N, K); NaN for a row that is not finite."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    return np.where(finite, softmax(np.where(finite, logits, 0.0), card.temperature), np.nan)


def _category_margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lead of the most probable category over the second, (..., K) -> (...)."""
    ordered = np.sort(probabilities, -1)
    return np.asarray(ordered[..., -1] - ordered[..., -2])


def _flag_margins(probabilities: NDArray[np.float64], card: Card) -> NDArray[np.float64]:
    """Return by how much each score exceeds what it is flagged at, (..., K) -> (..., D).

    D is the abnormal categories at each operating point of the card, and the least confidence.
    """
    columns = [CATEGORIES.index(category) for category in ABNORMAL]
    margins = [
        point.margins(probabilities, hardware=True)[..., columns]
        for point in operating_points(card)
    ]
    confidence = probabilities.max(-1, keepdims=True) - card.min_confidence
    return np.concatenate([*margins, confidence], axis=-1)


def _count(values: NDArray[np.bool_] | np.bool_) -> int:
    return int(np.count_nonzero(values))
