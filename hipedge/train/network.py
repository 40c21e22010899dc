"""HipNet: the logits of one hip's crop, and activation maps that add up to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hipedge.errors import ConfigError, ModelError
from hipedge.model.card import Card, card_json, parse_card
from hipedge.model.folder import GOLDEN_SAMPLES
from hipedge.train.backbones import make_backbone
from hipedge.types import CATEGORIES

# Bytes are scaled to -2 to 2; the difference is exact in half precision too.
BYTE_CENTRE = 127.5
BYTE_SCALE = 63.75

GEM_POWER = 3.0
# Powers of features from 1e-3 to 1e3 stay normal numbers in single precision up to p = 12.
GEM_FLOOR = 1e-3

# The gain of each residual block of an untrained network. At full gain, random blocks amplify any
# difference between two inputs, rounding errors included, far more than trained ones.
BRANCH_GAIN = 0.25

# What reading another kind of file as a checkpoint may raise.
MALFORMED = (
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
)

# A batch bounds the memory of scoring; the scores do not depend on it.
SCORING_BATCH = 16


class GeneralizedMean(nn.Module):
    """Generalized-mean (GeM) pooling: Radenović, Tolias and Chum, 2018, arXiv:1711.02512, eq. 3.

    A channel's value is (mean of f^p over positions)^(1/p): p = 1 is the mean, p → ∞ the maximum.
    """

    def __init__(self, p: float, *, learned: bool) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p), requires_grad=learned)

    def forward(self, features: Tensor) -> Tensor:
        """Distribute each channel's pooled value over the positions.

        (N, C, h, w) -> (N, C, h, w), whose sum over (h, w) is the pooled value (N, C): a position
        gets the share that its f^p has in the sum of f^p over all positions.
        """
        powers = features.clamp(min=GEM_FLOOR).pow(self.p)
        mean = powers.mean((2, 3), keepdim=True)
        return powers * mean.pow(1 / self.p - 1) / (features.shape[2] * features.shape[3])


class HipNet(nn.Module):
    """A backbone, generalized-mean pooling and a linear head.

    `backbone` is a name in `hipedge.train.backbones.BACKBONES`; `size_px` is the side of the crops
    for which the network is built, from which follows the backbone's output stride.
    """

    def __init__(self, backbone: str = "resnet50", *, size_px: int = 256) -> None:
        super().__init__()
        self.backbone_name = backbone
        self.backbone = make_backbone(backbone, size_px)
        self.pool = GeneralizedMean(GEM_POWER, learned=True)
        # Of whole channels, as of a vector of pooled features.
        self.dropout = nn.Dropout2d(self.backbone.dropout)
        self.head = nn.Conv2d(self.backbone.num_features, len(CATEGORIES), 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(len(CATEGORIES)))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and activation maps: uint8 (N, 1, S, S) -> (N, K), (N, K, h, w)."""
        return self.logits_and_maps(self.features(pixels))

    def features(self, pixels: Tensor) -> Tensor:
        """Return the backbone's features: uint8 (N, 1, S, S) -> (N, C, h, w)."""
        dtype = next(self.backbone.parameters()).dtype
        found: Tensor = self.backbone((pixels.to(dtype) - BYTE_CENTRE) / BYTE_SCALE)
        return found

    def logits_and_maps(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and activation maps (N, K, h, w) of features (N, C, h, w).

        The head is linear, so it may come before the sum over positions: a logit is the sum of
        its map plus a bias. Pooling and head run in single precision whatever the backbone's.
        """
        with torch.autocast(features.device.type, enabled=False):
            maps = self.head(self.dropout(self.pool(features.float())))
        return maps.sum((2, 3)) + self.bias, maps


@torch.no_grad()
def score(
    network: HipNet, samples: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the logits (N, K) and maps (N, K, h, w) of samples uint8 (N, 1, S, S)."""
    network.eval()
    starts = range(0, len(samples), SCORING_BATCH)
    batches = [network(torch.from_numpy(samples[i : i + SCORING_BATCH])) for i in starts]
    logits, maps = zip(*batches, strict=True)
    return torch.cat(logits).numpy(), torch.cat(maps).numpy()


@torch.no_grad()
def untrained_network(seed: int, samples: NDArray[np.uint8], backbone: str = "resnet50") -> HipNet:
    """Return a network with random weights whose logits vary as much as a trained one's.

    Batch normalisation takes its statistics from a part of `samples`, uint8 (N, 1, S, S), and
    each logit is standardised over all of them, so that rounding errors are of the size that they
    have in a trained network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HipNet(backbone, size_px=samples.shape[-1])
    for name, parameter in network.backbone.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, BRANCH_GAIN)
    _settle_batch_norms(network, samples[:: max(1, len(samples) // SCORING_BATCH)])
    spread, mean = torch.std_mean(torch.from_numpy(score(network, samples)[0]), 0)
    network.head.weight /= spread[:, None, None, None]
    network.bias.copy_(-mean / spread)
    return network


def _settle_batch_norms(network: HipNet, samples: NDArray[np.uint8]) -> None:
    """Set the running statistics of each batch normalisation to those of `samples`."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(torch.from_numpy(samples))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The result of a training, from which a model folder is made.

    On disk it is a dict written by `torch.save`, without pickled classes: `backbone`, its name;
    the network's `state_dict`; `card`, as JSON with no hashes in `files`; `golden_samples`, uint8
    (64, 1, S, S).
    """

    network: HipNet
    card: Card
    golden_samples: NDArray[np.uint8]

    def save(self, path: Path) -> None:
        """Write the checkpoint to `path`."""
        content = {
            "backbone": self.network.backbone_name,
            "state_dict": self.network.state_dict(),
            "card": card_json(self.card).decode(),
            "golden_samples": torch.from_numpy(self.golden_samples),
        }
        torch.save(content, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint without running code from it.

        Raises `ModelError` for another file, and for a checkpoint of hipedge 0.1, whose network
        differs.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if "backbone" not in content and {"settings", "state_dict", "card"} <= set(content):
                raise ModelError(
                    f"{path} was written by hipedge 0.1, whose network had no choice of backbone:"
                    " train again, or keep the model folder made from it, which still works"
                )
            card = parse_card(content["card"].encode(), f"the card in {path}")
            network = HipNet(content["backbone"], size_px=card.input.size_px)
            network.load_state_dict(content["state_dict"])
            golden_samples = content["golden_samples"].numpy()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
        except ConfigError as error:
            raise ModelError(f"{path}: {error}") from error
        except MALFORMED as error:
            raise ModelError(
                f"{path} is not a checkpoint of hipedge: give one that `hipedge train` wrote"
            ) from error
        size_px = card.input.size_px
        expected = (GOLDEN_SAMPLES, 1, size_px, size_px)
        if golden_samples.dtype != np.uint8 or golden_samples.shape != expected:
            raise ModelError(
                f"the golden samples in {path} are {golden_samples.dtype} {golden_samples.shape},"
                f" not uint8 {expected}: train again"
            )
        return cls(network, card, golden_samples)
