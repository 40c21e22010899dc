"""From the networks to `classifier.onnx`, typed half precision, and `locator.onnx`."""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import hipedge
from hipedge.locate.learned import THUMBNAIL_PX

# The opset that torch's exporter writes without conversion. JetPack's TensorRT 10.3 reads opsets to
# 20, Python 3.10's last ONNX Runtime (1.23.2) opsets to 23 and IR versions to 11.
OPSET = 18


def export_classifier(network: nn.Module, path: Path, *, size_px: int) -> None:
    """Write `network` as an ONNX file: uint8 `pixels` (N, 1, S, S) in, `logits` and `maps` out.

    `network` is a `HipNet`: a module with a `backbone` of its own, before pooling and head.
    The backbone is in half precision, GeM and head in single: features are up to 65504 there,
    and their cubes exceed that. Equal networks give equal bytes.
    """
    classifier = copy.deepcopy(network).cpu().eval()
    # In single precision: running variances overflow half precision, or vanish in it.
    backbone = classifier.get_submodule("backbone")
    _fold_batch_norms(backbone)
    backbone.half()
    _export(classifier, path, size_px=size_px, outputs=("logits", "maps"))


def export_locator(network: nn.Module, path: Path) -> None:
    """Write the locator's network as an ONNX file, in single precision: it runs on CPUs alone.

    uint8 `pixels` (N, 1, 256, 256) in; out are `heat`, `present`, `turns` and `log_distance`.
    """
    locator = copy.deepcopy(network).cpu().eval()
    _fold_batch_norms(locator)
    _export(
        locator,
        path,
        size_px=THUMBNAIL_PX,
        outputs=("heat", "present", "turns", "log_distance"),
    )


def _export(network: nn.Module, path: Path, *, size_px: int, outputs: tuple[str, ...]) -> None:
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
    assert program is not None  # it is, where `dynamo` is set
    model = program.model_proto
    _strip_traces(model)
    model.producer_name, model.producer_version = "hipedge", hipedge.__version__
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, in all submodules."""
    name_before, convolution = "", None
    for name, child in list(module.named_children()):
        if isinstance(convolution, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
            setattr(module, name_before, fuse_conv_bn_eval(convolution, child))
            # timm's layers of normalisation bring their activation with them.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_batch_norms(child)
        name_before, convolution = name, child


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata, which holds source lines and paths of this machine."""
    graph = model.graph
    parts = [*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info]
    for part in (model, graph, *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
