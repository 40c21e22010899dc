"""Phantoms for training, simulated on the fly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from hipedge.errors import InstallationError
from hipedge.types import CATEGORIES, Category, CropGeometry

NEEDS = ("numba", "scipy", "xraylib")


@dataclass(frozen=True)
class DrawPhantom:
    """Simulator of phantom crops at `geometry`, in the style of the training hospitals."""

    geometry: CropGeometry

    def __post_init__(self) -> None:
        if missing := [name for name in NEEDS if find_spec(name) is None]:
            raise InstallationError(
                f"phantoms need {', '.join(missing)}: pip install 'hipedge[phantom]'"
            )

    def __call__(
        self, seed: np.random.SeedSequence
    ) -> tuple[NDArray[np.uint8], int, NDArray[np.bool_]]:
        """Return a crop uint8 (1, S, S), its category as an index, and an empty mask (1, S, S)."""
        from hipedge.phantom import HOSPITALS, crop
        from hipedge.phantom.hospitals import EXTERNAL

        rng = np.random.default_rng(seed)
        inside = [name for name in HOSPITALS if name != EXTERNAL]
        pixels, truth = crop(rng, self.geometry, style=str(rng.choice(inside)))
        return pixels, CATEGORIES.index(truth.category), np.zeros(pixels.shape, bool)

    @property
    def shares(self) -> Mapping[Category, float]:
        """The share of each category."""
        from hipedge.phantom.patient import CATEGORY_SHARES

        return CATEGORY_SHARES
