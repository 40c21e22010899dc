"""Faithfulness of activation maps: what is hidden has to cost what its cells of the map say.

A map adds up to its logit wherever its evidence lies, since a cell sees far beyond its own pixels.
The term is the infidelity of Yeh et al., 2019, arXiv:1901.09392, for hidden regions: the squared
difference between the evidence in a region and what hiding it takes from the logit (occlusion:
Zeiler and Fergus, 2014, arXiv:1311.2901).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hipedge.train.network import HipNet

# Regions along a side of the crop, of which one is hidden.
REGIONS = 4
# One in so many samples of a batch is looked at again with a region hidden.
EVERY = 2


def infidelity(network: HipNet, pixels: Tensor, features: Tensor) -> Tensor:
    """Return the mean squared difference over samples and categories, a scalar.

    `features` are those of `pixels`, uint8 (N, 1, S, S). Of every second sample a region, drawn at
    random, takes the crop's mean gray. Dropout, which would differ between the two looks, is left
    out.
    """
    pixels, features = pixels[::EVERY], features[::EVERY]
    rows, columns = torch.randint(REGIONS, (2, len(pixels)), device=pixels.device)
    hidden = hide(pixels, rows, columns)
    with torch.autocast(pixels.device.type, enabled=False):
        maps = network.head(network.pool(features.float()))
    features = network.features(hidden)
    with torch.autocast(pixels.device.type, enabled=False):
        left = network.head(network.pool(features.float()))
        lost = (maps - left).sum((2, 3))  # of the logits (N, K)
        evidence = (maps * regions(rows, columns, maps.shape[-1])).sum((2, 3))
        loss: Tensor = (lost - evidence).square().mean()
    return loss


def hide(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return crops uint8 (N, 1, S, S) with regions, by row and column (N,), in their mean gray."""
    gray = pixels.float().mean((1, 2, 3), keepdim=True).round().to(pixels.dtype)
    return torch.where(regions(rows, columns, pixels.shape[-1]), gray, pixels)


def regions(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """Return which positions of a square lie in regions (N,): bool (N, 1, side, side)."""
    region = torch.arange(side, device=rows.device) * REGIONS // side
    down, across = rows[:, None] == region, columns[:, None] == region
    return (down[:, :, None] & across[:, None, :])[:, None]
