"""Guidance of activation maps: evidence of a lesion has to lie where the lesion is.

A network that is right for the wrong reasons fails on other images: Ross, Hughes and Doshi-Velez,
2017, arXiv:1703.03717, who penalise input gradients outside an annotated region. Here the maps
themselves are supervised by masks, as the attention maps of Li et al., 2018, arXiv:1802.10171 are,
since HipNet's add up to its logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hipedge.types import CATEGORIES, Category

NORMAL = CATEGORIES.index(Category.NORMAL)
# Evidence in logits, added inside and outside, below which its place does not matter.
FLOOR = 0.05


def guidance_loss(maps: Tensor, categories: Tensor, masks: Tensor) -> Tensor:
    """Return how far evidence lies outside the lesions, a scalar.

    `maps` are activation maps (N, K, h, w) of samples of known `categories` (N,), `masks` the
    pixels of their lesions, bool (N, 1, S, S). The positive part of the map of a sample's category
    is what the picture of a case shows; that of its margin over normal's map is what decides
    against normal. Of each, the loss is -log of the share that lies in cells with a pixel of the
    lesion; it is the mean over samples, and 0 if no sample has a mask.
    """
    marked = masks.flatten(1).any(1)
    if not marked.any():
        return maps.new_zeros(())
    maps, categories = maps[marked], categories[marked]
    cells = functional.adaptive_max_pool2d(masks[marked].to(maps.dtype), maps.shape[2:])[:, 0]
    own = maps[torch.arange(len(maps), device=maps.device), categories]  # (N, h, w)
    loss = maps.new_zeros(())
    for evidence in (own, own - maps[:, NORMAL]):
        positive = functional.relu(evidence)
        inside, total = (positive * cells).sum((1, 2)), positive.sum((1, 2))
        loss = loss - ((inside + FLOOR) / (total + FLOOR)).log().mean() / 2
    return loss
