"""The gate of INT8: what quantization changes on golden samples and on labelled hips.

Closeness of scores is not enough to accept a quantized network by, nor is it needed: decisions are
compared. The limits are on the interval of a difference, so that a small labelled set proves little
and is refused, rather than the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.model import Golden
from hipedge.model.card import Card
from hipedge.rules.flags import softmax
from hipedge.rules.operating_points import operating_points
from hipedge.types import ABNORMAL, CATEGORIES, Priority

Floats = NDArray[np.float64]
Scored = tuple[NDArray[np.float32], NDArray[np.float32]]

# The largest difference of macro-F1 and of a sensitivity, anywhere in its 95 % interval.
MARGIN = 0.005
# Fewer hips of a category, or fewer patients in all, prove nothing: an interval without a single
# change among them has no width.
FEWEST_HIPS = 30
# An urgent flag may be lost where its score exceeds the threshold by no more than this.
URGENT_MARGIN = 0.02
# The largest difference between a logit and the sum of its heat map plus the bias.
MAP_TOLERANCE = 1e-3
REPLICATES = 2000
TAILS = (0.025, 0.975)
K = len(CATEGORIES)


@dataclass(frozen=True)
class Difference:
    """A metric of the network in FP32 and in INT8, and the interval of INT8 less FP32.

    `hips` of the category, or of all for macro-F1; NaN where there is none.
    """

    name: str
    hips: int
    fp32: float
    int8: float
    low: float
    high: float

    @property
    def fault(self) -> str | None:
        """What is not proved, or None."""
        if self.hips < FEWEST_HIPS:
            return f"{self.name}: {self.hips} hips are too few, {FEWEST_HIPS} are needed"
        if self.low >= -MARGIN and self.high <= MARGIN:
            return None
        points = f"{100 * self.low:+.1f} to {100 * self.high:+.1f} points"
        return f"{self.name} differs by {points}, not within {100 * MARGIN:g}"


@dataclass(frozen=True)
class Verdict:
    """What INT8 changes. Changes are counted over golden samples and labelled hips together."""

    hips: int
    patients: int
    not_finite: int
    golden_probability_difference: float
    probability_difference: float
    category_changes: int
    flag_changes: int
    urgent_lost: int
    map_difference: float
    differences: tuple[Difference, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """What is out of its limits; empty where INT8 is proved."""
        return tuple(self._faults())

    def _faults(self) -> Iterator[str]:
        if self.not_finite:
            yield f"{self.not_finite} hips with NaN or infinity"
        if self.urgent_lost:
            yield f"{self.urgent_lost} urgent flags lost by more than {URGENT_MARGIN:g}"
        if not self.map_difference <= MAP_TOLERANCE:
            yield f"a heat map's sum differs from its logit by {self.map_difference:.4f}"
        yield from (one.fault for one in self.differences if one.fault)


def judge(
    golden: tuple[Scored, Scored],
    labelled: tuple[Scored, Scored],
    truth: NDArray[np.int64],
    patients: Sequence[str],
    *,
    card: Card,
    expected: Golden,
) -> Verdict:
    """Compare FP32 with INT8: pairs of logits (N, K) and maps (N, K, h, w), FP32 first.

    `golden` are the scores of the golden samples, `labelled` those of hips with the category
    `truth` (N,), an index into `CATEGORIES`, of `patients`. `expected` gives the bias.
    """
    pairs = [golden, labelled]
    before, after = (np.concatenate([pair[i][0] for pair in pairs]) for i in (0, 1))
    finite = np.isfinite(after).all(1) & np.isfinite(
        np.concatenate([pair[1][1].sum((1, 2, 3)) for pair in pairs])
    )
    after = np.where(finite[:, None], after, before)
    first, second = softmax(before, card.temperature), softmax(after, card.temperature)
    margins, margins_after = _margins(first, card), _margins(second, card)
    urgent = [CATEGORIES.index(c) for c in CATEGORIES if c.priority is Priority.URGENT]
    lost = (margins > URGENT_MARGIN) & (margins_after < 0)
    found = len(expected.samples)
    bias = np.median(expected.logits - expected.maps.sum((2, 3)), 0)
    sums = np.concatenate([pair[1][0] - pair[1][1].sum((2, 3)) for pair in pairs])
    changed = np.abs(second - first).max(1)
    return Verdict(
        hips=len(truth),
        patients=len(set(patients)),
        not_finite=int((~finite).sum()),
        golden_probability_difference=float(changed[:found].max()),
        probability_difference=float(changed.max()),
        category_changes=int((first.argmax(1) != second.argmax(1)).sum()),
        flag_changes=int(((margins >= 0) != (margins_after >= 0)).sum()),
        urgent_lost=int(lost[..., urgent].sum()),
        map_difference=float(np.abs(sums - bias)[finite].max(initial=0)),
        differences=tuple(_differences(first[found:], second[found:], truth, patients, card)),
    )


def _margins(probabilities: Floats, card: Card) -> Floats:
    """Return the margins over the thresholds of each operating point, (N, K) -> (D, N, K)."""
    points = operating_points(card)
    return np.stack([point.margins(probabilities, hardware=True) for point in points])


def _differences(
    first: Floats, second: Floats, truth: NDArray[np.int64], patients: Sequence[str], card: Card
) -> Iterator[Difference]:
    """Yield the difference of macro-F1, and of each sensitivity at each operating point."""
    _, unit = np.unique(patients, return_inverse=True)
    n = int(unit.max()) + 1
    rng = np.random.default_rng(0)
    # The first row is the set itself, the others are drawn: how often each patient.
    drawn = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(REPLICATES)])
    weights = np.concatenate([np.ones((1, n)), drawn])
    f1s = [_macro_f1(weights, unit, truth, one.argmax(1)) for one in (first, second)]
    yield _difference("macro-F1", len(truth), *f1s)
    for point in operating_points(card):
        flags = [point.margins(one, hardware=True) >= 0 for one in (first, second)]
        for category in ABNORMAL:
            k = CATEGORIES.index(category)
            of_it = (truth == k).astype(np.float64)
            total = np.asarray(weights @ np.bincount(unit, of_it, n), np.float64)
            shares = [
                _ratio(weights @ np.bincount(unit, of_it * flag[:, k], n), total) for flag in flags
            ]
            name = f"sensitivity for {category.value}, {point.name}"
            yield _difference(name, int(of_it.sum()), *shares)


def _macro_f1(
    weights: Floats, unit: NDArray[np.int64], truth: NDArray[np.int64], answer: NDArray[np.int64]
) -> Floats:
    """Return the mean F1 of the categories that occur, for each row of weights (R, P) -> (R,)."""
    cells = np.zeros((weights.shape[1], K * K))
    np.add.at(cells, (unit, truth * K + answer), 1)
    matrices = (weights @ cells).reshape(-1, K, K)
    right = matrices.diagonal(axis1=1, axis2=2)
    f1 = _ratio(2 * right, matrices.sum(1) + matrices.sum(2))
    return np.asarray(np.nanmean(np.where(matrices.sum(2) > 0, f1, np.nan), axis=1))


def _difference(name: str, hips: int, fp32: Floats, int8: Floats) -> Difference:
    replicates = int8[1:] - fp32[1:]
    defined = replicates[np.isfinite(replicates)]
    low, high = np.quantile(defined, TAILS) if defined.size else (np.nan, np.nan)
    return Difference(name, hips, float(fp32[0]), float(int8[0]), float(low), float(high))


def _ratio(part: Floats, whole: Floats) -> Floats:
    unknown = np.full(whole.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=unknown, where=whole > 0))
