"""Distillation: a network learns what another, the teacher, makes of the same unlabelled hips.

Hinton, Vinyals and Dean, 2015, arXiv:1503.02531, for the logits; Romero et al., 2015 (FitNets),
arXiv:1412.6550, for the features, which say more of a hip than its eight logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hipedge.train.classifier import HipObjective, mixed_precision
from hipedge.train.network import HipNet

# Softens both networks' probabilities, so that the unlikely categories count too.
TEMPERATURE = 2.0


class Distillation(HipObjective):
    """How far a network is from a teacher in features, activation maps and logits.

    The teacher is not trained. Its features are compared with a linear projection of the network's,
    which is learned with it and not kept. Where the two have maps of other sizes, the teacher's are
    brought to the network's. Labels and masks are not looked at.
    """

    def __init__(self, network: HipNet, teacher: HipNet) -> None:
        super().__init__()
        self.network = network
        self.teacher = teacher.requires_grad_(False)
        self.projection = nn.Conv2d(network.backbone.num_features, teacher.backbone.num_features, 1)

    def train(self, mode: bool = True) -> Distillation:
        """Set the training mode of all but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, pixels: Tensor, categories: Tensor, masks: Tensor) -> Tensor:
        """Return the loss on crops uint8 (N, 1, S, S), a scalar."""
        del categories, masks
        with torch.no_grad():
            their_features = self.teacher.features(pixels)
            their_logits, their_maps = self.teacher.logits_and_maps(their_features)
        with mixed_precision(self.network, pixels.device):
            features = self.network.features(pixels)
        logits, maps = self.network.logits_and_maps(features)
        with torch.autocast(features.device.type, enabled=False):
            hints = self.projection(features.float())
        cells = maps.shape[2], maps.shape[3]
        their_features, their_maps = in_cells(their_features.float(), their_maps, cells)
        return (
            relative_error(hints, their_features)
            + relative_error(maps, their_maps)
            + divergence(logits, their_logits)
        )


def in_cells(features: Tensor, maps: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the mean of features (N, C, h, w) and the sum of maps (N, K, h, w) over larger cells.

    So maps still add up to the logits.
    """
    ratio = maps.shape[2] * maps.shape[3] / (cells[0] * cells[1])
    mean = functional.adaptive_avg_pool2d
    return mean(features, cells), mean(maps, cells) * ratio


def relative_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean squared difference over the mean square of `theirs`."""
    return functional.mse_loss(ours, theirs) / theirs.square().mean().clamp(min=1e-12)


def divergence(logits: Tensor, their_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the mean Kullback–Leibler divergence of the softened probabilities of (N, K) logits.

    It is multiplied by the squared temperature, so that its gradients do not depend on it (Hinton
    et al., section 2.1).
    """
    ours = functional.log_softmax(logits / temperature, 1)
    theirs = functional.log_softmax(their_logits / temperature, 1)
    found = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return found * temperature**2
