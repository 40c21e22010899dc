"""Training and scoring HipNet: loss in mixed precision, logits of crops, macro-F1."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hipedge.train.faithfulness import infidelity
from hipedge.train.guidance import guidance_loss
from hipedge.train.loop import Objective, autocast
from hipedge.train.network import HipNet
from hipedge.types import CATEGORIES

SCORING_BATCH = 32


class HipObjective(Objective):
    """A loss of HipNet on crops uint8 (N, 1, S, S), their categories and their masks."""

    network: HipNet


class Classification(HipObjective):
    """The loss of HipNet on crops uint8 (N, 1, S, S) of known categories (N,).

    To the loss of the logits two of the activation maps are added: `guidance` times that of
    evidence outside lesions, where their masks are known, and `faithfulness` times the maps'
    infidelity. The backbone runs in mixed precision where that is faster; pooling and head always
    run in single precision. `pretrained` is the part of the network that is only fine-tuned.
    """

    def __init__(
        self,
        network: HipNet,
        loss: nn.Module,
        guidance: float = 0.0,
        faithfulness: float = 0.0,
        pretrained: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.pretrained = network, loss, pretrained
        self.guidance, self.faithfulness = guidance, faithfulness

    def forward(self, pixels: Tensor, categories: Tensor, masks: Tensor) -> Tensor:
        """Return the loss, a scalar; `masks` are bool (N, 1, S, S), empty where unknown."""
        with mixed_precision(self.network, pixels.device):
            features = self.network.features(pixels)
            logits, maps = self.network.logits_and_maps(features)
            loss: Tensor = self.loss(logits, categories)
            if self.guidance:
                loss = loss + self.guidance * guidance_loss(maps, categories, masks)
            if self.faithfulness:
                loss = loss + self.faithfulness * infidelity(self.network, pixels, features)
        return loss


def mixed_precision(network: HipNet, device: torch.device) -> torch.autocast:
    """Return the precision in which a network is trained and validated on a device."""
    enabled = device.type != "cpu" or network.backbone.mixed_precision_on_cpu
    return torch.autocast(device.type, autocast(device).fast_dtype, enabled=enabled)


@torch.no_grad()
def score_crops(
    network: HipNet, pixels: NDArray[np.uint8], device: torch.device, *, mixed: bool = False
) -> NDArray[np.float32]:
    """Return the logits (N, K) of crops uint8 (N, 1, S, S), in single or in mixed precision."""
    network.eval()
    logits = []
    for start in range(0, len(pixels), SCORING_BATCH):
        batch = np.ascontiguousarray(pixels[start : start + SCORING_BATCH])
        with mixed_precision(network, device) if mixed else nullcontext():
            logits.append(network(torch.from_numpy(batch).to(device))[0].float().cpu())
    return torch.cat(logits).numpy() if logits else np.empty((0, len(CATEGORIES)), np.float32)


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the confusion matrix (K, K): true categories in rows, predicted ones in columns."""
    K = len(CATEGORIES)
    return np.bincount(truth * K + predicted, minlength=K * K).reshape(K, K)


def macro_f1(matrix: NDArray[np.int64]) -> float:
    """Return the mean F1 over the categories present in the truth; one never predicted has 0."""
    correct = np.diag(matrix)
    predicted_and_true = matrix.sum(0) + matrix.sum(1)
    present = matrix.sum(1) > 0
    return float(np.mean(2 * correct[present] / predicted_and_true[present]))
