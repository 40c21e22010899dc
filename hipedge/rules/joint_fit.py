"""Operating points fitted jointly: a promise about the hip, not about each category by itself.

A hip is flagged where any category reaches its threshold. Thresholds that are fitted category by
category each add their own false flags; together they may flag nearly every hip. Here the
thresholds of all categories are searched for together, under a limit on the share of hips without
a finding that get any flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InputError
from hipedge.rules.flags import flag_scores
from hipedge.rules.operating_points import OperatingPoint
from hipedge.types import ABNORMAL, ACUTE_FRACTURES, CATEGORIES, Category, FlagCriterion

CRITERION = FlagCriterion.AGAINST_NORMAL

# `specific`: the largest share of hips without a finding that get any flag.
SPECIFIC_LIMIT = 0.10
# `sensitive`: the share of each acute fracture category's hips that get an urgent flag, and the
# largest share of hips without a finding that may be flagged for it.
SENSITIVITY_AIM = 0.95
SENSITIVE_LIMIT = 0.50

# A threshold for 95 % is a quantile that one case in twenty decides.
FEWEST_OF_A_CATEGORY = 20
# With fewer, the limit of 10 % is decided by less than ten hips.
FEWEST_WITHOUT_FINDING = 100

# The floor of a category that the calibration set cannot calibrate: it is at least as probable as
# normal, and flags at most this share of the hips without a finding.
FLOOR_SCORE = 0.5
FLOOR_RATE = 0.01

Thresholds = dict[Category, float]

# Scores nearer than this to 0 or 1 are taken as this in logits.
SCORE_EPSILON = 1e-6

# How many hips without a finding a category may flag, as shares of the joint limit.
_STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
_MOST_SWEEPS = 20


@dataclass(frozen=True)
class FittedPoint:
    """An operating point and what it does on the hips that it was fitted to.

    `flag_rate` is the share of hips without a finding that get any flag, `film_flag_rate` the
    share of films without a finding that have a flagged hip. `sensitivity` holds for each
    calibrated category the share of its hips that get a flag, an urgent one for acute fractures.
    `reached` is False where the promise cannot be had within its limit.
    """

    point: OperatingPoint
    flag_rate: float
    film_flag_rate: float
    sensitivity: Mapping[Category, float]
    reached: bool


@dataclass(frozen=True)
class JointFit:
    """Both operating points. `floored` are the categories with too few hips to be calibrated."""

    specific: FittedPoint
    sensitive: FittedPoint
    hips_without_finding: int
    floored: tuple[Category, ...]

    @property
    def points(self) -> tuple[FittedPoint, FittedPoint]:
        """The operating points, the more sensitive one first."""
        return self.sensitive, self.specific


def require_enough(truth: NDArray[np.integer]) -> None:
    """Raise `InputError`, with the numbers needed, where a joint limit cannot be fitted."""
    without = int(np.sum(truth == CATEGORIES.index(Category.NORMAL)))
    if without < FEWEST_WITHOUT_FINDING:
        raise InputError(
            f"{without} hips without a finding are too few for a joint flag rate of"
            f" {SPECIFIC_LIMIT:.0%}: at least {FEWEST_WITHOUT_FINDING} are needed"
        )
    if not _calibratable(truth):
        raise InputError(
            f"no category has {FEWEST_OF_A_CATEGORY} hips: label more before calibrating"
        )


def fit_operating_points(
    probabilities: NDArray[np.float64],
    truth: NDArray[np.integer],
    *,
    films: NDArray[np.integer] | None = None,
    min_confidence: float = 0.0,
) -> JointFit:
    """Fit `specific` and `sensitive` to calibrated probabilities (N, K) of known category (N,).

    `specific` finds the most hips, averaged over the categories, while at most `SPECIFIC_LIMIT` of
    the hips without a finding get any flag. `sensitive` gives an urgent flag to `SENSITIVITY_AIM`
    of the hips of each acute fracture category at the lowest joint flag rate that allows it; its
    other thresholds are those of `specific`, so that it never flags less. Where that takes more
    than `SENSITIVE_LIMIT` of the hips without a finding, it is the most sensitive point within the
    limit, and `reached` is False.

    `films` (N,) numbers the film of each hip; without it every hip is a film. Hips under
    `min_confidence` are flagged as uncertain and count. Raises `InputError` as `require_enough`.
    """
    require_enough(truth)
    data = _Calibration(probabilities, truth, min_confidence)
    specific = _fit_specific(data)
    sensitive, reached = _fit_sensitive(data, specific)
    film_of_hip = np.arange(len(truth)) if films is None else films

    def fitted(name: str, thresholds: Thresholds, kept: bool) -> FittedPoint:
        return FittedPoint(
            OperatingPoint(name, thresholds, CRITERION),
            data.flag_rate(thresholds),
            data.film_flag_rate(thresholds, film_of_hip),
            data.sensitivity(thresholds),
            kept,
        )

    return JointFit(
        specific=fitted("specific", specific, data.flag_rate(specific) <= SPECIFIC_LIMIT),
        sensitive=fitted("sensitive", sensitive, reached),
        hips_without_finding=data.n_without,
        floored=tuple(category for category in ABNORMAL if category not in data.calibratable),
    )


def _calibratable(truth: NDArray[np.integer]) -> tuple[Category, ...]:
    counts = np.bincount(truth, minlength=len(CATEGORIES))
    return tuple(c for c in ABNORMAL if counts[CATEGORIES.index(c)] >= FEWEST_OF_A_CATEGORY)


class _Calibration:
    """Scores of the calibration hips, and what thresholds do on them."""

    def __init__(
        self,
        probabilities: NDArray[np.float64],
        truth: NDArray[np.integer],
        min_confidence: float,
    ) -> None:
        self.truth = truth
        self.scores = flag_scores(probabilities, CRITERION)
        self.uncertain = probabilities.max(axis=1) < min_confidence
        self.without = truth == CATEGORIES.index(Category.NORMAL)
        self.n_without = int(self.without.sum())
        self.calibratable = _calibratable(truth)

    def of(self, category: Category) -> NDArray[np.float64]:
        """Return the scores (N,) of one category."""
        return np.asarray(self.scores[:, CATEGORIES.index(category)])

    def threshold_for(self, category: Category, flagged: int) -> float:
        """Return the lowest threshold that flags at most so many hips without a finding."""
        ordered = np.sort(self.of(category)[self.without])[::-1]
        if flagged >= len(ordered):
            return 0.0
        return min(1.0, float(np.nextafter(ordered[flagged], 2)))

    def flagged(self, thresholds: Mapping[Category, float]) -> NDArray[np.bool_]:
        """Return which hips (N,) get any flag, an uncertain one included."""
        found: NDArray[np.bool_] = self.uncertain.copy()
        for category, threshold in thresholds.items():
            found |= self.of(category) >= threshold
        return found

    def flag_rate(self, thresholds: Mapping[Category, float]) -> float:
        """Return the share of hips without a finding that get any flag."""
        return float(self.flagged(thresholds)[self.without].mean())

    def film_flag_rate(
        self, thresholds: Mapping[Category, float], films: NDArray[np.integer]
    ) -> float:
        """Return the share of films without any finding on which a hip gets a flag."""
        _, film = np.unique(films, return_inverse=True)
        n = int(film.max()) + 1
        clean = np.bincount(film, ~self.without, n) == 0
        flagged = np.bincount(film, self.flagged(thresholds), n) > 0
        return float(flagged[clean].mean()) if clean.any() else float("nan")

    def found(self, thresholds: Mapping[Category, float]) -> dict[Category, NDArray[np.bool_]]:
        """Return of each calibratable category which of its hips are found.

        A hip is found by any flag, one of an acute fracture category by an urgent flag.
        """
        flagged = self.flagged(thresholds)
        urgent = np.zeros(len(self.truth), dtype=bool)
        for category in ACUTE_FRACTURES:
            urgent |= self.of(category) >= thresholds[category]
        return {
            category: (urgent if category.is_acute_fracture else flagged)[
                self.truth == CATEGORIES.index(category)
            ]
            for category in self.calibratable
        }

    def sensitivity(self, thresholds: Mapping[Category, float]) -> dict[Category, float]:
        """Return the share of each calibratable category's hips that are found."""
        return {c: float(found.mean()) for c, found in self.found(thresholds).items()}


