"""The locator's network: a thumbnail in; heat maps, presence, quarter turns and a ruler out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hipedge.train.network import BYTE_CENTRE, BYTE_SCALE

# Channels at 128, 64, 32, 16 and 8 pixels, of the thumbnail's 256.
CHANNELS = (24, 48, 96, 192, 256)
HEAT_CHANNELS = 64


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution: Howard et al., 2017, arXiv:1704.04861."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class LocatorNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015, arXiv:1505.04597) of depthwise separable convolutions.

    uint8 (N, 1, 256, 256) in. Out come `heat` (N, 2, 64, 64), for each head the logits of its
    place; `present` (N, 2) and `turns` (N, 4), logits; and `log_distance` (N,), the logarithm of
    the heads' distance in thumbnail sides. All as in `hipedge.locate.learned`.
    """

    def __init__(self) -> None:
        super().__init__()
        stem, *rest = CHANNELS
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        self.down = nn.ModuleList(
            nn.Sequential(separable(inputs, outputs, 2), separable(outputs, outputs))
            for inputs, outputs in zip(CHANNELS, rest, strict=False)
        )
        self.across = nn.ModuleList(nn.Conv2d(c, HEAT_CHANNELS, 1) for c in rest)
        self.up = nn.ModuleList(separable(HEAT_CHANNELS, HEAT_CHANNELS) for _ in rest[:-1])
        self.heat = nn.Conv2d(HEAT_CHANNELS, 2, 1)
        # An 8 by 8 picture of what is where: how a film is turned is a matter of layout.
        self.layout = nn.Conv2d(CHANNELS[-1], 16, 1)
        self.whole = nn.Sequential(nn.Linear(16 * 64 + CHANNELS[-1], 64), nn.ReLU())
        self.answers = nn.Linear(64, 2 + 4 + 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return heat, present, turns and log_distance."""
        features = self.stem((pixels.float() - BYTE_CENTRE) / BYTE_SCALE)
        levels = []
        for down in self.down:
            features = down(features)
            levels.append(features)
        whole = torch.cat([self.layout(features).flatten(1), features.mean((2, 3))], 1)
        answers = self.answers(self.whole(whole))
        present, turns, log_distance = answers[:, :2], answers[:, 2:6], answers[:, 6]
        heat = self.across[-1](levels[-1])  # (N, C, 8, 8)
        for across, up, level in zip(
            reversed(self.across[:-1]), reversed(self.up), reversed(levels[:-1]), strict=True
        ):
            heat = up(functional.interpolate(heat, scale_factor=2.0) + across(level))
        return self.heat(heat), present, turns, log_distance
