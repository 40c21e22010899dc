"""Operating points: named sets of thresholds, one for each category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hipedge.model.card import Card
from hipedge.rules.flags import flag_margins
from hipedge.types import Category, FlagCriterion


@dataclass(frozen=True)
class OperatingPoint:
    """A named set of thresholds: a hip is flagged for each category whose score reaches its own.

    Categories without a threshold never flag, nor does hardware unless the site enables it.
    """

    name: str
    thresholds: Mapping[Category, float]
    criterion: FlagCriterion = FlagCriterion.PROBABILITY

    def margins(self, probabilities: NDArray[np.float64], *, hardware: bool) -> NDArray[np.float64]:
        """Return the margin of each category over its threshold, (..., K) -> (..., K)."""
        return flag_margins(probabilities, self.thresholds, self.criterion, flag_hardware=hardware)

    def flags(self, probabilities: NDArray[np.float64], *, hardware: bool) -> NDArray[np.bool_]:
        """Return which hips get any flag, from probabilities (..., K) to (...)."""
        return np.asarray((self.margins(probabilities, hardware=hardware) >= 0).any(axis=-1))


def operating_points(card: Card) -> tuple[OperatingPoint, ...]:
    """Return the operating points of a model card, in the order of the card."""
    return tuple(
        OperatingPoint(name, thresholds, card.flag_criterion)
        for name, thresholds in card.operating_points.items()
    )