def _fit_specific(data: _Calibration) -> Thresholds:
    """Search for the thresholds of the highest mean sensitivity under the joint limit.

    Coordinate ascent over how many hips without a finding each category may flag: first the same
    number for all, then single steps and exchanges between two categories for as long as any of
    them is better.
    """
    allowed = int(np.floor(SPECIFIC_LIMIT * data.n_without + 1e-9))
    budgets = sorted({round(step * allowed) for step in _STEPS})
    table = {c: [data.threshold_for(c, budget) for budget in budgets] for c in data.calibratable}
    floors = {
        c: max(FLOOR_SCORE, data.threshold_for(c, int(FLOOR_RATE * data.n_without)))
        for c in ABNORMAL
        if c not in data.calibratable
    }

    def thresholds_at(steps: Sequence[int]) -> Thresholds:
        chosen = {c: table[c][step] for c, step in zip(data.calibratable, steps, strict=True)}
        return {c: chosen[c] if c in chosen else floors[c] for c in ABNORMAL}

    def value(steps: Sequence[int]) -> tuple[float, float]:
        """Return what is maximized: mean sensitivity, then few false flags; -1 beyond the limit."""
        thresholds = thresholds_at(steps)
        rate = data.flag_rate(thresholds)
        if rate * data.n_without > allowed + 1e-9:
            return -1.0, -rate
        return float(np.mean(list(data.sensitivity(thresholds).values()))), -rate

    n = len(data.calibratable)
    equal = [(step,) * n for step in range(len(budgets))]
    best = max(equal, key=value)
    for _ in range(_MOST_SWEEPS):
        candidate = max(_neighbours(best, len(budgets)), key=value)
        if value(candidate) <= value(best):
            break
        best = candidate
    return _centred(data, thresholds_at(best))


