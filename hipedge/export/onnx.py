"""Export of the networks: `classifier.onnx` in half precision, and `locator.onnx`."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import hipedge
from hipedge.export.precision import set_precisions
from hipedge.locate.learned import THUMBNAIL_PX
from hipedge.locate.session import ABOUT as LOCATOR_ABOUT
from hipedge.model.card import Card

# The opset of torch's exporter, without conversion. JetPack's TensorRT 10.3 reads opsets up to 20;
# ONNX Runtime 1.23.2, the last for Python 3.10, opsets up to 23 and IR versions up to 11.
OPSET = 18


def export_classifier(
    network: nn.Module, path: Path, *, size_px: int, metadata: Mapping[str, str]
) -> None:
    """Write `network` as an ONNX file: uint8 `pixels` (N, 1, S, S) in, `logits` and `maps` out.

    `network` is a `HipNet`: a module with a submodule `backbone`, followed by pooling and head.
    The backbone is in half precision; GeM pooling and head are in single, because the cubes of
    features exceed 65504, the largest number of half precision. `metadata` is written into the
    file. Equal networks give equal bytes.
    """
    classifier = copy.deepcopy(network).cpu().eval()
    # Before `half`: running variances may overflow or underflow half precision.
    backbone = classifier.get_submodule("backbone")
    _fold_batch_norms(backbone)
    _to_half(backbone)
    outputs = ("logits", "maps")
    _export(classifier, path, size_px=size_px, outputs=outputs, metadata=metadata)


def metadata_of(card: Card) -> dict[str, str]:
    """Return what a classifier's file says of itself, for programs that do not read the card.

    Not what another card over the same network may change, such as thresholds.
    """
    geometry = card.input
    return {
        "name": card.name,
        "version": card.version,
        "description": card.status_text,
        "labels": json.dumps([label.value for label in card.labels]),
        "size_px": str(geometry.size_px),
        "crop_mm": f"{geometry.crop_mm:g}",
        "lateral_mm": f"{geometry.lateral_mm:g}",
        "distal_mm": f"{geometry.distal_mm:g}",
    }


class _Half(nn.Module):
    """Convert to half precision: the last single-precision layer's output."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.half()


def _to_half(backbone: nn.Module) -> None:
    """Convert a backbone to half precision, but for the layers that it names."""
    names: tuple[str, ...] = getattr(backbone, "single_precision", ())
    kept = {name: copy.deepcopy(backbone.get_submodule(name)) for name in names}
    backbone.half()
    for name, layer in kept.items():
        is_last = name == names[-1]
        backbone.set_submodule(name, nn.Sequential(layer, _Half()) if is_last else layer)


def export_locator(network: nn.Module, path: Path, *, about: str = "") -> None:
    """Write the locator as an ONNX file in single precision: it runs only on CPUs.

    Input is uint8 `pixels` (N, 1, 256, 256); outputs are `heat`, `present`, `turns`,
    `log_distance` and `hip`. `about` says what it was trained on; the file's metadata hold it.
    """
    locator = copy.deepcopy(network).cpu().eval()
    _fold_batch_norms(locator)
    _export(
        locator,
        path,
        size_px=THUMBNAIL_PX,
        outputs=("heat", "present", "turns", "log_distance", "hip"),
        metadata={LOCATOR_ABOUT: about} if about else {},
    )


def _export(
    network: nn.Module,
    path: Path,
    *,
    size_px: int,
    outputs: tuple[str, ...],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, size_px, size_px, dtype=torch.uint8),),
        dynamo=True,
        dynamic_shapes=({0: "N"},),
        input_names=["pixels"],
        output_names=list(outputs),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # `dynamo` is set
    model = program.model_proto
    _strip_traces(model)
    set_precisions(model)
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = "hipedge", hipedge.__version__
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, recursively."""
    previous, convolution = "", None
    for name, child in list(module.named_children()):
        if isinstance(convolution, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            setattr(module, previous, fuse_conv_bn_eval(convolution, child))
            # The normalisation layers of timm include their activation.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_batch_norms(child)
        previous, convolution = name, child


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata: it holds source lines and paths of this machine."""
    graph = model.graph
    annotated = [*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info]
    for part in (model, graph, *annotated):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
