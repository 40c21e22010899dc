"""HipNet's part in the loop: its loss in mixed precision, its macro-F1, its scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hipedge.errors import ConfigError
from hipedge.train.loop import Objective, autocast
from hipedge.train.network import HipNet
from hipedge.types import CATEGORIES

# timm's ResNet-50 by the recipe of Wightman et al., 2021, arXiv:2110.00476; Apache-2.0.
IMAGENET_WEIGHTS = "resnet50.a1_in1k"
SCORING_BATCH = 32


class Classification(Objective):
    """The loss of HipNet on crops uint8 (N, 1, S, S) of known categories (N,).

    The backbone runs in mixed precision; pool and head keep to single by themselves.
    """

    network: HipNet

    def __init__(self, network: HipNet, loss: nn.Module) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, pixels: Tensor, categories: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        with autocast(pixels.device):
            logits, _ = self.network(pixels)
        loss: Tensor = self.loss(logits, categories)
        return loss


def imagenet_start(network: HipNet) -> None:
    """Start the backbone from ImageNet weights, downloaded by timm; attention stays random.

    Raises `ConfigError` where they cannot be had, as offline.
    """
    import timm

    try:
        source = timm.create_model(IMAGENET_WEIGHTS, pretrained=True, in_chans=1, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the ImageNet weights {IMAGENET_WEIGHTS} cannot be had ({type(error).__name__})"
        ) from error
    network.backbone.load_state_dict(source.state_dict(), strict=False)


@torch.no_grad()
def score_crops(
    network: nn.Module, pixels: NDArray[np.uint8], device: torch.device, *, mixed: bool = False
) -> NDArray[np.float32]:
    """Return the logits (N, K) of crops uint8 (N, 1, S, S), in single or in mixed precision."""
    network.eval()
    logits = []
    for start in range(0, len(pixels), SCORING_BATCH):
        batch = np.ascontiguousarray(pixels[start : start + SCORING_BATCH])
        with torch.autocast(device.type, autocast(device).fast_dtype, enabled=mixed):
            logits.append(network(torch.from_numpy(batch).to(device))[0].float().cpu())
    return torch.cat(logits).numpy() if logits else np.empty((0, len(CATEGORIES)), np.float32)


def confusion(truth: NDArray[np.int64], answer: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many hips (K, K) of each category (row) were called which (column)."""
    K = len(CATEGORIES)
    return np.bincount(truth * K + answer, minlength=K * K).reshape(K, K)


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """Return the mean F1 over the categories that the truth has; a category never called has 0."""
    right = np.diag(matrix)
    called_and_true = matrix.sum(0) + matrix.sum(1)
    present = matrix.sum(1) > 0
    return float(np.mean(2 * right[present] / called_and_true[present]))
