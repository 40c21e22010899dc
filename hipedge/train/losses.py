"""Class-balanced focal loss: rare categories weigh more, well-classified hips less."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

BETA = 0.9999
GAMMA = 2.0


def class_balanced_weights(counts: Sequence[int], beta: float = BETA) -> Tensor:
    """Return a weight for each category (K,), from its number of samples.

    Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 2 and 4:
    the effective number of n samples is E = (1 - β^n)/(1 - β), a weight is 1/E, and the weights
    sum to K. A category without samples has no weight and is not counted in K.
    """
    n = torch.tensor(counts, dtype=torch.float64)
    effective = (1 - beta**n) / (1 - beta)
    weights = torch.where(n > 0, 1 / effective, 0.0)
    return (weights * ((n > 0).sum() / weights.sum())).float()


class FocalLoss(nn.Module):
    """Focal loss over exclusive categories, with a weight for each.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5, with the softmax in place
    of the sigmoid: the mean over samples of -w (1 - p)^γ log p, where p is the probability of the
    sample's category and w that category's weight. With γ = 0 it is cross-entropy.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, gamma: float = GAMMA) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, categories: Tensor) -> Tensor:
        """Return the loss of logits (N, K) for categories (N,): a scalar, in single precision."""
        log_p = functional.log_softmax(logits.float(), 1)
        log_p = log_p.gather(1, categories[:, None]).squeeze(1)  # (N,)
        focus = (1 - log_p.exp()) ** self.gamma
        return -(self.weights[categories] * focus * log_p).mean()
