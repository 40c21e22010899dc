"""CBAM: Woo et al., 2018, arXiv:1807.06521, on timm's layers, with a faster backward pass."""

from __future__ import annotations

import torch
from timm.layers.cbam import ChannelAttn, SpatialAttn
from torch import Tensor, nn


class ChannelAttention(ChannelAttn):
    """A weight for each channel, by an MLP of reduction 16 that the mean and the maximum share."""

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels: (N, C, h, w) -> the same."""
        mean = x.mean((2, 3), keepdim=True)
        maximum = _maximum(x, (2, 3), training=self.training)
        attended: Tensor = x * self.gate(self._mlp(mean) + self._mlp(maximum))
        return attended

    def _mlp(self, pooled: Tensor) -> Tensor:
        weights: Tensor = self.fc2(self.act(self.fc1(pooled)))
        return weights


class SpatialAttention(SpatialAttn):
    """A weight for each position, by a 7×7 convolution over the channels' mean and maximum."""

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the positions: (N, C, h, w) -> the same."""
        pooled = [x.mean(1, keepdim=True), _maximum(x, (1,), training=self.training)]
        attended: Tensor = x * self.gate(self.conv(torch.cat(pooled, 1)))
        return attended


class Cbam(nn.Module):
    """Channel attention, then spatial attention; its weights have the names of timm's."""

    def __init__(
        self,
        channels: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, device=device, dtype=dtype)
        self.spatial = SpatialAttention(device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels, then the positions: (N, C, h, w) -> the same."""
        attended: Tensor = self.spatial(self.channel(x))
        return attended


def _maximum(x: Tensor, dims: tuple[int, ...], *, training: bool) -> Tensor:
    """Return the maximum over neighbouring dimensions, which are kept.

    In training the gradient goes to one maximum, as in max pooling. That of `amax` is distributed
    over all equal maxima, which takes a third of a training step; but `amax` exports to a plain
    ReduceMax.
    """
    if not training:
        return x.amax(dims, keepdim=True)
    maximum = x.flatten(dims[0], dims[-1]).max(dims[0]).values
    for dim in dims:
        maximum = maximum.unsqueeze(dim)
    return maximum
