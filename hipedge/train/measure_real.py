"""What a locator says of real films of one split: turned upright and seen as in screening."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hipedge.locate.heads import Heads
from hipedge.locate.learned import LearnedLocator, LocatorScores
from hipedge.train.locator_network import LocatorNet
from hipedge.train.real_films import RealFilms, without_border

# A head counts as found within this fraction of the film's width.
NEAR_WIDTH = 0.05
# A head within this fraction of the film's longer side from its edge may be found or not.
EDGE = 0.03


@dataclass(frozen=True)
class MeasuredOnReal:
    """Metrics of a locator on real films of one split; NaN where there is no such film.

    `accepted` is the share of films with a hip on which one is found, `accepted_implants` that of
    films with drawn implants, and `refused` the share of films without a hip on which none is.
    `near` is the share of heads found within 5 % of the film's width, `invented` the share of heads
    beyond the film's edge that are found nevertheless, and `turned` the share of films with a hip
    that stay upright.
    """

    accepted: float
    accepted_implants: float
    refused: float
    near: float
    invented: float
    turned: float

    @property
    def score(self) -> float:
        """The validation score: the mean of all that is known."""
        good = (self.accepted, self.accepted_implants, self.refused, self.near, 1 - self.invented)
        return float(np.nanmean([*good, self.turned]))


@torch.no_grad()
def measure_on_real(
    network: LocatorNet, real: RealFilms, split: str, device: torch.device
) -> MeasuredOnReal:
    """Measure a network on the real films of one split."""
    network.eval()

    def score(thumbnail: NDArray[np.uint8]) -> LocatorScores:
        outputs = network(torch.from_numpy(thumbnail[None, None]).to(device))
        heat, present, turns, log_distance, hip = (output[0].cpu().numpy() for output in outputs)
        return LocatorScores(heat, present, turns, float(log_distance), float(hip))

    locator = LearnedLocator(score)
    accepted, refused, turned = list[bool](), list[bool](), list[bool]()
    near, invented = list[bool](), list[bool]()
    for film in real.with_hip(split):
        part = without_border(real.films.thumbnails[film])
        turns, heads = _found(locator, real.films.thumbnails[film][part])
        accepted.append(heads is not None)
        turned.append(turns == 0)
        if heads is not None and not turns:
            corner = part[1].start, part[0].start
            _compare(heads, real.films.heads[film] - corner, part, near, invented)
    for film in real.without_hip(split):
        part = without_border(real.films.thumbnails[film])
        refused.append(_found(locator, real.films.thumbnails[film][part])[1] is None)
    implants = list[bool]()
    for number in real.with_implants(split):
        part = without_border(real.films.thumbnails[real.implants_of[number]])
        implants.append(_found(locator, real.implants[number][part])[1] is not None)
    return MeasuredOnReal(
        *(_share(v) for v in (accepted, implants, refused, near, invented, turned))
    )


def _found(locator: LearnedLocator, film: NDArray[np.uint8]) -> tuple[int, Heads | None]:
    pixels = film.astype(np.uint16)
    turns = locator.quarter_turns(pixels)
    return turns, locator(np.ascontiguousarray(np.rot90(pixels, turns)))


def _compare(
    heads: Heads,
    truth: NDArray[np.floating],
    part: tuple[slice, slice],
    near: list[bool],
    invented: list[bool],
) -> None:
    """Add what was found of each head; one at the film's very edge may be found or not."""
    height, width = (lines.stop - lines.start for lines in part)
    for point, head in zip((heads.image_left, heads.image_right), truth, strict=True):
        inside = min(*head, width - head[0], height - head[1])
        if np.isnan(head[0]):
            invented.append(point is not None)
        elif inside >= EDGE * max(height, width):
            near.append(point is not None and math.dist(point, head) <= NEAR_WIDTH * width)


def _share(values: list[bool]) -> float:
    return float(np.mean(values)) if values else math.nan
