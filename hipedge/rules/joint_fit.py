"""Joint fit of operating points: performance is specified per hip, not per category.

A hip is flagged if any category reaches its threshold. Thresholds that are fitted category by
category each add their own false flags; together they may flag nearly every hip. Here the
thresholds of all categories are optimised together, under a limit on the share of hips without a
finding that get any flag.
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

# Fewest hips to calibrate a category: a threshold for 95 % sensitivity is a quantile that one case
# in twenty determines.
FEWEST_OF_A_CATEGORY = 20
# With fewer hips, the limit of 10 % is determined by fewer than ten of them.
FEWEST_WITHOUT_FINDING = 100

# Threshold floor of a category with too few hips for calibration: the category must be at least as
# probable as normal, and may flag at most this share of the hips without a finding.
FLOOR_SCORE = 0.5
FLOOR_RATE = 0.01

Thresholds = dict[Category, float]

# Scores are clipped to this distance from 0 and 1 before they are converted to logits.
SCORE_EPSILON = 1e-6

# Numbers of hips without a finding that a category may flag, as fractions of the joint limit.
_STEPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
_MOST_SWEEPS = 20


@dataclass(frozen=True)
class FittedPoint:
    """An operating point and its performance on the hips to which it was fitted.

    `flag_rate` is the share of hips without a finding that get any flag, and `film_flag_rate` the
    share of films without a finding that have a flagged hip. `sensitivity` holds for each
    calibrated category the share of its hips that get a flag, which must be urgent for acute
    fractures. `reached` is False if the aim of the operating point cannot be met within its limit.
    """

    point: OperatingPoint
    flag_rate: float
    film_flag_rate: float
    sensitivity: Mapping[Category, float]
    reached: bool


@dataclass(frozen=True)
class JointFit:
    """Both operating points; `floored` are the categories with too few hips for calibration."""

    specific: FittedPoint
    sensitive: FittedPoint
    hips_without_finding: int
    floored: tuple[Category, ...]

    @property
    def points(self) -> tuple[FittedPoint, FittedPoint]:
        """The operating points, the more sensitive one first."""
        return self.sensitive, self.specific


def require_enough(truth: NDArray[np.integer]) -> None:
    """Raise `InputError`, stating the numbers needed, if there are too few hips for a joint fit."""
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

    `specific` maximises the sensitivity averaged over the categories, while at most
    `SPECIFIC_LIMIT` of the hips without a finding get any flag. `sensitive` gives an urgent flag to
    `SENSITIVITY_AIM` of the hips of each acute fracture category at the lowest joint flag rate
    possible; its other thresholds are those of `specific`, so that it never flags fewer hips. If
    this flags more than `SENSITIVE_LIMIT` of the hips without a finding, `sensitive` is the most
    sensitive point within that limit, and `reached` is False.

    `films` (N,) holds the number of each hip's film; without it every hip counts as a separate
    film. Hips below `min_confidence` are flagged as uncertain, which counts as a flag. Raises
    `InputError` as `require_enough` does.
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
    """Scores of the calibration hips, and the performance of thresholds on them."""

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
        """Return the lowest threshold that flags at most `flagged` hips without a finding."""
        ordered = np.sort(self.of(category)[self.without])[::-1]
        if flagged >= len(ordered):
            return 0.0
        return min(1.0, float(np.nextafter(ordered[flagged], 2)))

    def flagged(self, thresholds: Mapping[Category, float]) -> NDArray[np.bool_]:
        """Return which hips (N,) get any flag, including those flagged as uncertain."""
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
        """Return for each calibratable category which of its hips are found.

        A hip is found if it gets any flag; in an acute fracture category the flag must be urgent.
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
    """Search for the thresholds with the highest mean sensitivity under the joint limit.

    The method is coordinate ascent over the number of hips without a finding that each category may
    flag. It starts with the same number for all categories, then changes one category or exchanges
    between two categories as long as this is an improvement.
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
        """Return the objective: mean sensitivity, then few false flags; -1 beyond the limit."""
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
    """Raise each threshold to the middle, in logits, of the gap below the lowest hip it detects.

    The search leaves a threshold just above the scores of hips without a finding. If the model
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
    """Return the step choices that differ in one category, or raise one and lower another."""
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
    """Lower the thresholds of acute fractures no further than the aim needs, within the limit.

    Returns the thresholds, and whether `SENSITIVITY_AIM` is reached.
    """
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

    The threshold of each category starts where its own flags suffice, and is then raised as far as
    the flags of the other categories allow. All orders of the categories are tried, and the best
    result is returned.
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
    """Raise one threshold, up to `highest`, as long as no sensitivity falls below `least`."""
    candidates = np.unique(np.append(data.of(category), highest))
    candidates = candidates[(candidates >= thresholds[category]) & (candidates <= highest)]
    low, high = 0, len(candidates) - 1  # the first meets the aim; sensitivity is monotonic
    while low < high:
        middle = (low + high + 1) // 2
        found = data.sensitivity({**thresholds, category: float(candidates[middle])})
        if all(found[c] >= least[c] - 1e-9 for c in least):
            low = middle
        else:
            high = middle - 1
    if len(candidates):
        thresholds[category] = float(candidates[low])