def _centred(data: _Calibration, thresholds: Thresholds) -> Thresholds:
    """Raise each threshold to the middle, in logits, of the gap up to the next hip that it flags.

    The search leaves a threshold just above the scores of hips without a finding. Where the model
    separates a category well, that may be a score near 0, which other films reach by chance.
    """
    centred = dict(thresholds)
    for category in data.calibratable:
        own = data.of(category)[data.truth == CATEGORIES.index(category)]
        flagged = own[own >= thresholds[category]]
        if len(flagged):
            middle = (_logit(thresholds[category]) + _logit(float(flagged.min()))) / 2
            centred[category] = max(thresholds[category], float(1 / (1 + np.exp(-middle))))
    return centred


def _logit(score: float) -> float:
    clipped = float(np.clip(score, SCORE_EPSILON, 1 - SCORE_EPSILON))
    return float(np.log(clipped / (1 - clipped)))


def _neighbours(steps: tuple[int, ...], n_steps: int) -> list[tuple[int, ...]]:
    """Return the choices that differ in one category, or in two of which one gives way."""
    found = []
    for i in range(len(steps)):
        for new in range(n_steps):
            single = (*steps[:i], new, *steps[i + 1 :])
            found.append(single)
            if new > steps[i]:
                found += [
                    (*single[:j], lower, *single[j + 1 :])
                    for j in range(len(steps))
                    if j != i
                    for lower in range(steps[j])
                ]
    return found


def _fit_sensitive(data: _Calibration, specific: Thresholds) -> tuple[Thresholds, bool]:
    """Lower the acute fractures' thresholds as little as the aim takes, within the limit."""
    acute = tuple(c for c in ACUTE_FRACTURES if c in data.calibratable)
    aim = SENSITIVITY_AIM
    while True:
        thresholds = _least_flagging(data, specific, acute, aim)
        if data.flag_rate(thresholds) <= SENSITIVE_LIMIT or aim <= 0:
            return thresholds, bool(acute) and aim == SENSITIVITY_AIM
        aim = round(aim - 0.01, 2)


def _least_flagging(
    data: _Calibration, specific: Thresholds, acute: tuple[Category, ...], aim: float
) -> Thresholds:
    """Return the thresholds that find `aim` of each acute category at the lowest flag rate.

    Each category's threshold starts where its own flags suffice, and is then raised as far as the
    flags of the others allow; of all orders in which that can be done the best one is taken.
    """
    start = dict(specific)
    for category in acute:
        own = np.sort(data.of(category)[data.truth == CATEGORIES.index(category)])
        may_miss = int(np.floor((1 - aim) * len(own) + 1e-9))
        reaches = float(own[may_miss]) if may_miss < len(own) else 1.0
        start[category] = min(specific[category], reaches)
    tried = []
    for order in permutations(acute):
        thresholds = dict(start)
        for category in order:
            least = dict.fromkeys(acute, aim)
            _raise_threshold(data, thresholds, category, specific[category], least)
        tried.append(thresholds)
    return min(tried, key=data.flag_rate)


def _raise_threshold(
    data: _Calibration,
    thresholds: Thresholds,
    category: Category,
    highest: float,
    least: Mapping[Category, float],
) -> None:
    """Raise one threshold, up to `highest`, while the sensitivities are not below `least`."""
    candidates = np.unique(np.append(data.of(category), highest))
    candidates = candidates[(candidates >= thresholds[category]) & (candidates <= highest)]
    low, high = 0, len(candidates) - 1  # the first keeps the aim, and raising never finds more
    while low < high:
        middle = (low + high + 1) // 2
        found = data.sensitivity({**thresholds, category: float(candidates[middle])})
        if all(found[c] >= least[c] - 1e-9 for c in least):
            low = middle
        else:
            high = middle - 1
    if len(candidates):
        thresholds[category] = float(candidates[low])
